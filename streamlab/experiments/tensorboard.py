"""TensorBoard as a listener: a run's evaluations and losses as scalars, a folder a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import StreamlabError
from ..simulator import events
from .grid import Cell

Hear = Callable[[Cell, events.Event], None]


@contextmanager
def also_to_tensorboard(folder: Path | None, hear: Hear) -> Iterator[Hear]:
    """`hear`, and where a folder is given also the writing of its scalars.

    Raises StreamlabError where the tensorboard package is not installed.
    """
    if folder is None:
        yield hear
        return
    try:
        make = import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        raise StreamlabError(
            "tensorboard is not installed; pip install 'streamlab-cl[tensorboard]'"
        ) from None
    writers: dict[str, Any] = {}

    def both(cell: Cell, event: events.Event) -> None:
        hear(cell, event)
        if isinstance(event, events.Evaluated):
            if cell.folder not in writers:
                writers[cell.folder] = make(str(folder / cell.folder))
            for name, value in scalars(event).items():
                writers[cell.folder].add_scalar(name, value, event.samples_seen)

    try:
        yield both
    finally:
        for writer in writers.values():
            writer.close()


def scalars(event: events.Evaluated) -> dict[str, float]:
    """What is written of an evaluation, by TensorBoard's tag."""
    return {
        "accuracy": event.accuracy,
        **{f"metrics/{name}": value for name, value in event.metrics.items()},
        **{f"losses/{name}": value for name, value in event.losses.items()},
        "memory/held_bytes": float(sum(event.held.values())),
        "seconds/training": event.train_seconds,
        "seconds/evaluation": event.evaluation_seconds,
    }
