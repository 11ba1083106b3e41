"""What a person asks for: a grid of scenarios, strategies, budgets and seeds; as a recipe, too."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..config import Accounting, Tree, at_least, configure, merged
from ..errors import StreamlabError, unknown
from .protocol import check_protocol

ANY = "any-budget"  # where what keeps no exemplars, and no budget bounds, is run once
SECTIONS = (
    "scenario",
    "stream",
    "clock",
    "augment",
    "preprocess",
    "backbone",
    "optimizer",
    "first",
    "compute",
    "base",
)


@dataclass(frozen=True)
class AskedScenario:
    """One scenario of a request. source, stream: in place of the request's own; label: its name in tables."""

    name: str
    label: str
    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: Mapping[str, Any] = field(default_factory=dict)


_LARGEST_RECIPE, _MOST_SEEDS = 1 << 24, 10_000  # bytes; runs of a row


@dataclass(frozen=True)
class Request:
    """A grid of runs; the defaults are the quickstart. Raises StreamlabError for what cannot be meant.

    scenarios: names, or tables with a `name`, options, and where wanted a label, a source and a stream
    section. strategies: names, files (./mine.py) or names with options (er:selection=balanced). seeds:
    how many, counted from first_seed, each with a plan of its own; plan_seed: one plan for all of them.
    budgets: 2MiB, 500ex, or a need (`expandable-der`, `model+2000ex`; budgets.py). accounting: what counts
    against a budget in bytes; count_frozen: whether a backbone that nobody trains does. smaller: networks,
    the largest first, for those whose own does not fit a budget (`resnet32:width=8`). eval_every: samples
    between evaluations (None: 1000; of episodes, a tenth of those trained on). workers: processes (None:
    one a processor, or per_gpu on each GPU; 0: this process). patience: seconds of silence after
    which a worker is stopped, as one whose plugin hangs (0: never). record: what is kept beside the rest
    (streamlab.config.RECORDABLE). log: listeners, with options (wandb:project=mine). tune: trials that every
    strategy gets (0: none); protocol: what they may see
    (experiments/protocol.py). engine: where runs are run; address: of a Ray cluster (None: one of this
    machine). intervals: refuse a single seed, which has none. settings: a tree of sections (scenario, stream,
    clock, backbone, optimizer, compute, base, or a strategy's label).
    """

    scenarios: tuple[str | dict[str, Any], ...] = ("si-blurry",)
    source: str = "glyphs-100"
    strategies: tuple[str, ...] = ("finetune", "er", "slda", "joint")
    seeds: int = 3
    first_seed: int = 0
    plan_seed: int | None = None
    budgets: tuple[str, ...] = ("500ex",)
    accounting: Accounting = "held"
    count_frozen: bool = True
    smaller: tuple[str, ...] = ()
    eval_every: int | None = None
    device: str = "auto"
    data: str | None = None
    workers: int | None = None
    patience: float = 14_400.0
    record: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    tune: int = 0
    protocol: str = "validation"
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    per_gpu: int = 1
    intervals: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise StreamlabError(f"--seeds is {self.seeds}, and must be at least 1")
        if self.eval_every is not None and self.eval_every < 1:
            raise StreamlabError(f"--eval-every is {self.eval_every}, and must be at least 1")
        if self.seeds > _MOST_SEEDS:
            raise StreamlabError(f"--seeds is {self.seeds}, and must be at most {_MOST_SEEDS:,}")
        at_least("compare", "tune", self.tune, 0)
        check_protocol(self.protocol, self.tune, self.seeds, self.plan_seed)
        at_least("compare", "per_gpu", self.per_gpu, 1)
        at_least("compare", "patience", self.patience, 0)
        if self.seeds == 1 and self.intervals:
            raise StreamlabError(
                "compare: one seed has no interval; ask for --seeds 2 or more, or say --no-intervals"
            )
        if not self.budgets or not self.scenarios:
            raise StreamlabError("give at least one scenario and one budget")
        for budget in self.budgets:
            if self.budgets.count(budget) > 1:
                raise StreamlabError(f"{budget} is among the budgets twice")

    def asked(self) -> list[AskedScenario]:
        """The scenarios; raises StreamlabError where two have one label."""
        found = [_asked(entry) for entry in self.scenarios]
        labels = [one.label for one in found]
        for label in labels:
            if labels.count(label) > 1:
                raise StreamlabError(f"two scenarios are labelled {label!r}; give one a label of its own")
        return found

    def settings_of(self, scenario: AskedScenario, chosen: Mapping[str, Any] | None = None) -> Tree:
        """The settings of one scenario's runs, what tuning chose for them on top."""
        of_scenario = {"scenario": scenario.options, "stream": scenario.stream}
        return merged(self.settings, of_scenario, chosen or {})


COMPARISON: Mapping[str, Any] = {
    "scenarios": ("class-incremental",),
    "strategies": ("er", "icarl"),
    "intervals": True,
}
"""The defaults of `streamlab compare`, where they are not the request's."""


def _asked(entry: str | Mapping[str, Any]) -> AskedScenario:
    if isinstance(entry, str):
        return AskedScenario(entry, entry)
    fields = {field.name for field in dataclasses.fields(AskedScenario)} - {"options"}
    if "name" not in entry:
        raise StreamlabError("a table of scenarios has no name")
    options = {name: value for name, value in entry.items() if name not in fields}
    label = str(entry.get("label", entry["name"]))
    given = {name: value for name, value in entry.items() if name in fields}
    return configure(AskedScenario, {**given, "label": label, "options": options}, "scenarios")


_ONE = {"scenario": "scenarios", "budget": "budgets"}  # a recipe may name one without brackets


def read_recipe(path: Path) -> dict[str, Any]:
    """A TOML recipe as the fields of a request; sections and strategies' tables become settings.

    `scenario` is a name, or a section with a `name` among its options, and `budget` a budget: one of what
    `scenarios` and `budgets` list. Raises StreamlabError where the file cannot be read or has an unknown
    field.
    """
    try:
        if path.is_file() and path.stat().st_size > _LARGEST_RECIPE:
            raise StreamlabError(f"recipe {path} has {path.stat().st_size:,} bytes, and is no recipe")
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, RecursionError) as error:
        what = "is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else "is nested too deeply"
        raise StreamlabError(f"recipe {path} {what}") from None
    except OSError as error:
        raise StreamlabError(f"recipe {path} cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise StreamlabError(f"recipe {path} is no TOML: {error}") from None
    fields = {field.name for field in dataclasses.fields(Request)} - {"settings"}
    given: dict[str, Any] = {}
    settings: Tree = {}
    for name, value in content.items():
        if name == "about":  # whose protocol it is (streamlab.recipes): no part of what is asked for
            continue
        if name == "scenario" and isinstance(value, Mapping) and "scenarios" not in content:
            if "name" not in value:
                raise StreamlabError(f"recipe {path.name}: its section [scenario] has no name")
            given["scenarios"] = (value["name"],)
            settings[name] = {option: chosen for option, chosen in value.items() if option != "name"}
        elif isinstance(value, Mapping):
            settings[name] = value
        elif name in _ONE:
            if _ONE[name] in content:
                raise StreamlabError(f"recipe {path.name}: it has {name} and {_ONE[name]}; give one of them")
            given[_ONE[name]] = (value,)
        elif name in SECTIONS:
            raise StreamlabError(f"recipe {path.name}: {name} is {value!r}, and must be a section")
        elif name in fields:
            given[name] = value
        else:
            raise unknown(f"field of recipe {path.name}", name, fields | set(_ONE) | set(SECTIONS))
    checked: Any = configure(Request, {**given, "intervals": False}, f"recipe {path.name}")
    typed = {name: getattr(checked, name) for name in given if name != "intervals"}
    return {
        **typed,
        **({"intervals": given["intervals"]} if "intervals" in given else {}),
        "settings": settings,
    }


def as_recipe(plain: Mapping[str, Any]) -> str:
    """A request's plain values as the TOML recipe that asks for it, without defaults and this machine's."""
    defaults = {
        field.name: field.default for field in dataclasses.fields(Request) if field.name != "settings"
    }
    here = ("data", "workers", "patience", "address", "engine", "per_gpu", "intervals", "log")
    told = ("scenarios", "strategies", "seeds")  # whose defaults differ between commands
    lines = []
    for name, default in defaults.items():
        value = plain[name]
        differs = name not in here and value is not None and _plain(value) != _plain(default)
        if name in told or differs:
            lines.append(f"{name} = {_toml(value)}")
    if plain["seeds"] == 1:
        lines.append("intervals = false")
    for section, options in plain["settings"].items():
        if options:
            lines += ["", f"[{json.dumps(section)}]"]
            lines += [f"{name} = {_toml(value)}" for name, value in options.items()]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + " }"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
