"""A batch: what a strategy sees of a stream. No source index travels with it.

Where a stream is augmented, a strategy learns from views, and keeps the images as they lie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from .augmentation.views import Parts, Views


def images_at_once(shape: Sequence[int]) -> int:
    """Images of (C, H, W) that are computed at a time where nothing is learned: 500, or 8 MiB of pixels."""
    return max(1, min(500, (8 << 20) // math.prod(shape)))


@dataclass(frozen=True, eq=False)
class Batch:
    """images: (B, C, H, W) uint8, to be learned from; labels: (B,) int64; extras: (B, …) each; on one device.

    lying: the same images as they lie in the source, which a buffer keeps (None: `images` are they). wholes:
    the pictures that they are the middle of, where the source keeps those. views: what makes further views of
    them (None: there is no augmentation).
    """

    images: Tensor
    labels: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)
    lying: Tensor | None = None
    wholes: Parts | None = None
    views: Views | None = None
    host_labels: list[int] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def label_list(self) -> list[int]:
        """The labels as Python integers: those of the host, where they are there, else fetched once."""
        return self.labels.tolist() if self.host_labels is None else self.host_labels

    @property
    def originals(self) -> Tensor:
        """(B, C, H, W) uint8: the images as they lie."""
        return self.images if self.lying is None else self.lying

    def view(self) -> Tensor:
        """(B, C, H, W) uint8: another view of the same samples, by draws of its own."""
        return self.images if self.views is None else self.views.of(self.originals, self.wholes)

    def in_view(self) -> Batch:
        """The same samples, to be learned from in another view."""
        if self.views is None or not self.views.operations:
            return self
        return replace(self, images=self.view(), lying=self.originals)

    def with_extras(self, **extras: Tensor) -> Batch:
        """The same samples with more beside them (logits, say)."""
        return replace(self, extras={**self.extras, **extras})

    def at(self, rows: Tensor) -> Batch:
        """These rows (n,) of the batch, by number."""
        extras = {key: column[rows] for key, column in self.extras.items()}
        lying = None if self.lying is None else self.lying[rows]
        wholes = None if self.wholes is None else tuple(self.wholes[row] for row in rows.tolist())
        return Batch(self.images[rows], self.labels[rows], extras, lying, wholes, self.views)

    def joined(self, other: Batch) -> Batch:
        """This batch's samples, then the other's; extras that both have."""
        images = torch.cat([self.images, other.images])
        labels = torch.cat([self.labels, other.labels])
        shared = sorted(self.extras.keys() & other.extras.keys()) if self.extras and other.extras else []
        extras = {key: torch.cat([self.extras[key], other.extras[key]]) for key in shared}
        views, wholes = self.views or other.views, None
        if self.wholes is not None or other.wholes is not None:
            first, second = (batch.wholes or (None,) * len(batch) for batch in (self, other))
            wholes = (*first, *second)
        if self.lying is None and other.lying is None:
            return Batch(images, labels, extras, None, wholes, views)
        return Batch(images, labels, extras, torch.cat([self.originals, other.originals]), wholes, views)


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """Episodes side by side, E of them, on one device.

    support: (E, S, C, H, W) uint8; support_labels: (E, S) int64 in [0, way), the same in every episode;
    query: (E, Q, C, H, W); query_labels: (E, Q). way: classes of each. wholes: the pictures that supports and
    queries are the middle of, where the source keeps those.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    way: int
    wholes: tuple[Parts | None, Parts | None] = (None, None)

    def __len__(self) -> int:
        return len(self.support)

    def viewed(self, views: Views) -> EpisodeBatch:
        """The same episodes, each image in a view of its own."""
        lying = zip((self.support, self.query), self.wholes, strict=True)
        shown = [views.of(part.flatten(0, 1), wholes) for part, wholes in lying]
        support, query = (part.view(len(self), -1, *part.shape[1:]) for part in shown)
        return replace(self, support=support, query=query)

    def parted(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(E · (S + Q), D) features of `images` -> (E, S, D) of supports, (E, Q, D) of queries."""
        cut = self.support_labels.numel()
        support, query = (
            part.view(len(self), -1, part.shape[1]) for part in (features[:cut], features[cut:])
        )
        return support, query

    @property
    def images(self) -> Tensor:
        """(E · (S + Q), C, H, W): all images, the supports first."""
        return torch.cat([self.support.flatten(0, 1), self.query.flatten(0, 1)])
