"""How far runs are, for scripts and notebooks: a bar in a terminal or in a notebook's cell."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..runs.spec import RunSpec
from ..simulator import events


def bar(folders: Sequence[str], show: bool) -> Bar:
    """A bar for these runs: in a notebook, in a terminal, or none that is seen."""
    if show and "ipykernel" in sys.modules:
        return _NotebookBar(folders)
    return _TerminalBar(folders) if show and sys.stderr.isatty() else Bar(folders)


class Bar:
    """How far the runs of an experiment are; a subclass shows it."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._share = dict.fromkeys(folders, 0.0)
        self._samples: dict[str, int] = {}

    def hear(self, spec: RunSpec, event: events.Event, folder: str = "") -> None:
        """Take note of an event, and show what follows from it. folder: where it is not the spec's own."""
        folder = folder or spec.folder
        if isinstance(event, events.RunStarted):
            self._samples[folder] = event.samples
        elif isinstance(event, events.Progressed):
            self._share[folder] = event.samples_seen / max(1, self._samples[folder])
        elif isinstance(event, (events.RunEnded, events.RunFailed)):
            self._share[folder] = 1.0
        self.show(sum(self._share.values()) / len(self._share), f"{spec.label}, seed {spec.seed}")

    def show(self, share: float, now: str) -> None:
        """Nothing is shown here."""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close here."""


class _TerminalBar(Bar):
    """rich's bar."""

    def __init__(self, folders: Sequence[str]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(folders)
        self._progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._task = self._progress.add_task("running", total=1.0)

    def show(self, share: float, now: str) -> None:
        self._progress.update(self._task, completed=share, description=now)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


class _NotebookBar(Bar):
    """One line of the cell's output, updated in place; it needs no widgets."""

    def __init__(self, folders: Sequence[str]) -> None:
        from importlib import import_module

        super().__init__(folders)
        self._shown = ""
        display = import_module("IPython.display").display
        self._handle = display({"text/plain": "running"}, raw=True, display_id=True)

    def show(self, share: float, now: str) -> None:
        line = f"{'█' * round(30 * share):░<30} {share:4.0%}  {now}"
        if line != self._shown:
            self._shown = line
            self._handle.update({"text/plain": line}, raw=True)
