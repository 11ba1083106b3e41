"""What is served: training indices in order, and one experience's data as a strategy may see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..augmentation.views import Views
from ..batch import Batch, images_at_once
from ..data.split import Split
from ..randomness import Draws

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..setting import Embeds


@dataclass(frozen=True, eq=False)
class Order:
    """(n,) training indices in the order in which they are served, on the host and the device."""

    host: NDArray[np.int64]
    device: Tensor

    def __len__(self) -> int:
        return len(self.host)

    def __getitem__(self, part: slice) -> Order:
        return Order(self.host[part], self.device[part])


@dataclass(frozen=True, eq=False)
class View:
    """One experience's training data (the kernel's ExperienceView)."""

    number: int
    classes: tuple[int, ...]
    indices: Tensor
    split: Split
    seed: int
    cached: Callable[[Tensor], Tensor] | None = None
    views: Views | None = None
    epochs: int = 1
    updates: int = 1

    @property
    def labels(self) -> Tensor:
        """(n,) int64, in stream order."""
        return self.split.labels_at(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def of_class(self, label: int) -> Batch:
        """All its samples of one class."""
        rows = self.indices[self.labels == label]
        return Batch(self.split.images_at(rows), self.split.labels_at(rows))

    def embeddings(self, strategy: Embeds) -> Tensor:
        """(n, D) its samples' embeddings as at an evaluation, computed once where they are frozen."""
        if self.cached is not None and strategy.frozen:
            return self.cached(self.indices)
        parts = torch.split(self.indices, images_at_once(self.split.rows.shape))
        return torch.cat([strategy.embeddings_of(self.split.images_at(part)) for part in parts])

    def batches(self, epochs: int, size: int) -> Iterator[Batch]:
        """Shuffled batches to learn from, every epoch in an order and in views of its own."""
        for epoch in range(epochs):
            order = torch.from_numpy(
                Draws(self.seed, "view", self.number, epoch).permutation(len(self.indices))
            )
            parts = torch.split(self.indices[order.to(self.indices.device)], size)
            for number, rows in enumerate(parts):
                if number + 1 < len(parts):
                    self.split.ahead(parts[number + 1])
                images, labels = self.split.images_at(rows), self.split.labels_at(rows)
                wholes = self.split.wholes_at(rows) if self.views else None
                yield Batch(images, labels, wholes=wholes, views=self.views).in_view()
