"""A batch: what a strategy sees of a stream. No source index travels with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """images: (B, C, H, W) uint8; labels: (B,) int64; extras: (B, …) each; on one device."""

    images: Tensor
    labels: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def label_list(self) -> list[int]:
        """The labels as Python integers, fetched from the device once."""
        return self.labels.tolist()

    def with_extras(self, **extras: Tensor) -> Batch:
        """The same samples with more beside them (logits, say)."""
        return Batch(self.images, self.labels, {**self.extras, **extras})

    def at(self, rows: Tensor) -> Batch:
        """These rows (n,) of the batch, by number."""
        extras = {key: column[rows] for key, column in self.extras.items()}
        return Batch(self.images[rows], self.labels[rows], extras)

    def joined(self, other: Batch) -> Batch:
        """This batch's samples, then the other's; extras that both have."""
        images = torch.cat([self.images, other.images])
        labels = torch.cat([self.labels, other.labels])
        if not (self.extras and other.extras):
            return Batch(images, labels)
        shared = sorted(self.extras.keys() & other.extras.keys())
        return Batch(
            images, labels, {key: torch.cat([self.extras[key], other.extras[key]]) for key in shared}
        )


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """Episodes side by side, E of them, on one device.

    support: (E, S, C, H, W) uint8; support_labels: (E, S) int64 in [0, way), the same in every episode;
    query: (E, Q, C, H, W); query_labels: (E, Q). way: classes of each.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    way: int

    def __len__(self) -> int:
        return len(self.support)

    @property
    def images(self) -> Tensor:
        """(E · (S + Q), C, H, W): all images, the supports first."""
        return torch.cat([self.support.flatten(0, 1), self.query.flatten(0, 1)])
