"""The batch that is on: joined with what is replayed, and what a frozen network makes of it, once."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..batch import Batch
from ..memory.buffer import Buffer


class Serving:
    """Keeps both for all updates of one batch; `end` it where the batch is remembered: none is held."""

    def __init__(self) -> None:
        self.held: tuple[Batch, Batch, Tensor] | None = None

    def of(
        self, batch: Batch, buffer: Buffer | None, replay_size: int, given: Callable[[Tensor], Tensor]
    ) -> tuple[Batch, Tensor]:
        """The batch with `replay_size` exemplars drawn beside it, and `given` of all their images.

        buffer: None where none are replayed.
        """
        if self.held is None or self.held[0] is not batch:
            both = batch.joined(buffer.draw(replay_size)) if buffer is not None else batch
            self.held = batch, both, given(both.images)
        return self.held[1:]

    def end(self) -> None:
        """The batch is over."""
        self.held = None
