"""ALICE: a base trained by angular margins on classes and on mixtures of two, then the nearest means (Peng et
al., ECCV 2022).

As the authors' code: in the base session two views of each image go through the network and a projection
(two layers with batch normalisation), and cosines to the rows of a classifier are learned with CosFace's
margin; mixtures of two classes' images are classes of their own, one of each pair. Afterwards projection and
classifier are thrown away. A class is the mean feature of the samples nearest to it, as many of a base class
as of a later one. `mixtures` is 0 for CUB, which the authors begin from ImageNet's weights.

Theirs goes through a class's samples once and lets a nearer one take the first place whose sample is
farther, which is not always among the nearest; here they are the nearest. A base's epoch is chosen by what
the classifier says of held-out images (theirs: by means of projected features, on the test images).
`spare_rows`: their classifier has rows for the mixtures of later sessions too, which no sample is ever of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Range, Searched, at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.network import CosineHead, Network
from streamlab.nets.precision import full, in_precision
from streamlab.parts.prototypes import class_means, set_rows
from streamlab.strategy import Batch, ExperienceView, Strategy
from streamlab.training import BaseConfig

CITATION = """
@inproceedings{peng2022alice,
  title = {Few-Shot Class-Incremental Learning from an Open-Set Perspective},
  author = {Peng, Can and Zhao, Kun and Wang, Tianren and Li, Meng and Lovell, Brian C.},
  booktitle = {ECCV},
  year = {2022},
}
"""


class AngularHead(nn.Module):
    """A projection, and a row for each class, for each pair of base classes after them, and spare ones.

    among: (K,) bool, the base classes. Called on features (B, D) it gives (B, K) cosines times the scale.
    """

    def __init__(self, feature_size: int, among: Tensor, scale: float, width: int, spare: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(feature_size, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, width), nn.BatchNorm1d(width, affine=False),
        )  # fmt: skip
        base = int(among.sum())
        rows = torch.empty(len(among) + base * (base - 1) // 2 + spare, width)
        self.weight = nn.Parameter(nn.init.xavier_uniform_(rows))
        self.scale, self.classes = scale, len(among)
        place: Tensor = among.cumsum(0) - 1
        self.place: Tensor  # of a base class among them
        self.register_buffer("place", place)
        self.base = base

    def cosines(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, rows)."""
        return F.normalize(self.projection(features)) @ F.normalize(self.weight).T

    def of_pairs(self, one: Tensor, other: Tensor) -> Tensor:
        """(n,) and (n,) labels, unlike -> (n,) the rows of their mixtures; which comes first is the same."""
        first, second = self.place[torch.minimum(one, other)], self.place[torch.maximum(one, other)]
        return self.classes + (2 * self.base - first - 1) * first // 2 + second - first - 1

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * self.cosines(features)[:, : self.classes]


def cosface_loss(cosines: Tensor, labels: Tensor, scale: float, margin: float) -> Tensor:
    """(B, K) cosines, (B,) labels -> cross-entropy of scale · cosine, the label's less a margin.

    Source: Wang et al., CVPR 2018 (CosFace), eq. 4.
    """
    own = F.one_hot(labels, cosines.shape[1]).to(cosines)
    return F.cross_entropy(scale * (cosines - margin * own), labels)


@dataclass(frozen=True)
class AngularBase:
    """Margins on classes and on mixtures of two, over two views."""

    scale: float
    margin: float
    projection: int
    mixtures: int
    spare_rows: int
    name: ClassVar[str] = "alice"
    views: ClassVar[int] = 2

    def head(self, feature_size: int, among: Tensor, config: BaseConfig) -> nn.Module:
        return AngularHead(feature_size, among.cpu(), self.scale, self.projection, self.spare_rows)

    def loss(self, network: Network, images: Tensor, labels: Tensor, among: Tensor) -> Tensor:
        count = len(labels)
        orders = [torch.randperm(count).to(labels.device) for _ in range(self.mixtures)]
        shares = torch.distributions.Beta(20.0, 20.0).sample((self.mixtures, count)).to(labels.device)
        return self.loss_of(network, images, labels, orders, list(shares))

    def loss_of(
        self, network: Network, images: Tensor, labels: Tensor, orders: list[Tensor], shares: list[Tensor]
    ) -> Tensor:
        """The mean over both views (2 B, C, H, W) of the loss of them and of their mixtures. A scalar.

        Image i is mixed with image order[i], by share[i] of the former, where their labels differ; a share
        outside 0.4..0.6 is a half. Both views are mixed alike. One image alone has no deviation to be
        normalised by, and teaches nothing.
        """
        if len(labels) == 1:
            return network.features(images).sum() * 0
        head, precision = cast(AngularHead, network.head), network.backbone.precision
        one, other, share = _pairs(labels, orders, shares)
        targets = torch.cat([labels, head.of_pairs(labels[one], labels[other])])
        share = share.to(torch.get_default_dtype())[:, None, None, None]
        losses = []
        for part in torch.split(images, len(labels)):
            view = network.scaled(part)
            mixed = share * view[one] + (1 - share) * view[other]
            with in_precision(precision, images.device):
                features = network.backbone(torch.cat([view, mixed]))
            losses.append(cosface_loss(head.cosines(full(features)), targets, self.scale, self.margin))
        return torch.stack(losses).mean()


def _pairs(labels: Tensor, orders: list[Tensor], shares: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(n,), (n,), (n,): which images are mixed with which, and by what share of the first."""
    none = labels[:0]
    rows = torch.arange(len(labels), device=labels.device)
    one = torch.cat([none, *(rows for _ in orders)])
    other = torch.cat([none, *orders])
    share = torch.cat([none.to(torch.get_default_dtype()), *shares])
    unlike = labels[one] != labels[other]
    share = torch.where((share < 0.4) | (share > 0.6), 0.5, share)
    return one[unlike], other[unlike], share[unlike]


@dataclass(frozen=True)
class Options:
    """scale, margin: of the angular loss; projection: its width; mixtures: how often a batch is mixed (0:
    never); spare_rows: rows of the classifier that no sample is of; nearest: samples that a class's mean is
    taken of (0: all).
    """

    scale: float = 30.0
    margin: float = 0.4
    projection: int = 2048
    mixtures: int = 4
    spare_rows: int = 0
    nearest: int = 5

    def __post_init__(self) -> None:
        at_least("alice", "projection", self.projection, 1)
        for name in ("scale", "margin", "mixtures", "spare_rows", "nearest"):
            at_least("alice", name, getattr(self, name), 0)


def nearest_to_mean(features: Tensor, count: int) -> Tensor:
    """(n, D) -> (k,) rows, k <= count: those whose cosine to the mean of all is the largest."""
    cosines = F.normalize(features) @ F.normalize(features.mean(0), dim=0)
    return cosines.topk(min(count, len(features))).indices


class AngularMeans(Strategy):
    """The nearest of the classes' means, by cosine."""

    options: Options
    needs = Needs(kinds=SESSIONS)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet", "blocks": 3}
    base = AngularBase(
        Options.scale, Options.margin, Options.projection, Options.mixtures, Options.spare_rows
    )
    frozen = True
    search_space: ClassVar[dict[str, Searched]] = {"margin": Range(0.1, 0.5)}

    def base_training(self) -> AngularBase:
        given = self.options
        return AngularBase(given.scale, given.margin, given.projection, given.mixtures, given.spare_rows)

    def setup(self) -> None:
        self.replace_head(self.net.head)

    def replace_head(self, head: nn.Module) -> None:
        """What the base was trained under is thrown away; the rows are means."""
        setting = self.setting
        rows = CosineHead(self.net.backbone.feature_size, setting.num_classes, setting.base.temperature)
        super().replace_head(rows.requires_grad_(False))

    def observe(self, batch: Batch) -> dict[str, Tensor]:
        return {}  # nothing is learned by gradient after the base

    def end_experience(self, view: ExperienceView) -> None:
        embeddings, labels = view.embeddings(self), view.labels
        for label in torch.unique(labels).tolist():
            own = embeddings[labels == label]
            if self.options.nearest:
                own = own[nearest_to_mean(own, self.options.nearest)]
            set_rows(self.net.head, *class_means(own, torch.full((len(own),), label, device=own.device)))
