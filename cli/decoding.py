"""A bar on standard error while pictures are decoded, where that is a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from streamlab.data.progress import told

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.progress import Progress

_bars: list[Progress] = []


def shown() -> AbstractContextManager[None]:
    """Inside, decoding is shown; Rich is imported when there is something to show."""
    return told(_show)


def _show(what: str, done: int, count: int) -> None:
    if not sys.stderr.isatty():
        return
    if not _bars:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        _bars.append(Progress(*columns, console=Console(stderr=True), transient=True))
        _bars[0].add_task(what, total=count)
        _bars[0].start()
    _bars[0].update(_bars[0].task_ids[0], completed=done)
    if done == count:
        _bars.pop().stop()
