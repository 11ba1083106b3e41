"""`streamlab check`: what came of each promise, as lines or as JSON."""

from __future__ import annotations

import dataclasses
import json

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from streamlab.check import Outcome, Subject, check_strategy
from streamlab.check.outcomes import step_seconds

_MARKS = {"kept": ("✓", "green"), "broken": ("✗", "red"), "mended": ("✗", "red"), "known": ("!", "yellow")}


def print_checks(text: str, as_json: bool) -> bool:
    """Check a strategy by name or file; returns whether it keeps its promises."""
    subject = Subject.named(text)
    if as_json:
        outcomes = list(check_strategy(subject))
        plain = [dataclasses.asdict(outcome) for outcome in outcomes]
        print(json.dumps({"strategy": subject.name, "outcomes": plain}, indent=1))
        return not any(outcome.is_failure for outcome in outcomes)
    console = Console()
    console.print(f"[bold]{subject.name}[/] on a tiny stream of its own", highlight=False)
    outcomes = []
    for outcome in check_strategy(subject):
        outcomes.append(outcome)
        _print(console, outcome)
    broken = sum(outcome.is_failure for outcome in outcomes)
    kept = sum(outcome.status == "kept" for outcome in outcomes)
    known = sum(outcome.status == "known" for outcome in outcomes)
    summary = f"{kept} of {len(outcomes)} promises kept" + (f", {known} known not to be" if known else "")
    if outcomes[0].status == "kept":
        own, finetune = step_seconds(subject), step_seconds(Subject.named("finetune"))
        summary += f"; a step takes {1e3 * own:.2f} ms, finetune's {1e3 * finetune:.2f} ms"
    console.print(summary, style="red" if broken else "green", highlight=False)
    return not broken


def _print(console: Console, outcome: Outcome) -> None:
    mark, colour = _MARKS.get(outcome.status, ("·", "dim"))
    quiet = "dim" if outcome.status == "not reached" else ""
    console.print(Text.assemble((f"  {mark} ", colour), (outcome.promise, quiet)))
    if outcome.message:
        where = f" ({outcome.line})" if outcome.line else ""
        console.print(Padding(Text(outcome.message + where, colour), (0, 0, 0, 6)))
    if outcome.is_failure:
        console.print(Padding(Text(outcome.why, "dim"), (0, 0, 0, 6)))
