"""What is run: one scenario on one source with one strategy and seed, as typed values.

A spec is all that a run folder needs to be run, resumed, or refused for comparison. Its values were text
once, in a recipe or on a command line (streamlab.experiments.prepare makes them); here they are settled,
defaults filled in, so that equal runs have equal specs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import plugins
from ..augmentation.pipelines import AugmentConfig
from ..config import Budget, ComputeConfig, StreamConfig, configure
from ..errors import StreamlabError
from ..preprocess import PreprocessConfig
from ..training import BaseConfig, FirstConfig, OptimizerConfig

if TYPE_CHECKING:
    from ..plans.stream import Plan
    from ..strategy import Strategy

T = TypeVar("T")
_SECTIONS: Mapping[str, type] = {
    "budget": Budget,
    "stream": StreamConfig,
    "optimizer": OptimizerConfig,
    "first": FirstConfig,
    "augment": AugmentConfig,
    "preprocess": PreprocessConfig,
    "compute": ComputeConfig,
    "base": BaseConfig,
}


@dataclass(frozen=True)
class RunSpec:
    """One run.

    scenario_options, strategy_options: the plugins' own, by name, every one of them. backbone: its `name`
    and all its options; empty means the strategy's own. ceiling: whether it is trained on everything at
    once, which no budget bounds. data: the folder that its source was read from.
    """

    scenario: str
    source: str
    strategy: str
    label: str
    seed: int
    plan_seed: int
    budget: Budget
    eval_every: int
    device: str
    source_digest: str
    plan_fingerprint: str
    ceiling: bool
    record: tuple[str, ...]
    data: str
    scenario_options: Mapping[str, Any]
    stream: StreamConfig
    backbone: Mapping[str, Any]
    optimizer: OptimizerConfig
    first: FirstConfig
    augment: AugmentConfig
    preprocess: PreprocessConfig
    strategy_options: Mapping[str, Any]
    compute: ComputeConfig
    base: BaseConfig

    @property
    def folder(self) -> str:
        """Where the run lies inside its block's folder."""
        return f"{folder_name(self.label)}/seed-{self.seed}"

    def to_plain(self) -> dict[str, Any]:
        """JSON values, by name."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> RunSpec:
        """The spec that `to_plain` wrote; raises TypeError or KeyError where it is none.

        A section that is not there came later than the run: it did what its defaults do.
        """
        sections: dict[str, Any] = {
            name: _made(kind, plain.get(name, {})) for name, kind in _SECTIONS.items()
        }
        others = {name: _tuples(value) for name, value in plain.items() if name not in sections}
        return RunSpec(**others, **sections)


def _made(kind: type[T], plain: Mapping[str, Any]) -> T:
    return kind(**{name: _tuples(value) for name, value in plain.items()})


def _tuples(value: Any) -> Any:
    """As it was before JSON made lists of tuples."""
    if isinstance(value, Mapping):
        return {name: _tuples(inner) for name, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, (list, tuple)) else value


def folder_name(text: str) -> str:
    """A label as the name of a folder: letters, digits and +-._= stay, all else is an underscore."""
    return "".join(c if c.isalnum() or c in "+-._=" else "_" for c in text)


def settled_backbone(options: Mapping[str, Any]) -> dict[str, Any]:
    """A backbone's name and all its options as typed values; nothing of nothing. Raises StreamlabError."""
    if not options:
        return {}
    name, others = plugins.named_backbone(options)
    plugin = configure(plugins.load("backbones", name), others, f"backbone {name}")
    return {"name": name, **dataclasses.asdict(plugin)}


def check_strategy(strategy: type[Strategy], options: Any, name: str, plan: Plan) -> None:
    """Refuse a strategy that cannot take this plan, with the reason, before anything is loaded."""
    if strategy.learns_jointly and plan.kind != "episodes":
        return
    refusal = strategy.needs_with(options).refusal(name, plan, strategy.base is not None)
    if refusal is not None:
        raise StreamlabError(refusal)


def check_learning(strategy: type[Strategy], options: Any, name: str, backbone: Mapping[str, Any]) -> None:
    """Refuse a frozen backbone to a strategy that learns a whole network, before anything is loaded."""
    if not strategy.needs_with(options).learning_backbone:
        return
    chosen, others = plugins.named_backbone(backbone or strategy.backbone)
    plugin = configure(plugins.load("backbones", chosen), others, f"backbone {chosen}")
    if not getattr(plugin, "learns", True):
        raise StreamlabError(f"{name} learns a whole network, and the backbone {chosen} is frozen")


def strangers(spec: RunSpec) -> str:
    """The plugins of a run that are not streamlab's, as one text: those that its worker calls."""
    named = [
        ("strategies", spec.strategy),
        ("backbones", str(spec.backbone.get("name", "mlp")).partition(":")[0]),
        ("augmentations", spec.augment.pipeline),
        ("optimizers", spec.optimizer.name),
        ("schedules", spec.optimizer.schedule),
    ]
    return " ".join(name for kind, name in named if not plugins.is_ours(kind, name))


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
    defined = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__
    ]
    if len(defined) != 1:
        raise StreamlabError(f"strategy file {name} defines {len(defined)} strategies, and must define one")
    return defined[0]
