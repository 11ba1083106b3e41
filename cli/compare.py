"""`streamlab compare` and `streamlab report`: a grid watched live, and what is written of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from streamlab.config import readable_bytes
from streamlab.errors import StreamlabError
from streamlab.experiments.comparison import Watcher, new_comparison_folder, run_comparison
from streamlab.experiments.experiment import available_processors
from streamlab.experiments.folder import count_done
from streamlab.experiments.grid import Cell, Grid, needs, prepare_grid, shown_budget
from streamlab.experiments.request import CompareRequest
from streamlab.runs.spec import load_strategy
from streamlab.simulator import events

from .grid_table import first_state, fold_cell, grid_table
from .lines import hanging
from .plain import finite, readable_seconds
from .watching import expect, fitting_view, resumable

View = Callable[[Grid, str, Path], AbstractContextManager[Watcher]]


def watch_comparison(request: CompareRequest, out: Path | None, json_lines: bool) -> None:
    """Run a comparison under a live view and write its report; exit 1 if a cell failed."""
    folder = out or new_comparison_folder(request)
    views: dict[str, View] = {"json": _JsonView, "live": _LiveView, "plain": _PlainView}
    make = views[fitting_view(json_lines)]
    tell = (lambda line: print(line, file=sys.stderr)) if json_lines else print
    with resumable(folder):
        complete = run_comparison(request, folder, lambda grid, title: make(grid, title, folder), tell)
    if not json_lines:
        try:
            print_report([folder], folder, None)
        except StreamlabError as error:  # no run is complete, say
            if complete:
                raise
            print(f"\nno report: {error}", file=sys.stderr)
    expect(complete, folder)


def print_report(folders: list[Path], out: Path, reference: str | None) -> None:
    """Write the report, and say where it is and what it opens with."""
    from streamlab.report.findings import findings
    from streamlab.report.gather import gather
    from streamlab.report.write import write_report

    gathered = gather(folders, reference)
    written = write_report(gathered, out)
    print()
    print(hanging("", " ".join(findings(gathered))))
    print("\n" + "  ".join(str(path) for path in written))


def dry_run_grid(request: CompareRequest, out: Path | None) -> None:
    """The cells, the exemplars that each budget buys each strategy, and the time expected.

    out: a folder, of which it is said how many cells are done there.
    """
    from streamlab.experiments.pilot import take_pilots

    grid = prepare_grid(request)
    console = Console()
    found = needs(grid)
    work, longest = 0.0, 0.0
    for block in grid.blocks:
        pilots = take_pilots(block.experiment)
        resolved = grid.budgets[block.scenario].get(block.budget, "")
        console.print(f"[bold]{block.scenario}[/] at {shown_budget(block.budget, resolved)}", highlight=False)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), header_style="dim")
        table.add_column("strategy")
        for heading in ("network", "own state", "exemplars", "a run takes about"):
            table.add_column(heading, justify="right")
        for label, pilot in pilots.items():
            spec = next(spec for spec in block.experiment.specs if spec.label == label)
            own = found[block.folder, label]
            first, last = own.buys(spec.parsed_budget())
            bought = f"{first:,}" if first == last else f"{first:,} to {last:,}"
            bought = "unbounded" if spec.ceiling else bought if own.each else "none"
            named = {**load_strategy(spec.strategy).backbone, **spec.backbone_options()}.get("name", "mlp")
            cells = (
                f"{named} {own.parameters:,}",
                readable_bytes(own.last),
                bought,
                readable_seconds(pilot.seconds),
            )
            table.add_row(label, *cells)
            seeds = sum(spec.label == label for spec in block.experiment.specs)
            work, longest = work + seeds * pilot.seconds, max(longest, pilot.seconds)
        console.print(table, highlight=False)
    at_once = max(1, min(request.workers or available_processors(), len(grid.cells)))
    counted = "all that is held" if request.accounting == "held" else "the survey's accounting"
    frozen = "counted" if request.count_frozen else "not counted"
    tuning = f", and {request.tune} trials of each strategy before it" if request.tune else ""
    expected = readable_seconds(max(work / at_once, longest))
    if out is not None:
        print(f"{count_done(grid, out)} of {len(grid.cells)} cells are done in {out}, and are not run again")
    print(
        f"{len(grid.cells)} cells, about {expected} in all on {at_once} at once{tuning}; budgets count "
        f"{counted}, a frozen backbone {frozen}; nothing was run (--dry-run)"
    )


class _LiveView:
    """Draws the grid in place while cells are run, and leaves the last one standing."""

    def __init__(self, grid: Grid, title: str, folder: Path) -> None:
        self.console = Console()
        self.folder, self.state = folder, first_state(grid, title, folder)
        self._began = time.monotonic()
        self._live = Live(console=self.console, get_renderable=self.draw, refresh_per_second=4)

    def draw(self) -> RenderableType:
        """The table for the console's width at this moment."""
        return grid_table(self.state, self.console.width, time.monotonic() - self._began)

    def hear(self, cell: Cell, event: events.Event) -> None:
        self.state = fold_cell(self.state, cell, event)

    def tick(self) -> None:
        """The live display refreshes itself."""

    def __enter__(self) -> _LiveView:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
        if error[0] is None:
            seconds = readable_seconds(time.monotonic() - self._began)
            self.console.print(f"[dim]{seconds} · {self.folder}[/]", highlight=False)


class _PlainView:
    """A line where a cell starts, ends or fails; at the end the table."""

    def __init__(self, grid: Grid, title: str, folder: Path) -> None:
        self.folder, self.state = folder, first_state(grid, title, folder)

    def hear(self, cell: Cell, event: events.Event) -> None:
        self.state = fold_cell(self.state, cell, event)
        match event:
            case events.RunStarted():
                print(f"{cell.folder}: starts at sample {event.samples_seen:,}", flush=True)
            case events.RunEnded():
                done = sum(run.status == "complete" for run in self.state.runs.values())
                known = [name for name in ("a_avg", "a_last") if name in event.metrics]
                shown = ", ".join(f"{name} {event.metrics[name]:.4f}" for name in known)
                print(f"{cell.folder}: done ({done} of {len(self.state.runs)}), {shown}", flush=True)
            case events.RunFailed():
                print(f"{cell.folder}: failed: {event.message}", flush=True)

    def tick(self) -> None:
        """Nothing moves between events."""

    def __enter__(self) -> _PlainView:
        print(f"{self.state.title}: {len(self.state.runs)} cells in {self.folder}", flush=True)
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            Console(width=120).print(grid_table(self.state, 120, 0.0), highlight=False)


class _JsonView:
    """Every event as a line of JSON, with its cell; for machines."""

    def __init__(self, grid: Grid, title: str, folder: Path) -> None:
        self.folder = folder

    def hear(self, cell: Cell, event: events.Event) -> None:
        head = {"scenario": cell.block.scenario, "budget": cell.block.budget, "strategy": cell.spec.label}
        head |= {"seed": str(cell.spec.seed), "folder": str(self.folder / cell.folder)}
        print(json.dumps({**head, **finite(events.to_plain(event))}), flush=True)

    def tick(self) -> None:
        """Nothing moves between events."""

    def __enter__(self) -> _JsonView:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing follows the last event."""
