"""What a person asks of `streamlab compare`: a grid of scenarios, strategies, budgets and seeds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..config import Accounting, at_least, configure
from ..errors import StreamlabError
from .experiment import Request

_SHARED = tuple(
    f.name for f in dataclasses.fields(Request) if f.name not in ("scenario", "budget", "first_seed")
)


@dataclass(frozen=True)
class Compared:
    """One scenario. source, stream: in place of the comparison's own; label: its name in the report."""

    name: str
    label: str
    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CompareRequest:
    """A grid. What it shares with `Request` means what it means there.

    scenarios: names, or tables with a `name`, options, and where wanted a label, a source and a stream
    section. budgets: 2MiB, 500ex, or a need (`expandable-der`, `model+2000ex`; budgets.py).
    smaller: networks, the largest first, for those whose own does not fit a budget (`resnet32:width=8`).
    tune: trials that every strategy gets (0: none). per_gpu: runs at once on each GPU. intervals: refused of
    one seed, unless they are renounced.
    """

    scenarios: tuple[str | dict[str, Any], ...] = ("class-incremental",)
    source: str = "glyphs-100"
    strategies: tuple[str, ...] = ("er", "icarl")
    seeds: int = 3
    plan_seed: int | None = None
    budgets: tuple[str, ...] = ("500ex",)
    accounting: Accounting = "held"
    count_frozen: bool = True
    smaller: tuple[str, ...] = ()
    eval_every: int | None = None
    device: str = "auto"
    data: str | None = None
    workers: int | None = None
    record: tuple[str, ...] = ()
    tune: int = 0
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    per_gpu: int = 1
    intervals: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least("compare", "tune", self.tune, 0)
        at_least("compare", "per_gpu", self.per_gpu, 1)
        if self.seeds == 1 and self.intervals:
            raise StreamlabError(
                "compare: one seed has no interval; ask for --seeds 2 or more, or say --no-intervals"
            )
        if not self.budgets or not self.scenarios:
            raise StreamlabError("compare: give at least one scenario and one budget")
        for name in ("budgets", "strategies"):
            listed = getattr(self, name)
            for one in listed:
                if listed.count(one) > 1:
                    raise StreamlabError(f"compare: {one} is among the {name} twice")

    def compared(self) -> list[Compared]:
        """The scenarios; raises StreamlabError where two have one label."""
        found = [_compared(entry) for entry in self.scenarios]
        labels = [one.label for one in found]
        for label in labels:
            if labels.count(label) > 1:
                raise StreamlabError(
                    f"compare: two scenarios are labelled {label!r}; give one a label of its own"
                )
        return found

    def of(self, scenario: Compared, **others: Any) -> Request:
        """The request of one scenario's runs, at a budget that is settled later."""
        shared = {name: getattr(self, name) for name in _SHARED}
        settings = dict(self.settings)
        for section, own in (("scenario", scenario.options), ("stream", scenario.stream)):
            settings[section] = {**settings.get(section, {}), **own}
        given = {**shared, "settings": settings, "source": scenario.source or self.source, **others}
        return Request(scenario=scenario.name, budget="none", **given)


def _compared(entry: str | Mapping[str, Any]) -> Compared:
    if isinstance(entry, str):
        return Compared(entry, entry)
    own = {field.name for field in dataclasses.fields(Compared)} - {"options"}
    if "name" not in entry:
        raise StreamlabError("compare: a table of scenarios has no name")
    options = {name: value for name, value in entry.items() if name not in own}
    label = str(entry.get("label", entry["name"]))
    given = {name: value for name, value in entry.items() if name in own}
    return configure(Compared, {**given, "label": label, "options": options}, "scenarios")


def as_recipe(plain: Mapping[str, Any]) -> str:
    """A request's plain values as the TOML recipe that asks for it, without defaults and this machine's."""
    defaults = {
        field.name: field.default for field in dataclasses.fields(CompareRequest) if field.name != "settings"
    }
    here = ("data", "workers", "address", "engine", "per_gpu")
    lines = []
    for name, default in defaults.items():
        value = plain[name]
        if name == "seeds" or (name not in here and value is not None and _plain(value) != _plain(default)):
            lines.append(f"{name} = {_toml(value)}")
    for section, options in plain["settings"].items():
        if options:
            lines += ["", f"[{json.dumps(section)}]"]
            lines += [f"{name} = {_toml(value)}" for name, value in options.items()]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(own)}" for name, own in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
