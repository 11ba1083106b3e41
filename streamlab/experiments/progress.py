"""How far an experiment is, for scripts and notebooks: a bar of rich, in a terminal or a notebook's cell."""

from __future__ import annotations

import sys
from types import TracebackType

from ..simulator import events
from .grid import Cell, Grid


class Bar:
    """A watcher that shows how far a grid is; where nobody looks, it shows nothing."""

    def __init__(self, grid: Grid, title: str, show: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        seen = show and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not seen)
        self._task = self._progress.add_task(title or "running", total=1.0)
        self._share = dict.fromkeys((cell.folder for cell in grid.cells), 0.0)
        self._samples: dict[str, int] = {}

    def hear(self, cell: Cell, event: events.Event) -> None:
        """Move the bar by what follows from an event."""
        if isinstance(event, events.RunStarted):
            self._samples[cell.folder] = event.samples
        elif isinstance(event, events.Progressed):
            self._share[cell.folder] = event.samples_seen / max(1, self._samples[cell.folder])
        elif isinstance(event, (events.RunEnded, events.RunFailed)):
            self._share[cell.folder] = 1.0
        share = sum(self._share.values()) / len(self._share)
        now = f"{cell.spec.label}, seed {cell.spec.seed}"
        self._progress.update(self._task, completed=share, description=now)

    def tick(self) -> None:
        """The bar moves with events."""

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
