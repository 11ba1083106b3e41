"""Runs many run folders in persistent worker processes, one torch thread each.

A worker that dies, or of which nothing is heard for long, is replaced, and its run is reported as failed; it
can be resumed. Runs of a stranger's plugin have workers of their own, so that nothing that it does to its
process reaches other runs. With no workers the runs are executed in this process, one after another.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
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
_Inbox = queue.Queue[tuple["_Worker", "str | None"]]


@dataclass(frozen=True)
class Job:
    """A run folder to execute. strategy: the class itself, where no worker could import it. apart: the
    stranger's plugin that it runs, whose workers run nothing else (none: "").
    """

    folder: Path
    shared: Path
    strategy: type[Strategy] | None = None
    apart: str = ""


def run_jobs(
    jobs: Sequence[Job],
    workers: int,
    sink: Sink,
    log: Path,
    tick: Callable[[], None],
    gpus: Sequence[int] = (),
    patience: float = math.inf,
) -> None:
    """Execute the jobs; `sink(number, event)` hears all events, `tick()` is called when idle too.

    workers: 0 runs in this process. log: where the workers' standard error goes. gpus: the numbers of
    those that the workers are spread evenly over, each seeing one (none: each sees them all). patience:
    seconds of silence after which a worker is stopped.
    """
    if workers == 0:
        _run_here(jobs, sink, tick)
        return
    waiting = deque(enumerate(jobs))
    inbox: _Inbox = queue.Queue()
    crew: list[_Worker] = []
    with log.open("ab") as errors:
        try:
            for number in range(min(workers, len(jobs))):
                gpu = _visible(gpus[number % len(gpus)]) if gpus else None
                crew.append(_Worker(inbox, errors, gpu, waiting[0][1].apart))
                crew[-1].give(waiting.popleft())
            while waiting or any(worker.job is not None for worker in crew):
                _stop_the_silent(crew, patience)
                try:
                    worker, line = inbox.get(timeout=0.1)
                except queue.Empty:
                    tick()
                    continue
                worker.heard = time.monotonic()
                if worker not in crew:  # the last words of one that was replaced
                    continue
                if line is None:
                    worker = _replace(worker, crew, inbox, errors, sink, jobs, waiting)
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
                    _give_next(worker, crew, inbox, errors, waiting)
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


def _give_next(
    worker: _Worker, crew: list[_Worker], inbox: _Inbox, errors: IO[bytes], waiting: deque[tuple[int, Job]]
) -> None:
    """The first job that an idle worker may run; where there is none, a fresh worker has the first of all."""
    place = next((place for place, (_, job) in enumerate(waiting) if job.apart == worker.apart), None)
    if place is None:
        worker.stop()
        fresh = _Worker(inbox, errors, worker.gpu, waiting[0][1].apart)
        crew[crew.index(worker)] = fresh
        worker, place = fresh, 0
    worker.give(waiting[place])
    del waiting[place]


def _stop_the_silent(crew: Sequence[_Worker], patience: float) -> None:
    for worker in crew:
        if worker.job is not None and time.monotonic() - worker.heard > patience:
            worker.why = f"nothing was heard of it for {patience:g} s (--patience), and it was stopped"
            worker.end_group()


def _replace(
    dead: _Worker,
    crew: list[_Worker],
    inbox: _Inbox,
    errors: IO[bytes],
    sink: Sink,
    jobs: Sequence[Job],
    waiting: Sequence[tuple[int, Job]],
) -> _Worker:
    dead.end_group()
    status = dead.process.wait()
    fresh = _Worker(inbox, errors, dead.gpu, waiting[0][1].apart if waiting else "")
    crew[crew.index(dead)] = fresh
    if dead.job is not None:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        folder = jobs[dead.job].folder
        message = f"{folder.parent.name}: {dead.why or f'its worker died ({how})'}; the run can be resumed"
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

    gpu: the only one that it sees, as CUDA names it (None: all). apart: the stranger's plugin whose runs it
    has. heard: when something was heard of it; why: it was stopped.
    """

    def __init__(self, inbox: _Inbox, errors: IO[bytes], gpu: str | None, apart: str) -> None:
        self.job: int | None = None
        self.gpu, self.apart = gpu, apart
        self.heard, self.why = time.monotonic(), ""
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
        self.job, self.heard = number, time.monotonic()
        assert self.process.stdin is not None
        line = {"run": number, "folder": str(what.folder), "shared": str(what.shared)}
        with contextlib.suppress(BrokenPipeError):  # its death is noticed by the reader
            self.process.stdin.write((json.dumps(line) + "\n").encode())
            self.process.stdin.flush()

    def stop(self) -> None:
        self.end_group()
        self.process.wait()

    def end_group(self) -> None:
        """Kill it, and what a plugin has forked: all of its process group."""
        if self.process.returncode is None:  # not waited for yet, so that its number is its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def _read(self, inbox: _Inbox) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                inbox.put((self, line.decode()))
        inbox.put((self, None))
