"""Draws a live state of several scenarios or budgets: a row a strategy, a column a budget."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamlab.evaluation.intervals import interval
from streamlab.experiments.request import ANY

from .lines import readable_seconds
from .live import LiveState, RunState
from .table import accuracy_table, short_label


def live_table(state: LiveState, width: int, seconds: float) -> RenderableType:
    """The table that fits a state: of accuracies at one budget, or of cells."""
    return grid_table(state, width, seconds) if state.is_grid else accuracy_table(state, width)


def grid_table(state: LiveState, width: int, seconds: float) -> RenderableType:
    """The table for a terminal `width` columns wide, `seconds` after the cells began.

    A cell: the mean of A_avg over its complete seeds, in percent, and how many of how many there are; how far
    it is while none is. What keeps no exemplars stands in every column.
    """
    parts: list[RenderableType] = [_head(state, seconds)]
    for scenario in dict.fromkeys(run.scenario for run in state.runs.values()):
        of_scenario = [run for run in state.runs.values() if run.scenario == scenario]
        columns = list(dict.fromkeys(run.budget for run in of_scenario if run.budget != ANY))
        shown = [text for text in state.budgets.get(scenario, ()) if text in columns] or columns or [ANY]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column(scenario, no_wrap=True)
        room = max(1, (width - 22) // 12)
        for column in shown[:room]:
            table.add_column(short_label(column, 14), justify="right", no_wrap=True)
        for label in dict.fromkeys(run.label for run in of_scenario):
            row = [run for run in of_scenario if run.label == label]
            cells = [_cell([run for run in row if run.budget in (column, ANY)]) for column in shown[:room]]
            table.add_row(Text(short_label(label, 20), style="bold"), *cells)
        parts.append(table)
        if len(shown) > room:
            parts.append(Text(f"… and {len(shown) - room} more columns", style="dim"))
    failed = [run.message for run in state.runs.values() if run.status == "failed"]
    parts += [Text(f"failed  {message}", style="red") for message in failed[:5]]
    return Group(*parts)


def _head(state: LiveState, seconds: float) -> Text:
    runs = state.runs.values()
    counts = {name: sum(run.status == name for run in runs) for name in ("complete", "running", "failed")}
    words = [f"{counts['complete']} of {len(state.runs)} cells done"]
    words += [f"{counts[name]} {name}" for name in ("running", "failed") if counts[name]]
    fresh = counts["complete"] - state.begun_with
    left = len(state.runs) - counts["complete"] - counts["failed"]
    if fresh and left and seconds:
        share = fresh + sum(run.share for run in runs if run.status == "running")
        words.append(f"about {readable_seconds(seconds / share * (left + fresh - share))} left")
    return Text(
        f"{state.title} · {' · '.join(words)} · A_avg %", style="dim", no_wrap=True, overflow="ellipsis"
    )


def _cell(runs: list[RunState]) -> Text:
    if not runs:
        return Text("–", style="dim")
    complete = [run for run in runs if run.status == "complete"]
    values = [run.metrics.get("a_avg", run.metrics.get("a_last")) for run in complete]
    known = [value for value in values if value is not None]
    if any(run.status == "failed" for run in runs):
        return Text("failed", style="red")
    if known:
        mean = interval(known)
        text = Text(f"{100 * mean.mean:.1f}")
        if len(complete) < len(runs):
            return text.append(f" {len(complete)}/{len(runs)}", "dim")
        half = "" if mean.half_width is None else f" ±{100 * mean.half_width:4.1f}"
        return text.append(half, "dim")
    share = sum(run.share for run in runs) / len(runs)
    return Text(f"{share:.0%}" if share else "·", style="dim")
