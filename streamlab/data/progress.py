"""Who is told how long work on data gets on: decoding happens deep in a call, and a terminal shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much


def _nobody(what: str, done: int, count: int) -> None:
    """Nothing is shown."""


_listener: ContextVar[Progress] = ContextVar("_listener", default=_nobody)


def listener() -> Progress:
    """Who is told."""
    return _listener.get()


@contextmanager
def told(hear: Progress) -> Iterator[None]:
    """Inside, `hear(what, done, in all)` is told, whoever works."""
    token = _listener.set(hear)
    try:
        yield
    finally:
        _listener.reset(token)
