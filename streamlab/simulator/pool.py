"""Runs many run folders in persistent worker processes, one torch thread each.

A worker that dies is replaced, and its run is reported as failed; it can be resumed. With no
workers the runs are executed in this process, one after another.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..device import ONE_GPU
from ..runs.folder import RunFolder
from . import events

if TYPE_CHECKING:
    from ..strategy import Strategy

Sink = Callable[[int, events.Event], None]


@dataclass(frozen=True)
class Job:
    """A run folder to execute. strategy: the class itself, where no worker could import it."""

    folder: Path
    shared: Path
    strategy: type[Strategy] | None = None


def run_jobs(
    jobs: Sequence[Job],
    workers: int,
    sink: Sink,
    log: Path,
    tick: Callable[[], None],
    gpus: Sequence[int] = (),
) -> None:
    """Execute the jobs; `sink(number, event)` hears all events, `tick()` is called when idle too.

    workers: 0 runs in this process. log: where the workers' standard error goes. gpus: the numbers of
    those that the workers are spread evenly over, each seeing one (none: each sees them all).
    """
    if workers == 0:
        _run_here(jobs, sink, tick)
        return
    waiting = deque(enumerate(jobs))
    inbox: queue.Queue[tuple[_Worker, str | None]] = queue.Queue()
    crew: list[_Worker] = []
    with log.open("ab") as errors:
        try:
            for number in range(min(workers, len(jobs))):
                crew.append(_Worker(inbox, errors, _visible(gpus[number % len(gpus)]) if gpus else None))
                crew[-1].give(waiting.popleft())
            while waiting or any(worker.job is not None for worker in crew):
                try:
                    worker, line = inbox.get(timeout=0.1)
                except queue.Empty:
                    tick()
                    continue
                if line is None:
                    worker = _replace(worker, crew, inbox, errors, sink, jobs)
                else:
                    plain = json.loads(line)
                    number = plain.pop("run")
                    if plain["event"] != "done":
                        sink(number, events.from_plain(plain))
                        tick()
                        continue
                    worker.job = None
                    if plain["broken"]:  # it ends by itself, and is replaced then
                        continue
                if worker.job is None and waiting:
                    worker.give(waiting.popleft())
                tick()
        finally:
            for worker in crew:
                worker.stop()


def _run_here(jobs: Sequence[Job], sink: Sink, tick: Callable[[], None]) -> None:
    from .execute import execute

    for number, job in enumerate(jobs):

        def hear(event: events.Event, number: int = number) -> None:
            sink(number, event)
            tick()

        execute(job.folder, job.shared, hear, job.strategy)


def _replace(
    dead: _Worker,
    crew: list[_Worker],
    inbox: queue.Queue[tuple[_Worker, str | None]],
    errors: IO[bytes],
    sink: Sink,
    jobs: Sequence[Job],
) -> _Worker:
    status = dead.process.wait()
    fresh = _Worker(inbox, errors, dead.gpu)
    crew[crew.index(dead)] = fresh
    if dead.job is not None:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        folder = jobs[dead.job].folder
        message = f"{folder.parent.name}: its worker died ({how}); the run can be resumed"
        with contextlib.suppress(OSError):
            RunFolder(folder).write_failure(message)
        sink(dead.job, events.RunFailed(message))
    return fresh


def _visible(number: int) -> str:
    """The name of the number-th GPU that this process sees."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",")[number] if named else str(number)


class _Worker:
    """One worker process, the thread that reads its events, and the number of its job.

    gpu: the only one that it sees, as CUDA names it (None: all).
    """

    def __init__(
        self, inbox: queue.Queue[tuple[_Worker, str | None]], errors: IO[bytes], gpu: str | None
    ) -> None:
        self.job: int | None = None
        self.gpu = gpu
        self.process = subprocess.Popen(
            # -P: what lies in the current folder must not stand in for an installed module.
            [sys.executable, "-P", "-m", "streamlab.simulator.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is the parent's to handle
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "MKL_NUM_THREADS": "1",
                "PYTHONUNBUFFERED": "1",
                "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
                **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu, ONE_GPU: "1"}),
            },
        )
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def give(self, job: tuple[int, Job]) -> None:
        number, what = job
        self.job = number
        assert self.process.stdin is not None
        line = {"run": number, "folder": str(what.folder), "shared": str(what.shared)}
        with contextlib.suppress(BrokenPipeError):  # its death is noticed by the reader
            self.process.stdin.write((json.dumps(line) + "\n").encode())
            self.process.stdin.flush()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _read(self, inbox: queue.Queue[tuple[_Worker, str | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                inbox.put((self, line.decode()))
        inbox.put((self, None))
