"""Streaming linear discriminant analysis (Hayes and Kanan, CVPR-W 2020) on a backbone's features.

No gradient: class means and one shared covariance are updated sample by sample, exactly as the
authors' code does, but a batch at a time. The default backbone is `pixels`; another one is used
as it was initialised, frozen. The covariance starts at zero (the paper's streaming variant).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from streamlab.config import Choice, Searched, within
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{hayes2020slda,
  title = {Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis},
  author = {Hayes, Tyler L. and Kanan, Christopher},
  booktitle = {CVPR Workshops},
  year = {2020},
}
"""


@dataclass(frozen=True)
class Options:
    """shrinkage: epsilon of the paper's eq. 3, in 0..1."""

    shrinkage: float = 1e-2

    def __post_init__(self) -> None:
        within("slda", "shrinkage", self.shrinkage, 0, 1)


class StreamingLDA(Strategy):
    """Means (C, D), scatter (D, D), and the linear classifier they give."""

    options: Options
    backbone: ClassVar[Mapping[str, Any]] = {"name": "pixels"}
    search_space: ClassVar[Mapping[str, Searched]] = {"shrinkage": Choice((1e-4, 1e-3, 1e-2, 1e-1))}
    frozen = True
    ledger_kinds: ClassVar[dict[str, str]] = dict.fromkeys(
        ("means", "counts", "scatter", "weights", "biases"), "statistics"
    )

    def setup(self) -> None:
        size, classes, device = (
            self.net.backbone.feature_size,
            self.setting.num_classes,
            self.setting.device,
        )
        self.net.requires_grad_(False)
        self.replace_head(torch.nn.Identity())
        self.means = torch.zeros(classes, size, device=device)
        self.counts = torch.zeros(classes, device=device)
        self.scatter = torch.zeros(size, size, device=device)
        self.weights = torch.zeros(classes, size, device=device)
        self.biases = torch.zeros(classes, device=device)

    @torch.no_grad()
    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        features = self.embed(batch.images)
        labels, classes = batch.labels, torch.arange(len(self.counts), device=features.device)
        of_class = (labels[:, None] == classes).to(features.dtype)
        before_it = (
            (labels[:, None] == labels).to(features.dtype).tril(-1)
        )  # samples of its class, earlier here
        count, mean = self.counts[labels][:, None], self.means[labels]
        number = before_it.sum(1, keepdim=True)
        deviations = features - (count * mean + before_it @ features) / (count + number).clamp(min=1)
        counts = self.counts + of_class.sum(0)
        sums = self.counts[:, None] * self.means + of_class.T @ features
        self.means = torch.where(of_class.any(0)[:, None], sums / counts.clamp(min=1)[:, None], self.means)
        self.counts = counts
        # Eq. 2, t samples before this one: S <- S + t / (t + 1) · d dᵀ, with S = t · Sigma.
        before = self.counts.sum() - len(batch)
        times = before + torch.arange(len(batch), device=features.device)
        self.scatter += (deviations * (times / (times + 1))[:, None]).T @ deviations
        return {"deviation": deviations.square().mean()}

    @torch.no_grad()
    def consolidate(self) -> None:
        """Eq. 3: W = mu · ((1 - eps) · Sigma + eps · I)^-1, b = -0.5 · diag(W muᵀ)."""
        sigma, means = (self.scatter / self.counts.sum().clamp(min=1)).double(), self.means.double()
        identity = torch.eye(len(sigma), dtype=torch.float64, device=sigma.device)
        shrunk = (1 - self.options.shrinkage) * sigma + self.options.shrinkage * identity
        weights = torch.linalg.solve(shrunk, means.T).T
        self.weights.copy_(weights)
        self.biases.copy_(-0.5 * (weights * means).sum(1))

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return embedding @ self.weights.T + self.biases
