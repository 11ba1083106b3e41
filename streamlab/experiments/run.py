"""Runs an experiment: tuned where that is asked for, and gone on with where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..listeners import Hear, listening
from ..simulator import events
from .engines import run_grid
from .grid import Cell, Grid, prepare_grid
from .held import HeldRun
from .layout import hold, left_out, settle, write_experiment
from .request import Request

if TYPE_CHECKING:
    from ..data.source import Source
    from ..strategy import Strategy


class Watcher(Protocol):
    """Who is told how a grid goes."""

    def hear(self, cell: Cell, event: events.Event) -> None: ...

    def tick(self) -> None: ...


Watch = Callable[[Grid, str], AbstractContextManager[Watcher]]


def run_experiment(
    request: Request,
    out: Path,
    watch: Watch,
    tell: Callable[[str], None] = print,
    sources: Mapping[str, Source] | None = None,
    classes: Sequence[type[Strategy]] = (),
) -> bool:
    """Tune where that is asked for, then run the grid in `out`, or what is left of both.

    watch(grid, title): who hears of the cells while a grid runs; the title is empty but for tuning. tell: is
    given a line for what should be known, such as a run that is made anew. Returns whether every cell is
    complete. Raises StreamlabError, before anything is run or moved, for what is wrong with the request, and
    where another command holds the folder.
    """
    grid = prepare_grid(request, sources, classes)
    for note in grid.notes:
        tell(note)
    with listening(request.log, out, tell) as listeners, hold(out):
        for line in left_out(grid, out):
            tell(line)
        write_experiment(grid, out)
        if request.tune:
            from .tuning import as_grid, choose, plan_trials

            planned = plan_trials(grid, sources, classes)
            trials = as_grid(grid, planned)
            _run(trials, out, watch, tell, f"tuning, {request.tune} trials of each strategy")
            grid = prepare_grid(request, sources, classes, choose(grid, planned, out))
            write_experiment(grid, out)
        return _run(grid, out, watch, tell, "", listeners)


def _run(
    grid: Grid,
    out: Path,
    watch: Watch,
    tell: Callable[[str], None],
    title: str,
    listeners: Hear | None = None,
) -> bool:
    for line in settle(grid, out):
        tell(line)
    with watch(grid, title) as watcher:

        def hear(cell: Cell, event: events.Event) -> None:
            watcher.hear(cell, event)
            if listeners is not None:
                spec, block = cell.spec, cell.block
                run = HeldRun(out / cell.folder, block.scenario, block.budget, spec.label, spec.seed)
                listeners(run, event)

        return run_grid(grid, out, hear, watcher.tick)
