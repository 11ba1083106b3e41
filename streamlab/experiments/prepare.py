"""From a person's words to runs: text becomes typed values here, once, with every default filled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import plugins
from ..augmentation.pipelines import AugmentConfig
from ..augmentation.protocol import PartOfWhole
from ..config import Budget, ClockConfig, ComputeConfig, StreamConfig, Tree, configure, merged
from ..data.load import data_folder
from ..device import chosen_device
from ..errors import StreamlabError, unknown
from ..nets.optimizer import torch_options
from ..planning import make_plan
from ..plans.episodes import EpisodePlan
from ..plans.stream import StreamPlan
from ..preprocess import PreprocessConfig, resized_size
from ..runs.spec import RunSpec, check_learning, check_strategy, load_strategy, settled_backbone
from ..simulator.pace import Pace, jointly
from ..training import BaseConfig, FirstConfig, OptimizerConfig
from .clock import clocked
from .networks import plain_operations
from .request import SECTIONS, AskedScenario, Request
from .rows import Row, absolute, parse_row, unique_labels

if TYPE_CHECKING:
    from ..data.source import Source
    from ..plans.stream import Plan
    from ..strategy import Strategy


@dataclass(frozen=True)
class Prepared:
    """The runs of one scenario, checked and resolved; their budgets are settled by the grid.

    plans: by seed. classes: strategies that are classes made in memory, by name. notes: what should be known
    before they are run, a sentence each.
    """

    specs: tuple[RunSpec, ...]
    plans: Mapping[int, Plan]
    source: Source
    classes: Mapping[str, type[Strategy]]
    notes: tuple[str, ...] = ()


def prepare(
    request: Request,
    asked: AskedScenario,
    source: Source,
    classes: Sequence[type[Strategy]] = (),
    chosen: Mapping[str, Any] | None = None,
) -> Prepared:
    """One scenario's runs, their sections typed, at no budget yet; nothing is trained and nothing written.

    classes: strategy classes that have no installed name. chosen: settings that tuning chose. Raises
    StreamlabError, in one sentence, for the first thing that is wrong.
    """
    rows = rows_of(request, classes)
    in_memory = {cls.__name__: cls for cls in classes}
    loaded = {row.strategy: in_memory.get(row.strategy) or load_strategy(row.strategy) for row in rows}
    settings = request.settings_of(asked, chosen)
    _check_sections(settings, rows)
    shared: Tree = {
        "stream": configure(StreamConfig, settings.get("stream", {}), "stream"),
        "compute": configure(ComputeConfig, settings.get("compute", {}), "compute"),
        "base": configure(BaseConfig, settings.get("base", {}), "base"),
        "device": chosen_device(request.device),
        "data": str(data_folder(request.data).resolve()),
        "source": source.name,
        "source_digest": source.digest,
        "scenario": asked.name,
        "record": request.record,
    }
    shared["augment"] = configure(AugmentConfig, settings.get("augment", {}), "augment")
    shared["preprocess"] = configure(PreprocessConfig, settings.get("preprocess", {}), "preprocess")
    _check_images(shared["augment"], shared["preprocess"], source.image_shape)
    if source.wholes is not None:
        _check_wholes(source.name, shared["augment"])
    shared["first"] = configure(FirstConfig, settings.get("first", {}), "first")
    configure(OptimizerConfig, settings.get("optimizer", {}), "optimizer")
    seeds = range(request.first_seed, request.first_seed + request.seeds)
    plan_seeds = [request.plan_seed if request.plan_seed is not None else seed for seed in seeds]
    options = settings.get("scenario", {})
    plans = {seed: make_plan(asked.name, source.labels, seed, options) for seed in set(plan_seeds)}
    plans = _clocked(plans, settings, shared, source, request)
    if source.wholes is not None and any(isinstance(p, StreamPlan) and p.transforms for p in plans.values()):
        raise StreamlabError(f"{asked.name} transforms images, and no whole pictures; leave out whole")
    specs = []
    for seed, plan_seed in zip(seeds, plan_seeds, strict=True):
        for row in rows:
            values = _row_values(row, loaded[row.strategy], settings, plans[plan_seed], shared)
            evaluated = _regular(plans[plan_seed], request)
            specs.append(RunSpec(**shared, **values, seed=seed, plan_seed=plan_seed, eval_every=evaluated))
    if shared["first"].milestones and all(spec.optimizer.schedule != "multistep" for spec in specs):
        raise StreamlabError("first: milestones are of the schedule multistep, and no strategy has it")
    notes = source.notes + _notes(rows, loaded)
    return Prepared(tuple(specs), plans, source, in_memory, notes)


def _notes(rows: Sequence[Row], loaded: Mapping[str, type[Strategy]]) -> tuple[str, ...]:
    """What should be known of the rows, a sentence each."""
    found = []
    for row in rows:
        strategy = loaded[row.strategy]
        if strategy.accounting.begins_anew:
            why = strategy.accounting.begins_anew
            found.append(f"{row.label}: {why}; a run of it that is killed begins anew")
        if strategy.needs.transductive:
            found.append(f"{row.label} is transductive: it classifies the queries of an episode together")
    return tuple(found)


def _clocked(
    plans: Mapping[int, Plan],
    settings: Mapping[str, Any],
    shared: Mapping[str, Any],
    source: Source,
    request: Request,
) -> dict[int, Plan]:
    """The plans under the comparison's clock, where it has one."""
    config = configure(ClockConfig, settings.get("clock", {}), "clock")
    plain = 0.0
    if config.operations:
        backbone, classes = settings.get("backbone", {}), len(source.class_names)
        plain = plain_operations(backbone, source.image_shape, classes, shared["preprocess"])
    return {
        seed: clocked(plan, config, shared["stream"], plain, _regular(plan, request))
        for seed, plan in plans.items()
    }


def rows_of(request: Request, classes: Sequence[type[Strategy]] = ()) -> list[Row]:
    """The rows that are asked for; raises StreamlabError where there is none, or two have one label."""
    named = [parse_row(text) for text in request.strategies]
    rows = unique_labels([*named, *(Row(cls.__name__, cls.__name__, {}) for cls in classes)])
    if not rows:
        raise StreamlabError("no strategy is named; give one with --strategy (streamlab list strategies)")
    return rows


def _check_sections(settings: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Raise for a section that is nothing's."""
    known = {*SECTIONS, *(row.label for row in rows), *(row.strategy for row in rows)}
    for name in settings:
        if name not in known and name in plugins.names("strategies"):
            raise StreamlabError(f"{name} has options set, and is no strategy of this run")
        if name not in known:
            raise unknown("section", name, known)
        if not isinstance(settings[name], Mapping):
            raise StreamlabError(f"{name} is {settings[name]!r}, and must be a section of options")


def _check_images(augment: AugmentConfig, preprocess: PreprocessConfig, shape: tuple[int, int, int]) -> None:
    """Refuse views and preprocessing that do not fit the images, or the network that takes both."""
    preprocess.check(shape)
    views, here = augment.check(shape), shape[1:]
    if views != here and not (preprocess.resize or preprocess.crop):
        raise StreamlabError(
            f"augment: it makes {views[0]} x {views[1]} of images of {here[0]} x {here[1]}; say what the "
            f"network takes at evaluations too, as preprocess.resize={views[0]}"
        )
    wanted = preprocess.size(here)
    if (
        views not in (here, wanted)
        and min(
            have - want for have, want in zip(resized_size(views, preprocess.resize), wanted, strict=True)
        )
        < 0
    ):
        raise StreamlabError(
            f"augment: it makes {views[0]} x {views[1]}, and the network takes {wanted[0]} x {wanted[1]} "
            f"(preprocess); make views of that size"
        )


def _check_wholes(name: str, augment: AugmentConfig) -> None:
    """Refuse whole pictures that nothing would cut a part of."""
    if not isinstance(next(iter(augment.steps), None), PartOfWhole):
        raise StreamlabError(
            f"source {name} keeps whole pictures, of which only an augmentation that begins with "
            f"resized-crop or crop cuts its parts; give one, or leave out whole"
        )


def _row_values(
    row: Row, cls: type[Strategy], settings: Mapping[str, Any], plan: Plan, shared: Mapping[str, Any]
) -> dict[str, Any]:
    """What is a row's own in the spec of a run: its options typed, its backbone, its optimizer."""
    given = merged(settings.get(row.strategy, {}), settings.get(row.label, {}), row.options)
    optimizer = merged(settings.get("optimizer", {}), given.pop("optimizer", {}))
    backbone = _backbone(settings.get("backbone", {}), given.pop("backbone", {}))
    options: Any = configure(cls.options_type(), given, absolute(row.strategy))
    if "network" in shared["record"] and cls.accounting.begins_anew:
        raise StreamlabError(
            f"{row.label}: {cls.accounting.begins_anew}, nor kept; leave out --record network"
        )
    check_strategy(cls, options, row.label, plan)
    check_learning(cls, options, row.label, backbone)
    stream: StreamConfig = shared["stream"]
    if plan.kind == "online" and stream.epochs > 1:
        raise StreamlabError(
            f"stream: epochs is {stream.epochs}, and {plan.scenario} is an online stream, which serves each "
            f"sample once; stream.updates_per_batch repeats batches"
        )
    chosen = configure(OptimizerConfig, optimizer or cls.default_optimizer, "optimizer")
    _check_training(row.label, cls, options, chosen, shared, plan)
    is_default = bool(backbone) and backbone == settled_backbone(cls.backbone)
    return {
        "strategy": absolute(row.strategy),
        "label": row.label,
        "ceiling": cls.learns_jointly,
        "budget": Budget(),
        "optimizer": chosen,
        "backbone": {} if is_default else backbone,
        "strategy_options": dataclasses.asdict(options),
        "scenario_options": dict(plan.options),
        "plan_fingerprint": plan.fingerprint,
    }


def _check_training(
    label: str,
    cls: type[Strategy],
    options: Any,
    optimizer: OptimizerConfig,
    shared: Mapping[str, Any],
    plan: Plan,
) -> None:
    """Refuse options that torch's optimizer does not take, and a schedule that the plan has no room for."""
    stream, first = shared["stream"], shared["first"]
    plain = OptimizerConfig(
        optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay, optimizer.nesterov,
        options=optimizer.options,
    )  # fmt: skip
    beside = optimizer != plain or first != FirstConfig() or shared["augment"].steps
    if optimizer.label_smoothing and (cls.base is not None or not cls.smooths_labels):
        raise StreamlabError(
            f"{label} {'trains a base session' if cls.base is not None else 'computes its losses'} without "
            f"label smoothing; leave out optimizer.label_smoothing"
        )
    if cls.needs_with(options).plain_training and beside:
        raise StreamlabError(
            f"{label} trains by a loop of its own, at one rate on images as they lie; leave out augment, "
            f"first, and of optimizer the schedule, clip, restart, backbone_lr and decay_norms"
        )
    if optimizer.name != "sgd" or optimizer.options:
        torch_options(optimizer)
    if first != FirstConfig() and (cls.base is not None or plan.kind == "episodes"):
        raise StreamlabError(f"first: {plan.scenario} trains a base session, by the section base")
    if first.epochs is not None and plan.kind == "online":
        raise StreamlabError(f"first: epochs is {first.epochs}, and {plan.scenario} is an online stream")
    if cls.learns_jointly and isinstance(plan, StreamPlan):
        plan, stream, first = plan.merged(), jointly(options), FirstConfig()
    Pace.of(plan, stream, first, cls.base is not None).check(optimizer, plan, first)


def _backbone(shared: Mapping[str, Any], of_row: Mapping[str, Any]) -> Tree:
    """A row's own options lie over the section's, unless the row names another backbone."""
    other = "name" in of_row and of_row["name"] != shared.get("name", of_row["name"])
    return settled_backbone(dict(of_row) if other else merged(shared, of_row))


def _regular(plan: Plan, request: Request) -> int:
    """How often a run is evaluated: as asked, else by its kind.

    Raises StreamlabError where it is asked for and sessions are all there is: they are, when each ends.
    """
    asked = request.eval_every
    if asked is not None and plan.kind == "sessions" and len(request.scenarios) == 1:
        raise StreamlabError(f"--eval-every is of streams; {plan.scenario} is evaluated when a session ends")
    if asked is not None:
        return asked
    return max(1, len(plan.train) // 10) if isinstance(plan, EpisodePlan) else 1000
