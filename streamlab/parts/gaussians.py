"""A Gaussian of features for every class, and a classifier that is aligned on what is drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..schedules import Moment, rate_factor
from ..training import OptimizerConfig

LEAST = 1e-4
"""What is added to the diagonal of every covariance."""
_COSINE = OptimizerConfig(schedule="cosine")  # how the alignment's rate falls, an epoch at a time


class Gaussians:
    """means: (K, D); covariances: (K, D, D), of classes that have none yet 0."""

    ledger_kind: ClassVar[str] = "statistics"

    def __init__(self, classes: int, size: int, device: torch.device) -> None:
        self.means = torch.zeros(classes, size, device=device)
        self.covariances = torch.zeros(classes, size, size, device=device)

    def take(self, label: int, features: Tensor) -> None:
        """Keep the Gaussian of a class's features (n, D); of one sample, of no width but the least."""
        exact = features.double()
        spread = torch.cov(exact.T) if len(exact) > 1 else exact.new_zeros(self.covariances.shape[1:])
        least = LEAST * torch.eye(len(spread), dtype=exact.dtype, device=exact.device)
        self.means[label] = exact.mean(0).to(self.means.dtype)
        self.covariances[label] = (spread + least).to(self.covariances.dtype)

    def known(self) -> Tensor:
        """(c,) int64: the classes that have one."""
        return torch.nonzero(self.covariances.diagonal(dim1=1, dim2=2).any(1)).flatten()


@dataclass(frozen=True)
class Alignment:
    """epochs: 0 leaves it out; samples: drawn of each class in each of them, and of a step; lr: where the
    rate begins, which falls by a cosine, an epoch at a time.
    """

    epochs: int
    samples: int
    lr: float
    weight_decay: float


def align(
    head: nn.Module,
    means: Tensor,
    covariances: Tensor,
    alignment: Alignment,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Train a classifier (D) -> (K') by SGD with momentum on features drawn anew every epoch.

    means: (c, D) and covariances: (c, D, D) of the classes. loss: of features (B, D) and (B,) which of the c
    classes each is drawn from.
    """
    factors, samples = torch.linalg.cholesky(covariances), alignment.samples
    steps = torch.optim.SGD(
        head.parameters(), alignment.lr, momentum=0.9, weight_decay=alignment.weight_decay
    )
    targets = torch.arange(len(means), device=means.device).repeat_interleave(samples)
    with torch.enable_grad():
        for epoch in range(alignment.epochs):
            moment = Moment(0, 1, epoch, alignment.epochs)
            steps.param_groups[0]["lr"] = alignment.lr * rate_factor(_COSINE, moment)
            noise = torch.randn(len(means), samples, means.shape[1], device=means.device)
            drawn = (means[:, None] + noise @ factors.transpose(1, 2)).flatten(0, 1)
            for part in torch.split(torch.randperm(len(drawn), device=drawn.device), samples):
                found = loss(drawn[part], targets[part])
                steps.zero_grad()
                torch.autograd.backward(found)
                steps.step()
