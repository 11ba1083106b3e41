"""Cells as tasks of a Ray cluster, whose nodes share the comparison's folder (an NFS mount, say).

A task that dies with its worker or its node is retried elsewhere, and goes on from the run's checkpoint.
What happens is read from the run folders, so that nothing but a folder connects the nodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import StreamlabError
from ..files import locked
from ..runs.folder import RunFolder
from ..simulator import events
from .grid import Cell
from .request import Request

_RETRIES = 10
_POLL_SECONDS = 0.2


def run_on_ray(
    cells: Sequence[Cell],
    out: Path,
    request: Request,
    hear: Callable[[Cell, events.Event], None],
    tick: Callable[[], None],
) -> None:
    """Run the cells to their ends, each as one task; a failed one is told as such.

    address: of a cluster; None means one of this machine. Raises StreamlabError where Ray is missing or
    not to be reached.
    """
    ray = load_ray()
    if any(cell.block.prepared.classes for cell in cells):
        raise StreamlabError("a strategy class made in memory cannot travel to a cluster; use a file")
    given = {"address": request.address} if request.address else {"include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True, **given)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StreamlabError(f"compare: no Ray cluster at {request.address}: {error}") from None
    try:
        waiting = {}
        for cell in cells:
            gpus = 0.0 if cell.spec.device == "cpu" else 1 / request.per_gpu
            task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RETRIES)(run_cell)
            spec = cell.spec
            reference = task.remote(
                str((out / cell.folder).resolve()), spec.source, spec.data, spec.source_digest
            )
            waiting[reference] = cell
        logs = {cell.folder: _Log(RunFolder(out / cell.folder)) for cell in cells}
        ended: dict[str, events.Event] = {}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=_POLL_SECONDS)
            for cell in waiting.values():
                for event in logs[cell.folder].fresh():
                    if isinstance(event, events.RunEnded):
                        ended[cell.folder] = event  # a node may yet die before the result is written
                    else:
                        hear(cell, event)
            for reference in done:
                cell = waiting.pop(reference)
                if cell.folder in ended:
                    hear(cell, ended.pop(cell.folder))
                message = _why_failed(ray, reference, RunFolder(out / cell.folder))
                if message is not None:
                    hear(cell, events.RunFailed(message))
            tick()
    finally:
        ray.shutdown()


def load_ray() -> Any:
    """The package; raises StreamlabError where it is not installed."""
    try:
        return import_module("ray")
    except ImportError:
        raise StreamlabError("the engine ray needs a package: pip install 'streamlab-cl[ray]'") from None


def run_cell(folder: str, source: str, data: str, digest: str) -> bool:
    """What a task does, on whatever node: run or resume one folder; returns whether it completed."""
    from ..simulator.execute import execute
    from ..simulator.worker import keep_freed_memory

    path = Path(folder)
    if not (path / "run.json").exists():
        raise StreamlabError(
            f"{folder} is not on this node; a cluster's nodes must share the experiment's folder"
        )
    keep_freed_memory()
    shared, here = _shared(source, data)
    if here != digest:
        raise StreamlabError(f"source {source} on this node is not the one that the experiment was made for")
    with locked(path, wait=True):  # a worker that is dying still holds it
        done = RunFolder(path).result is not None
    return done or execute(path, shared, lambda event: None).complete


@cache
def _shared(source: str, data: str) -> tuple[Path, str]:
    """Once a process: where the source's arrays are mapped from, and its digest."""
    from ..data.load import load_source
    from ..data.source import share

    loaded = load_source(source, data)
    return share(loaded), loaded.digest


def _why_failed(ray: Any, reference: Any, folder: RunFolder) -> str | None:
    """The sentence of a task that did not complete its run, kept in the run's folder."""
    try:
        completed = ray.get(reference)
        return None if completed else folder.failure or f"{folder.path.parent.name}: it did not complete"
    except ray.exceptions.RayTaskError as error:
        message = f"{folder.path.parent.name}: {error.cause}"
    except ray.exceptions.RayError as error:
        message = f"{folder.path.parent.name}: its worker died {_RETRIES + 1} times ({type(error).__name__})"
    folder.write_failure(message)
    return message


class _Log:
    """A run's event log, read as it grows."""

    def __init__(self, folder: RunFolder) -> None:
        self._path, self._place, self._last = folder.path / "events.jsonl", 0, b""

    def fresh(self) -> list[events.Event]:
        """What was added since the last time; of a log that was cut by a resumed run, what it ends with."""
        try:
            if self._path.stat().st_size == self._place:
                return []
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        whole, seen = content[: content.rfind(b"\n") + 1], self._place
        goes_on = len(whole) >= seen and whole[:seen].endswith(self._last)
        fresh = whole[seen:].splitlines() if goes_on else whole.splitlines()[-1:]
        self._place, self._last = len(whole), b"".join(whole.splitlines(keepends=True)[-1:])
        return [events.from_plain(json.loads(line)) for line in fresh]
