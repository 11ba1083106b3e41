"""One command's runs: strategies x seeds on one scenario and source, in one folder.

`prepare` checks everything that can be checked before training; `Experiment.create` writes the
folders; `run_experiment` runs what is unfinished in them, whoever began it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import plugins
from ..config import Accounting, ComputeConfig, OptimizerConfig, StreamConfig, configure, merged, parse_budget
from ..data.load import data_folder, load_source, several
from ..data.source import Source, share
from ..device import chosen_device
from ..errors import CorruptFile, StreamlabError, unknown
from ..evaluation.record import RECORDABLE
from ..files import locked, write_json
from ..planning import make_plan
from ..plans.episodes import EpisodePlan
from ..plans.stream import Plan
from ..runs.folder import RunFolder
from ..runs.spec import (
    SECTIONS,
    Row,
    RunSpec,
    absolute,
    check_strategy,
    load_strategy,
    parse_row,
    unique_labels,
)
from ..simulator import events
from ..simulator.pool import Job, run_jobs

if TYPE_CHECKING:
    from ..strategy import Strategy


@dataclass(frozen=True)
class Request:
    """What a person asks for; the defaults are the quickstart.

    strategies: names, files (./mine.py) or names with options (er:selection=balanced).
    accounting: what counts against a budget in bytes; count_frozen: whether a backbone that nobody trains
    does. first_seed: seeds count from it.
    eval_every: samples between evaluations (None: 1000; of episodes, a tenth of those trained on).
    settings: a tree of sections (scenario, stream, backbone, optimizer, compute, or a strategy's label).
    workers: None takes as many as there are processors (one on a GPU). record: what is kept
    beside the rest (streamlab.evaluation.record.RECORDABLE).
    """

    scenario: str = "si-blurry"
    source: str = "glyphs-100"
    strategies: tuple[str, ...] = ("finetune", "er", "slda", "joint")
    seeds: int = 3
    plan_seed: int | None = None
    budget: str = "500ex"
    accounting: Accounting = "held"
    count_frozen: bool = True
    first_seed: int = 0
    eval_every: int | None = None
    device: str = "auto"
    data: str | None = None
    workers: int | None = None
    record: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_recipe(path: Path, kind: type = Request) -> dict[str, Any]:
    """A TOML recipe as the fields of a request; sections and strategies' tables become settings.

    kind: the request's dataclass. scenario is a name, or a section with a `name` among its options.
    Raises StreamlabError where the file cannot be read or has an unknown field.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StreamlabError(f"recipe {path} cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise StreamlabError(f"recipe {path} is no TOML: {error}") from None
    fields = {field.name for field in dataclasses.fields(kind)} - {"settings"}
    given: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in content.items():
        if name == "scenario" and name in fields and isinstance(value, Mapping):
            if "name" not in value:
                raise StreamlabError(f"recipe {path.name}: its section [scenario] has no name")
            given["scenario"] = value["name"]
            settings[name] = {option: own for option, own in value.items() if option != "name"}
        elif isinstance(value, Mapping):
            settings[name] = value
        elif name in SECTIONS and name not in fields:
            hint = f"; it takes {name}s = [{value!r}]" if f"{name}s" in fields else ""
            raise StreamlabError(f"recipe {path.name}: {name} is {value!r}, and must be a section{hint}")
        elif name in fields:
            given[name] = value
        else:
            raise unknown(f"field of recipe {path.name}", name, fields | set(SECTIONS))
    checked: Any = configure(kind, given, f"recipe {path.name}")
    return {**{name: getattr(checked, name) for name in given}, "settings": settings}


@dataclass(frozen=True)
class Experiment:
    """A request, checked and resolved: every run's spec and plan, and the source.

    notes: what should be known before it is run, a sentence each.
    """

    specs: tuple[RunSpec, ...]
    plans: Mapping[int, Plan]
    source: Source
    classes: Mapping[str, type[Strategy]]
    notes: tuple[str, ...] = ()

    def create(self, out: Path) -> None:
        """Write experiment.json and every run's folder; raises StreamlabError if `out` has one."""
        if (out / "experiment.json").exists():
            raise StreamlabError(
                f"{out} holds an experiment; resume it (streamlab resume {out}) or name another"
            )
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_json(out / "experiment.json", {"specs": [spec.to_plain() for spec in self.specs]})
            for spec in self.specs:
                own = self.classes.get(spec.strategy)
                RunFolder.create(out / spec.folder, spec, self.plans[spec.plan_seed], own)
        except OSError as error:
            raise StreamlabError(f"cannot write to {out}: {error.strerror}") from None


def prepare(
    request: Request, source: Source | None = None, classes: tuple[type[Strategy], ...] = ()
) -> Experiment:
    """Check a request and resolve it into runs; nothing is trained and nothing written.

    source: one made in memory, in place of a named one. classes: strategy classes that have no
    installed name. Raises StreamlabError, in one sentence, for the first thing that is wrong.
    """
    if request.seeds < 1:
        raise StreamlabError(f"--seeds is {request.seeds}, and must be at least 1")
    if request.eval_every is not None and request.eval_every < 1:
        raise StreamlabError(f"--eval-every is {request.eval_every}, and must be at least 1")
    parse_budget(request.budget)
    for name in request.record:
        if name not in RECORDABLE:
            raise unknown("thing to --record", name, RECORDABLE)
    named = [parse_row(text) for text in request.strategies]
    rows = unique_labels([*named, *(Row(cls.__name__, cls.__name__, {}) for cls in classes)])
    own = {cls.__name__: cls for cls in classes}
    if not rows:
        raise StreamlabError("no strategy is named; give one with --strategy (streamlab list strategies)")
    _check_names(request, [row.strategy for row in rows if row.strategy not in own], source is None)
    loaded = {row.strategy: own.get(row.strategy) or load_strategy(row.strategy) for row in rows}
    settings = request.settings
    known = {*SECTIONS, *(row.label for row in rows), *(row.strategy for row in rows)}
    for name in settings:
        if name not in known and name in plugins.names("strategies"):
            raise StreamlabError(f"{name} has options set, and is no strategy of this run")
        if name not in known:
            raise unknown("section", name, known)
        if not isinstance(settings[name], Mapping):
            raise StreamlabError(f"{name} is {settings[name]!r}, and must be a section of options")
    configure(StreamConfig, settings.get("stream", {}), "stream")
    configure(OptimizerConfig, settings.get("optimizer", {}), "optimizer")
    configure(ComputeConfig, settings.get("compute", {}), "compute")
    device = chosen_device(request.device)

    source = source or load_source(request.source, request.data)
    seeds = range(request.first_seed, request.first_seed + request.seeds)
    plan_seeds = [request.plan_seed if request.plan_seed is not None else seed for seed in seeds]
    options = settings.get("scenario", {})
    plans = {seed: make_plan(request.scenario, source.labels, seed, options) for seed in set(plan_seeds)}
    specs = []
    for seed, plan_seed in zip(seeds, plan_seeds, strict=True):
        for row in rows:
            cls, plan = loaded[row.strategy], plans[plan_seed]
            spec = RunSpec(
                scenario=request.scenario,
                source=source.name,
                strategy=absolute(row.strategy),
                label=row.label,
                seed=seed,
                plan_seed=plan_seed,
                budget="none" if cls.learns_jointly else request.budget,
                accounting=request.accounting,
                count_frozen=request.count_frozen,
                eval_every=request.eval_every or _regular(plan),
                device=device,
                source_digest=source.digest,
                plan_fingerprint=plan.fingerprint,
                ceiling=cls.learns_jointly,
                record=request.record,
                data=str(data_folder(request.data).resolve()),
                scenario_options=options,
                stream=settings.get("stream", {}),
                backbone=settings.get("backbone", {}),
                optimizer=settings.get("optimizer", {}),
                compute=settings.get("compute", {}),
                base=settings.get("base", {}),
                strategy_options=merged(
                    settings.get(row.strategy, {}), settings.get(row.label, {}), row.options
                ),
            )
            check_strategy(cls, spec.own_options(cls), row.label, plan)
            if plan.kind == "online" and spec.stream_config().epochs > 1:
                raise StreamlabError(
                    f"stream: epochs is {spec.stream_config().epochs}, and {request.scenario} is an online "
                    f"stream, which serves each sample once; stream.updates_per_batch repeats batches"
                )
            specs.append(spec.settled(cls, plan.options))
    notes = tuple(
        f"{row.label}: {loaded[row.strategy].begins_anew}; a run of it that is killed begins anew"
        for row in rows
        if loaded[row.strategy].begins_anew
    )
    return Experiment(tuple(specs), plans, source, own, notes)


def _regular(plan: Plan) -> int:
    """How often a run is evaluated unless it is asked otherwise."""
    return max(1, len(plan.train) // 10) if isinstance(plan, EpisodePlan) else 1000


def _check_names(request: Request, strategies: list[str], needs_source: bool) -> None:
    """Raise for unknown names before anything heavy is imported; files get a hint of how they are named."""
    plugins.find("scenarios", request.scenario)
    for source in several(request.source) if needs_source else ():
        head = source.partition(":")[0]
        if head in plugins.names("sources"):
            continue
        for prefix, there in (("folder", Path(head).is_dir()), ("npz", Path(head).suffix == ".npz")):
            if there:
                raise StreamlabError(f"unknown source {head!r}; did you mean '{prefix}:{head}'?")
        plugins.find("sources", head)
    for name in strategies:
        if name.endswith(".py") or plugins.is_of_family(name):
            continue
        if name not in plugins.names("strategies") and Path(f"{name}.py").is_file():
            raise StreamlabError(f"unknown strategy {name!r}; did you mean './{name}.py'?")
        plugins.find("strategies", name)


def read_specs(folder: Path) -> tuple[RunSpec, ...]:
    """The specs of the experiment in this folder; raises StreamlabError."""
    path = folder / "experiment.json"
    if not folder.exists():
        raise StreamlabError(f"{folder} does not exist")
    if (folder / "comparison.json").exists():
        inside = min(folder.glob("*/*/experiment.json"), default=path).parent
        raise StreamlabError(
            f"{folder} is a comparison (streamlab report); its experiments lie in it, as {inside}"
        )
    if not path.exists():
        raise StreamlabError(f"{folder} holds no experiment (there is no {path.name} in it)")
    try:
        return tuple(RunSpec(**plain) for plain in json.loads(path.read_text("utf-8"))["specs"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFile(f"{path} is damaged: {error}") from None


def reopen(folder: Path, source: Source | None = None) -> Experiment:
    """The experiment in a folder, its source and plans made anew and checked against it.

    Raises StreamlabError where the source or a plan is not the one of the runs that are there.
    """
    specs = read_specs(folder)
    first = specs[0]
    source = source or load_source(first.source, first.data)
    if source.digest != first.source_digest:
        raise StreamlabError(f"source {source.name} has changed since the runs in {folder} were made")
    plans = {
        spec.plan_seed: make_plan(spec.scenario, source.labels, spec.plan_seed, spec.scenario_options)
        for spec in {spec.plan_seed: spec for spec in specs}.values()
    }
    for spec in specs:
        if plans[spec.plan_seed].fingerprint != spec.plan_fingerprint:
            raise StreamlabError(f"{spec.folder}: its plan cannot be made again; the scenario has changed")
    return Experiment(specs, plans, source, {})


def run_experiment(
    experiment: Experiment,
    out: Path,
    workers: int | None,
    hear: Callable[[RunSpec, events.Event], None],
    tick: Callable[[], None] = lambda: None,
) -> bool:
    """Run what is unfinished in `out`; returns whether every run is complete then.

    Raises StreamlabError where another command holds the folder.
    """
    with locked(out):
        for spec in experiment.specs:
            own = experiment.classes.get(spec.strategy)
            RunFolder.create(out / spec.folder, spec, experiment.plans[spec.plan_seed], own)
        todo = [spec for spec in experiment.specs if RunFolder(out / spec.folder).result is None]
        shared = share(experiment.source)
        jobs = [Job(out / spec.folder, shared, experiment.classes.get(spec.strategy)) for spec in todo]
        at_once = workers_for(experiment, workers)
        run_jobs(jobs, at_once, lambda number, event: hear(todo[number], event), out / "workers.log", tick)
    log = out / "workers.log"
    if log.exists() and log.stat().st_size == 0:
        log.unlink()
    return all(RunFolder(out / spec.folder).result is not None for spec in experiment.specs)


def workers_for(experiment: Experiment, asked: int | None) -> int:
    """Worker processes that the experiment gets; 0 means this process."""
    if experiment.classes:
        return 0
    if asked is None:
        on_gpu = any(spec.device != "cpu" for spec in experiment.specs)
        return 1 if on_gpu else available_processors()
    return asked


def available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def new_folder(request: Request) -> Path:
    """A fresh folder under ./runs, named by time and scenario."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    return fresh_folder(f"{stamp}_{request.scenario}_{request.source}")


def fresh_folder(name: str) -> Path:
    """A folder under ./runs that is not there yet."""
    base = Path("runs") / name.replace("/", "_").replace(":", "_")
    number, path = 1, base
    while path.exists():
        number, path = number + 1, base.with_name(f"{base.name}-{number}")
    return path


def remove(folder: Path) -> None:
    """Delete an experiment's folder; raises StreamlabError where it holds none or is in use."""
    read_specs(folder)
    with locked(folder):
        shutil.rmtree(folder)
