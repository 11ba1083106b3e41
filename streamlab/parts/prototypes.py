"""Class prototypes: the running mean of each class's features, and their spread around it."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def class_means(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) features, (N,) labels -> the classes there are (C,), ascending, and their means (C, D)."""
    classes, place = torch.unique(labels, return_inverse=True)
    sums = features.new_zeros(len(classes), features.shape[1]).index_add_(0, place, features)
    return classes, sums / torch.bincount(place)[:, None]


def unit_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(n, D), (n,) -> (classes, D): of features brought to length 1 the mean, so too; 0 of a class without
    any.
    """
    sums = features.new_zeros(classes, features.shape[1]).index_add_(0, labels, F.normalize(features))
    return F.normalize(sums)


def nearest_of_length_one(embedding: Tensor, means: Tensor) -> Tensor:
    """(B, D), (K, D) -> (B, K): of vectors of length 1, the nearest mean has the largest product; -2 of
    none.
    """
    return (F.normalize(embedding) @ means.T).masked_fill(~means.any(1), -2.0)


@torch.no_grad()
def set_rows(head: nn.Module, classes: Tensor, rows: Tensor) -> None:
    """Give classes (n,) of a classifier these rows of its weight (n, D)."""
    assert isinstance(head.weight, Tensor)
    head.weight[classes] = rows


class Prototypes:
    """means: (K, D); counts: (K,) samples seen; spreads: (K,) mean squared distance to the mean, a dimension.

    decay: 1 keeps exact means of all samples (features that stay as they are); below 1, older samples
    of a class fade by that factor a sample (features that move).
    """

    ledger_kind: ClassVar[str] = "statistics"

    def __init__(self, num_classes: int, size: int, device: torch.device, decay: float = 1.0) -> None:
        self.decay = decay
        self.means = torch.zeros(num_classes, size, device=device)
        self.counts = torch.zeros(num_classes, device=device)
        self.spreads = torch.zeros(num_classes, device=device)

    @property
    def known(self) -> Tensor:
        """(K,) bool: the classes that have a prototype."""
        return self.counts > 0

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Take in a batch: features (B, D), labels (B,) int64 (Chan et al. 1983's pairwise update)."""
        size = features.shape[1]
        fresh = torch.zeros_like(self.counts).index_add_(
            0, labels, torch.ones_like(labels, dtype=features.dtype)
        )
        divisor = fresh.clamp(min=1)
        means = torch.zeros_like(self.means).index_add_(0, labels, features) / divisor[:, None]
        distances = (features - means[labels]).square().sum(1) / size
        spreads = torch.zeros_like(self.spreads).index_add_(0, labels, distances)
        old = self.counts * self.decay**fresh
        total = (old + fresh).clamp(min=1e-12)
        gap = means - self.means
        between = gap.square().sum(1) / size * old * fresh / total
        seen = fresh > 0
        self.spreads.copy_(torch.where(seen, (self.spreads * old + spreads + between) / total, self.spreads))
        self.means += torch.where(seen[:, None], gap * (fresh / total)[:, None], torch.zeros(()).to(gap))
        self.counts.copy_(torch.where(seen, old + fresh, self.counts))

    @torch.no_grad()
    def replace(self, label: int, features: Tensor) -> None:
        """Set one class's prototype from all its features (N, D); nothing happens where N is 0.

        Its spread is then the trace of their covariance (over N - 1) by D, as in PASS's code.
        """
        if len(features):
            self.counts[label] = len(features)
            self.means[label] = features.mean(0)
            squares = (features - self.means[label]).square().sum()
            self.spreads[label] = squares / (max(1, len(features) - 1) * features.shape[1])

    def nearest(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K) negative squared distances to the means; -inf for classes without one."""
        squares = features.square().sum(1, keepdim=True) + self.means.square().sum(1)
        distances = squares - 2 * features @ self.means.T
        return -distances.masked_fill(~self.known, float("inf"))
