"""A worker process: executes run folders that its parent names, and tells it the events.

Lines of JSON: jobs come in on standard input, events leave on what was standard output (prints of
plugins go to standard error). It exits at once when the parent's end of the pipe closes, so that
it never outlives a killed parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from . import events


def main() -> None:
    """Serve jobs until standard input closes."""
    keep_freed_memory()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.register_at_fork(after_in_child=lambda: os.dup2(nowhere, out.fileno()))  # what it forks tells nothing
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()

    from ..device import gpu_answers
    from .execute import execute

    while True:
        job = jobs.get()

        def send(event: events.Event, run: int = job["run"]) -> None:
            out.write(json.dumps({"run": run, **events.to_plain(event)}) + "\n")
            out.flush()

        ended = execute(Path(job["folder"]), Path(job["shared"]), send)
        broken = not ended.clean or (not ended.complete and not gpu_answers())
        out.write(json.dumps({"run": job["run"], "event": "done", "broken": broken}) + "\n")
        out.flush()
        if broken:
            os._exit(0)


def keep_freed_memory() -> None:
    """Tell glibc not to give freed memory back: a convolution's step then has no page faults.

    1.5 times on the small ConvNet; elsewhere than with glibc it does nothing.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 << 20)


def _read_jobs(jobs: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    if os.getpgrp() == os.getpid():  # a group of its own, with what a plugin has forked
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
