"""`streamlab check`: what came of each promise, as lines or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from streamlab import plugins
from streamlab.check import (
    Outcome,
    ScenarioSubject,
    SourceSubject,
    Subject,
    check_plugin,
    check_strategy,
    scenario_checks,
    source_checks,
)
from streamlab.check.accelerator import Asked, ask
from streamlab.check.outcomes import step_seconds
from streamlab.data.names import plugin_of
from streamlab.errors import StreamlabError

_MARKS = {"kept": ("✓", "green"), "broken": ("✗", "red"), "mended": ("✗", "red"), "known": ("!", "yellow")}


def print_checks(text: str, as_json: bool, data: str | None = None) -> bool:
    """Check a strategy, a scenario or a source by name (or a file); whether it keeps its promises."""
    kind, name, outcomes = _examined(text, data)
    if as_json:
        told = list(outcomes)
        asked = _asked(text, told) if kind == "strategy" else None
        plain = [dataclasses.asdict(outcome) for outcome in told]
        found = {} if asked is None else {"accelerator": dataclasses.asdict(asked)}
        print(json.dumps({kind: name, "outcomes": plain, **found}, indent=1))
        return not any(outcome.is_failure for outcome in told)
    console = Console()
    world = {"strategy": "on a tiny stream of its own", "scenario": "on tiny labels of its own"}
    console.print(f"[bold]{name}[/] {world.get(kind, '')}".rstrip(), highlight=False)
    told = []
    for outcome in outcomes:
        told.append(outcome)
        _print(console, outcome)
    asked = _asked(text, told) if kind == "strategy" else None
    if kind == "strategy":
        _print(console, told[-1])
    broken = sum(outcome.is_failure for outcome in told)
    kept = sum(outcome.status == "kept" for outcome in told)
    known = sum(outcome.status == "known" for outcome in told)
    summary = f"{kept} of {len(told)} promises kept" + (f", {known} known not to be" if known else "")
    if kind == "strategy" and told[0].status == "kept":
        subject = Subject.named(text)
        plugin_seconds, finetune = step_seconds(subject), step_seconds(Subject.named("finetune"))
        summary += f"; a step takes {1e3 * plugin_seconds:.2f} ms, finetune's {1e3 * finetune:.2f} ms"
        summary += _launches(asked)
    console.print(summary, style="red" if broken else "green", highlight=False)
    return not broken


def _asked(text: str, told: list[Outcome]) -> Asked | None:
    """What a strategy asks of an accelerator; how that ended joins what is told."""
    promise = "On a pretended accelerator it runs, and resumed it ends with the same bits."
    why = "Else it works on this machine, and fails or changes its results where it is needed."
    about = ("accelerator", promise, why)
    if told[0].status != "kept":
        told.append(Outcome(*about, "not reached"))
        return None
    try:
        (asked,) = ask([text])
    except StreamlabError as error:
        told.append(Outcome(*about, "not reached", str(error)))
        return None
    told.append(Outcome(*about, "broken" if asked.fault else "kept", asked.fault))
    return asked


def _launches(asked: Asked | None) -> str:
    """What of a step makes a GPU slow, in words."""
    if asked is None or asked.fault or "step" not in asked.phases:
        return ""
    step = asked.phases["step"]
    copies = step["to device"] + step["to host"]
    said = f"; on a GPU it launches {step['launch']:.0f} kernels, copies {copies:g} times, waits"
    said += f" {step['wait']:g}"
    waits = [line for line in asked.lines.get("step", {}) if line.startswith(("wait", "to host"))]
    unstable = [f"{operation} at {at[0]}" for operation, at in asked.unstable.items()]
    said += f" ({waits[0]})" if waits else ""
    return said + (f"; no deterministic kernel there: {', '.join(unstable)}" if unstable else "")


def _examined(text: str, data: str | None) -> tuple[str, str, Iterator[Outcome]]:
    """What the name is of, and what comes of its checks; a name of two kinds is the strategy's."""
    name = plugin_of(text)
    if name not in plugins.names("strategies"):
        if name in plugins.names("scenarios"):
            return "scenario", text, check_plugin(ScenarioSubject.named(text), scenario_checks())
        if name in plugins.names("sources"):
            return "source", text, check_plugin(SourceSubject.named(text, data), source_checks())
    subject = Subject.named(text)
    return "strategy", subject.name, check_strategy(subject)


def _print(console: Console, outcome: Outcome) -> None:
    mark, colour = _MARKS.get(outcome.status, ("·", "dim"))
    quiet = "dim" if outcome.status == "not reached" else ""
    console.print(Text.assemble((f"  {mark} ", colour), (outcome.promise, quiet)))
    if outcome.message:
        where = f" ({outcome.line})" if outcome.line else ""
        console.print(Padding(Text(outcome.message + where, colour), (0, 0, 0, 6)))
    if outcome.is_failure:
        console.print(Padding(Text(outcome.why, "dim"), (0, 0, 0, 6)))
