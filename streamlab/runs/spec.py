"""What is run: one scenario on one source with one strategy and seed, as plain values.

A spec is all that a run folder needs to be run, resumed, or refused for comparison.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import plugins
from ..config import (
    Accounting,
    Budget,
    ComputeConfig,
    OptimizerConfig,
    StreamConfig,
    configure,
    merged,
    parse_budget,
)
from ..errors import StreamlabError
from ..plans.episodes import EpisodePlan

if TYPE_CHECKING:
    from ..base_training import BaseConfig
    from ..plans.stream import Plan, StreamPlan
    from ..strategy import Strategy

_KINDS = {"online": "an online stream", "sessions": "sessions", "episodes": "episodes"}
SECTIONS = ("scenario", "stream", "backbone", "optimizer", "compute", "base")


@dataclass(frozen=True)
class RunSpec:
    """One run. strategy_options may hold the sections `backbone` and `optimizer` for it alone.

    As a person's words are resolved its sections may hold text and leave out defaults; `settled` makes them
    values, all of them, and such a spec is what a run folder keeps: equal runs have equal specs. An empty
    backbone is the strategy's own.
    """

    scenario: str
    source: str
    strategy: str
    label: str
    seed: int
    plan_seed: int
    budget: str
    eval_every: int
    device: str
    source_digest: str
    plan_fingerprint: str
    ceiling: bool = False
    accounting: Accounting = "held"
    count_frozen: bool = True
    record: tuple[str, ...] = ()
    data: str = ""
    scenario_options: Mapping[str, Any] = field(default_factory=dict)
    stream: Mapping[str, Any] = field(default_factory=dict)
    backbone: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    compute: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where the run lies inside its command's folder."""
        safe = "".join(c if c.isalnum() or c in "+-._=" else "_" for c in self.label)
        return f"{safe}/seed-{self.seed}"

    def stream_config(self) -> StreamConfig:
        return configure(StreamConfig, self.stream, "stream")

    def compute_config(self) -> ComputeConfig:
        return configure(ComputeConfig, self.compute, "compute")

    def base_config(self) -> BaseConfig:
        from ..base_training import BaseConfig

        return configure(BaseConfig, self.base, "base")

    def optimizer_config(self, strategy: type[Strategy]) -> OptimizerConfig:
        """The user's optimizer, where any is set; else the strategy's own."""
        given = merged(self.optimizer, self.strategy_options.get("optimizer", {}))
        return configure(OptimizerConfig, given or strategy.default_optimizer, "optimizer")

    def backbone_options(self) -> Mapping[str, Any]:
        """The user's backbone, where any is set; else empty, and the strategy's own applies.

        A row's own options lie over the section's, unless the row names another backbone.
        """
        own = self.strategy_options.get("backbone", {})
        other = "name" in own and own["name"] != self.backbone.get("name", own["name"])
        return dict(own) if other else merged(self.backbone, own)

    def own_options(self, strategy: type[Strategy]) -> Any:
        """The strategy's typed options."""
        own = {k: v for k, v in self.strategy_options.items() if k not in ("backbone", "optimizer")}
        return configure(strategy.options_type(), own, self.strategy)

    def settled(self, strategy: type[Strategy], scenario_options: Mapping[str, Any]) -> RunSpec:
        """The same run with every section as typed values, defaults filled in; raises StreamlabError.

        scenario_options: those of the plan that was made, which are typed already.
        """
        backbone = settled_backbone(self.backbone_options())
        is_default = bool(backbone) and backbone == settled_backbone(strategy.backbone)
        return dataclasses.replace(
            self,
            scenario_options=dict(scenario_options),
            stream=dataclasses.asdict(self.stream_config()),
            backbone={} if is_default else backbone,
            optimizer=dataclasses.asdict(self.optimizer_config(strategy)),
            compute=dataclasses.asdict(self.compute_config()),
            base=dataclasses.asdict(self.base_config()),
            strategy_options=dataclasses.asdict(self.own_options(strategy)),
        )

    def parsed_budget(self) -> Budget:
        budget = parse_budget(self.budget)
        return dataclasses.replace(budget, accounting=self.accounting, count_frozen=self.count_frozen)

    def to_plain(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def settled_backbone(options: Mapping[str, Any]) -> dict[str, Any]:
    """A backbone's name and all its options as typed values; nothing of nothing. Raises StreamlabError."""
    if not options:
        return {}
    name = str(options.get("name", "mlp"))
    others = {key: value for key, value in options.items() if key != "name"}
    plugin = configure(plugins.load("backbones", name), others, f"backbone {name}")
    return {"name": name, **dataclasses.asdict(plugin)}


@dataclass(frozen=True)
class Row:
    """A row of the table: a strategy by name or file, and the options that set it apart."""

    strategy: str
    label: str
    options: Mapping[str, Any]


def parse_row(text: str) -> Row:
    """`er`, `./mine.py`, `avalanche:Replay`, or `er:selection=balanced,replay_size=20` (a row of its own)."""
    name, colon, rest = text.partition(":")
    if plugins.is_of_family(text):  # avalanche:Replay:mem_size=200
        own, colon, rest = rest.partition(":")
        name = f"{name}:{own}"
    options: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        path, equals, value = part.partition("=")
        if not equals:
            raise StreamlabError(f"strategy {text!r}: write NAME:OPTION=VALUE,OPTION=VALUE")
        section, dot, inner = path.strip().partition(".")
        if dot:
            options.setdefault(section, {})[inner] = value.strip()
        else:
            options[section] = value.strip()
    shown = Path(name).stem if name.endswith(".py") else name
    return Row(name, f"{shown} {rest}" if colon else shown, options)


def absolute(text: str) -> str:
    """A row's text, a file in it named by its whole path."""
    name, colon, rest = text.partition(":")
    return f"{Path(name).resolve()}{colon}{rest}" if name.endswith(".py") else text


def check_strategy(strategy: type[Strategy], options: Any, name: str, plan: Plan) -> None:
    """Refuse a strategy that cannot take this plan, with the reason, before anything is loaded.

    An option may decide whether boundaries are needed: its options then have `needs_boundaries`.
    """
    if strategy.learns_jointly and plan.kind != "episodes":
        return
    if plan.kind not in strategy.kinds:
        takes = " or ".join(_KINDS[kind] for kind in sorted(strategy.kinds))
        hint = "; --set scenario.kind=sessions makes it some" if "kind" in plan.options else ""
        raise StreamlabError(f"{name} learns from {takes}, and {plan.scenario} is {_KINDS[plan.kind]}{hint}")
    if isinstance(plan, EpisodePlan):
        train, test = plan.train.way, plan.test.way
        if strategy.fixed_way and train != test:
            raise StreamlabError(
                f"{name} has an output for each class of an episode, so that it must be tested as it is "
                f"trained: scenario.train_way is {train}, and scenario.way {test}"
            )
        return
    if strategy.base is not None and not plan.has_base:
        raise StreamlabError(f"{name} needs a base session, as fscil has, and {plan.scenario} has none")
    if getattr(options, "needs_boundaries", strategy.needs_boundaries) and not plan.shows_boundaries:
        raise StreamlabError(
            f"{name} needs task boundaries, and {plan.scenario} hides them; "
            f"show them with --set scenario.boundaries=shown"
        )
    if strategy.needs_new_classes and any(not fresh for fresh in new_classes(plan)):
        raise StreamlabError(
            f"{name} learns classes that are new with each experience, and {plan.scenario} has experiences "
            f"without any"
        )


def new_classes(plan: StreamPlan) -> list[frozenset[int]]:
    """Of each experience, the classes that none before had."""
    fresh, known = [], frozenset[int]()
    for experience in plan.experiences:
        fresh.append(frozenset(experience.classes) - known)
        known |= fresh[-1]
    return fresh


def load_strategy(name: str) -> type[Strategy]:
    """The strategy class of an installed plugin or of a file; raises StreamlabError."""
    from ..strategy import Strategy

    if not name.endswith(".py"):
        found = (
            plugins.load_of_family(name) if plugins.is_of_family(name) else plugins.load("strategies", name)
        )
        if not (isinstance(found, type) and issubclass(found, Strategy)):
            raise StreamlabError(f"strategy {name!r} is {found!r}, and must be a class derived from Strategy")
        return found
    module = plugins.load_file(Path(name))
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise StreamlabError(f"strategy file {name} defines {len(own)} strategies, and must define one")
    return own[0]


def unique_labels(rows: Iterable[Row]) -> list[Row]:
    """The rows; raises StreamlabError where two have one label."""
    listed = list(rows)
    labels = [row.label for row in listed]
    for label in labels:
        if labels.count(label) > 1:
            raise StreamlabError(f"strategy {label!r} is named twice; give one of them an option")
    return listed
