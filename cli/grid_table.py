"""The live state of a grid of cells, and its table: a row a strategy, a column a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamlab.evaluation.intervals import interval
from streamlab.experiments.grid import ANY, Cell, Grid, size_of
from streamlab.runs.folder import RunFolder
from streamlab.simulator import events

from .live import RunState, fold_run, restored
from .plain import readable_seconds
from .table import short_label


@dataclass(frozen=True)
class GridState:
    """All cells by folder, and where each stands in the table: (scenario, label, budget)."""

    title: str
    runs: Mapping[str, RunState]
    places: Mapping[str, tuple[str, str, str]]
    budgets: Mapping[str, tuple[str, ...]]
    begun_with: int
    at_once: int = 1


def first_state(grid: Grid, title: str, folder: Path) -> GridState:
    """What the folder already holds."""
    runs, places = {}, {}
    for cell in grid.cells:
        held = RunFolder(folder / cell.folder)
        run = restored(cell.spec, held)
        runs[cell.folder] = run if held.result is not None else RunState(cell.spec.label, cell.spec.seed)
        places[cell.folder] = (cell.block.scenario, cell.spec.label, _column(cell))
    budgets = {
        name: tuple(sorted(own, key=lambda text: size_of(own[text]))) for name, own in grid.budgets.items()
    }
    return GridState(title, runs, places, budgets, sum(run.status == "complete" for run in runs.values()))


def _column(cell: Cell) -> str:
    """The budget; of a trial in tuning, its number."""
    parts = cell.block.folder.split("/")
    return f"trial {int(parts[1])}" if parts[0] == "tuning" else cell.block.budget


def fold_cell(state: GridState, cell: Cell, event: events.Event) -> GridState:
    """The state after an event of one cell."""
    run = fold_run(state.runs[cell.folder], event)
    return replace(state, runs={**state.runs, cell.folder: run})


def grid_table(state: GridState, width: int, seconds: float) -> RenderableType:
    """The table for a terminal `width` columns wide, `seconds` after the cells began.

    A cell: the mean of A_avg over its complete seeds, in percent, and how many of how many there are; how far
    it is while none is. What keeps no exemplars stands in every column.
    """
    parts: list[RenderableType] = [_head(state, seconds)]
    scenarios = dict.fromkeys(scenario for scenario, _, _ in state.places.values())
    for scenario in scenarios:
        own = {folder: place for folder, place in state.places.items() if place[0] == scenario}
        columns = list(dict.fromkeys(column for _, _, column in own.values() if column != ANY))
        shown = [text for text in state.budgets.get(scenario, ()) if text in columns] or columns or [ANY]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column(scenario, no_wrap=True)
        room = max(1, (width - 22) // 12)
        for column in shown[:room]:
            table.add_column(short_label(column, 14), justify="right", no_wrap=True)
        for label in dict.fromkeys(label for _, label, _ in own.values()):
            cells = []
            for column in shown[:room]:
                runs = [
                    state.runs[folder]
                    for folder, (_, row, at) in own.items()
                    if row == label and at in (column, ANY)
                ]
                cells.append(_cell(runs))
            table.add_row(Text(short_label(label, 20), style="bold"), *cells)
        parts.append(table)
        if len(shown) > room:
            parts.append(Text(f"… and {len(shown) - room} more columns", style="dim"))
    failed = [run.message for run in state.runs.values() if run.status == "failed"]
    parts += [Text(f"failed  {message}", style="red") for message in failed[:5]]
    return Group(*parts)


def _head(state: GridState, seconds: float) -> Text:
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
