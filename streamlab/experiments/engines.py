"""Where cells are run: worker processes of this machine, or tasks of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..data.source import share
from ..runs.folder import RunFolder
from ..simulator import events
from ..simulator.pool import Job, run_jobs
from .experiment import available_processors
from .grid import Cell, Grid


def run_grid(
    grid: Grid,
    out: Path,
    hear: Callable[[Cell, events.Event], None],
    tick: Callable[[], None] = lambda: None,
) -> bool:
    """Run the cells that are not complete, by the request's engine; returns whether all are then.

    The grid was settled in `out`, which the caller holds (streamlab.experiments.folder.hold).
    """
    request = grid.request
    todo = [cell for cell in grid.cells if RunFolder(out / cell.folder).result is None]
    if request.engine == "ray":
        from .ray_engine import run_on_ray

        run_on_ray(todo, out, request, hear, tick)
    else:
        sources = {cell.spec.source: cell.block.experiment.source for cell in todo}
        shared = {name: share(source) for name, source in sources.items()}
        jobs = [
            Job(
                out / cell.folder,
                shared[cell.spec.source],
                cell.block.experiment.classes.get(cell.spec.strategy),
            )
            for cell in todo
        ]
        gpus = gpu_count() if any(cell.spec.device != "cpu" for cell in todo) else 0
        workers = request.workers
        if any(job.strategy for job in jobs):
            workers = 0
        elif workers is None:
            workers = gpus * request.per_gpu if gpus else available_processors()
        log = out / "workers.log"
        run_jobs(jobs, workers, lambda number, event: hear(todo[number], event), log, tick, gpus)
        if log.exists() and log.stat().st_size == 0:
            log.unlink()
    return all(RunFolder(out / cell.folder).result is not None for cell in grid.cells)


def gpu_count() -> int:
    """GPUs that torch sees."""
    import torch

    return torch.cuda.device_count()
