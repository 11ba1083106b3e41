"""Where cells are run: worker processes of this machine, or tasks of a Ray cluster."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

from ..data.source import share
from ..device import gpus_of
from ..runs.folder import RunFolder
from ..runs.spec import strangers
from ..simulator import events
from ..simulator.pool import Job, run_jobs
from .grid import Cell, Grid


def run_grid(
    grid: Grid,
    out: Path,
    hear: Callable[[Cell, events.Event], None],
    tick: Callable[[], None] = lambda: None,
) -> bool:
    """Run the cells that are not complete, by the request's engine; returns whether all are then.

    The grid was settled in `out`, which the caller holds (layout.py).
    """
    todo = [cell for cell in grid.cells if RunFolder(out / cell.folder).result is None]
    if grid.request.engine == "ray":
        from .ray_engine import run_on_ray

        run_on_ray(todo, out, grid.request, hear, tick)
    else:
        sources = {cell.spec.source: cell.source for cell in todo}
        shared = {name: share(source) for name, source in sources.items()}
        jobs = [
            Job(out / cell.folder, shared[cell.spec.source], cell.strategy, strangers(cell.spec))
            for cell in todo
        ]
        gpus = gpus_of(todo[0].spec.device) if todo else []
        log = out / "workers.log"
        workers = workers_for(grid, len(gpus))
        patience = grid.request.patience or math.inf
        run_jobs(jobs, workers, lambda number, event: hear(todo[number], event), log, tick, gpus, patience)
        if log.exists() and log.stat().st_size == 0:
            log.unlink()
    return all(RunFolder(out / cell.folder).result is not None for cell in grid.cells)


def workers_for(grid: Grid, gpus: int) -> int:
    """Worker processes that a grid gets on so many GPUs; 0 means this process."""
    request = grid.request
    if grid.classes:
        return 0
    if request.workers is not None:
        return request.workers
    return gpus * request.per_gpu if gpus else available_processors()


def available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
