"""Who watches a grid: a table drawn in place, plain lines, or JSON lines for machines."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from streamlab.experiments.grid import Cell, Grid
from streamlab.experiments.run import Watcher
from streamlab.simulator import events

from .grid_table import live_table
from .lines import readable_seconds
from .live import fold, state_of

View = Callable[[Grid, str, Path], AbstractContextManager[Watcher]]


def fitting_view(json_lines: bool) -> View:
    """What suits whoever reads: a machine that asked for it, a terminal, or a file or pipe."""
    if json_lines:
        return JsonView
    return LiveView if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else PlainView


class LiveView:
    """Draws the table in place while runs go on, and leaves the last one standing."""

    def __init__(self, grid: Grid, title: str, folder: Path, console: Console | None = None) -> None:
        self.console = console or Console()
        self.folder, self.state = folder, state_of(grid, folder, title)
        self._began = time.monotonic()
        self._live = Live(console=self.console, get_renderable=self.draw, refresh_per_second=4)

    def draw(self) -> RenderableType:
        """The table for the console's width at this moment."""
        return live_table(self.state, self.console.width, time.monotonic() - self._began)

    def hear(self, cell: Cell, event: events.Event) -> None:
        self.state = fold(self.state, cell, event)

    def tick(self) -> None:
        """The live display refreshes itself."""

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.state = replace(self.state, happening="")
        self._live.stop()
        if error[0] is None:
            seconds = readable_seconds(time.monotonic() - self._began)
            self.console.print(f"[dim]{seconds} · {self.folder}[/]", highlight=False)


class PlainView:
    """A line when a run starts, at every task end and when it is over; at last the table."""

    def __init__(self, grid: Grid, title: str, folder: Path) -> None:
        self.folder, self.state = folder, state_of(grid, folder, title)

    def hear(self, cell: Cell, event: events.Event) -> None:
        self.state = fold(self.state, cell, event)
        line = self._line(self.state.runs[cell.folder].budget, cell, event)
        if line:
            print(line, flush=True)

    def _line(self, budget: str, cell: Cell, event: events.Event) -> str:
        where = f"{cell.spec.label} seed {cell.spec.seed}"
        where = f"{cell.block.scenario} at {budget}, {where}" if self.state.is_grid else where
        match event:
            case events.RunStarted():
                begins = f"goes on at sample {event.samples_seen:,}" if event.samples_seen else "starts"
                return f"{where}: {begins}"
            case events.Evaluated() if event.task_ends:
                ended = f"experience {max(event.task_ends) + 1} ended, accuracy {event.accuracy:.1%}"
                return f"{where}: {ended}, sample {event.samples_seen:,}"
            case events.EnvironmentTested():
                return f"{where}: {event.environment}, accuracy {event.accuracy:.1%}"
            case events.RunEnded():
                runs = self.state.runs.values()
                done = sum(run.status == "complete" for run in runs)
                shown = ", ".join(f"{name} {value:.4f}" for name, value in event.metrics.items())
                return f"{where}: done ({done} of {len(runs)}), {shown}"
            case events.RunFailed():
                return f"{where}: failed: {event.message}"
        return ""

    def tick(self) -> None:
        """Nothing moves between events."""

    def __enter__(self) -> PlainView:
        count = f": {len(self.state.runs)} cells in {self.folder}" if self.state.is_grid else ""
        print(f"{self.state.title}{count}", flush=True)
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.state = replace(self.state, happening="")
            Console(width=140).print(live_table(self.state, 140, 0.0), highlight=False)
            print(self.folder)


class JsonView:
    """Every event as a line of JSON, with its run; for machines."""

    def __init__(self, grid: Grid, title: str, folder: Path) -> None:
        self.folder = folder

    def hear(self, cell: Cell, event: events.Event) -> None:
        head = {
            "scenario": cell.block.scenario,
            "budget": cell.block.budget,
            "strategy": cell.spec.label,
            "seed": cell.spec.seed,
            "folder": str(self.folder / cell.folder),
        }
        print(json.dumps({**head, **finite(events.to_plain(event))}), flush=True)

    def tick(self) -> None:
        """Nothing moves between events."""

    def __enter__(self) -> JsonView:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing follows the last event."""


def finite(plain: dict[str, object]) -> dict[str, object]:
    """NaN is no JSON: an accuracy over nothing is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in plain.items()
    }
