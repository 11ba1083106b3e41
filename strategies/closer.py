"""CLOSER: a base whose classes lie near to one another (Oh et al., ECCV 2024, arXiv 2410.05627).

Base training sees three views of each image. Beside cross-entropy on cosines, views of one image are told
from all others (a contrastive loss without labels), which spreads features out, and the mean cosine between
features of unlike classes is made larger, not smaller. Afterwards a class is the mean of its features, as
proto-cosine's. Equal to the authors' code in a test; `between` is 1 for CIFAR-100, 0.5 for miniImageNet and
1.5 for CUB, where `contrastive` is 0.01, too, and their temperature (`base.temperature`) is 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Range, Searched, at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.network import CosineHead, Network
from streamlab.parts.contrastive import supervised_contrastive_loss
from streamlab.parts.losses import cross_entropy
from streamlab.parts.prototypes import class_means, set_rows
from streamlab.strategy import Batch, ExperienceView, Strategy
from streamlab.training import BaseConfig

CITATION = """
@inproceedings{oh2024closer,
  title = {{CLOSER}: Towards Better Representation Learning for Few-Shot Class-Incremental Learning},
  author = {Oh, Junghun and Baik, Sungyong and Lee, Kyoung Mu},
  booktitle = {ECCV},
  year = {2024},
}
"""
TEMPERATURE = 1 / 32  # of the contrastive loss


def mean_cosine_between(features: Tensor, labels: Tensor) -> Tensor:
    """(n, D) of length 1, (n,) -> the mean cosine over pairs of unlike labels; 0 where there is none."""
    unlike = (labels[:, None] != labels).triu()
    return (features @ features.T * unlike).sum() / unlike.sum().clamp(min=1)


@dataclass(frozen=True)
class CloserBase:
    """Cross-entropy + contrastive · (views of an image) - between · (cosine between classes)."""

    contrastive: float
    between: float
    views: int
    name: ClassVar[str] = "closer"

    def head(self, feature_size: int, among: Tensor, config: BaseConfig) -> nn.Module:
        return CosineHead(feature_size, len(among), config.temperature)

    def loss(self, network: Network, images: Tensor, labels: Tensor, among: Tensor) -> Tensor:
        """(views · B, C, H, W) uint8, (B,) -> a scalar."""
        features, repeated = network.features(images), labels.repeat(self.views)
        task = cross_entropy(network.head(features), repeated, among)
        points = F.normalize(features)
        views = points.view(self.views, len(labels), -1).transpose(0, 1)
        images_apart = torch.arange(len(labels), device=labels.device)
        spread = supervised_contrastive_loss(views, images_apart, TEMPERATURE)
        return task + self.contrastive * spread - self.between * mean_cosine_between(points, repeated)


@dataclass(frozen=True)
class Options:
    """contrastive, between: weights of the contrastive loss and of the cosine between classes; views: of each
    image.
    """

    contrastive: float = 0.1
    between: float = 1.0
    views: int = 3

    def __post_init__(self) -> None:
        at_least("closer", "contrastive", self.contrastive, 0)
        at_least("closer", "between", self.between, 0)
        at_least("closer", "views", self.views, 2)


class CloserPrototypes(Strategy):
    """Class means on a base whose classes lie near to one another."""

    options: Options
    needs = Needs(kinds=SESSIONS)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet", "blocks": 3}
    base = CloserBase(Options.contrastive, Options.between, Options.views)
    frozen = True
    search_space: ClassVar[dict[str, Searched]] = {"between": Range(0.1, 2.0)}

    def base_training(self) -> CloserBase:
        given = self.options
        return CloserBase(given.contrastive, given.between, given.views)

    def observe(self, batch: Batch) -> dict[str, Tensor]:
        return {}  # nothing is learned by gradient after the base

    def end_experience(self, view: ExperienceView) -> None:
        set_rows(self.net.head, *class_means(view.embeddings(self), view.labels))
