"""A whole comparison: tuned where it is asked for, run, and gone on with where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..data.source import Source
from ..simulator import events
from .engines import run_grid
from .experiment import fresh_folder
from .folder import hold, left_out, settle, write_comparison
from .grid import Cell, Grid, prepare_grid
from .request import CompareRequest

if TYPE_CHECKING:
    from ..strategy import Strategy


class Watcher(Protocol):
    """Who is told how a grid goes."""

    def hear(self, cell: Cell, event: events.Event) -> None: ...

    def tick(self) -> None: ...


Watch = Callable[[Grid, str], AbstractContextManager[Watcher]]


def run_comparison(
    request: CompareRequest,
    out: Path,
    watch: Watch,
    tell: Callable[[str], None] = print,
    sources: Mapping[str, Source] | None = None,
    classes: tuple[type[Strategy], ...] = (),
) -> bool:
    """Tune where that is asked for, then run the grid in `out`, or what is left of both.

    watch(grid, title): who hears of the cells while a grid runs. tell: is given a line where a run is made
    anew. Returns whether every cell is complete. Raises StreamlabError, before anything is run or moved, for
    what is wrong with the request, and where another command holds the folder.
    """
    grid = prepare_grid(request, sources, classes)
    for note in dict.fromkeys(note for block in grid.blocks for note in block.experiment.notes):
        tell(note)
    with hold(out):
        for line in left_out(grid, out):
            tell(line)
        write_comparison(grid, out)
        if request.tune:
            from .tuning import as_grid, choose, plan_trials

            planned = plan_trials(grid, sources, classes)
            trials = as_grid(grid, planned)
            _run(trials, out, watch, tell, f"tuning, {request.tune} trials of each strategy")
            grid = prepare_grid(request, sources, classes, choose(grid, planned, out))
            write_comparison(grid, out)
        return _run(grid, out, watch, tell, "comparison")


def _run(grid: Grid, out: Path, watch: Watch, tell: Callable[[str], None], title: str) -> bool:
    for line in settle(grid, out):
        tell(line)
    with watch(grid, title) as watcher:
        return run_grid(grid, out, watcher.hear, watcher.tick)


def new_comparison_folder(request: CompareRequest) -> Path:
    """A fresh folder under ./runs, named by time and scenarios."""
    names = "+".join(scenario.name for scenario in request.compared()[:2])
    return fresh_folder(f"{datetime.now().strftime('%Y-%m-%d_%H%M%S')}_compare_{names}")
