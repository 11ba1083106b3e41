"""The current batch beside its replayed exemplars, as a frozen network embeds them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..batch import Batch
from ..memory.buffer import Buffer


class CurrentBatch:
    """Embeds the current batch once for all its updates, and exemplars drawn anew for each of them.

    Call `end` in `remember`, so that no images are kept beyond their batch.
    """

    def __init__(self) -> None:
        self.batch: Batch | None = None
        self.embedding: Tensor | None = None

    def with_replay(
        self, batch: Batch, buffer: Buffer | None, replay_size: int, embed: Callable[[Tensor], Tensor]
    ) -> tuple[Batch, Tensor]:
        """The batch joined with `replay_size` exemplars, and the embeddings (n, D) of all their images.

        buffer: None means that nothing is replayed. embed: (n, C, H, W) uint8 -> (n, D).
        """
        if self.batch is not batch or self.embedding is None:
            self.batch, self.embedding = batch, embed(batch.images)
        if buffer is None or not len(buffer):
            return batch, self.embedding
        replayed = buffer.draw(replay_size)
        return batch.joined(replayed), torch.cat([self.embedding, embed(replayed.images)])

    def end(self) -> None:
        """The batch is over."""
        self.batch = self.embedding = None
