"""NC-FSCIL: features learn to lie where an equiangular classifier wants them (Yang et al., ICLR 2023,
arXiv 2302.03004).

A class's row is fixed beforehand, one for every class that may ever come, any two as far apart as all others.
The base session moves backbone and projection so that features point to their rows (dot regression), on
batches of which two in five are mixed by MixUp and two in five by CutMix. Then the backbone is frozen. Each
later session trains the projection on its shots' features, the mean features of the novel classes before
them, and those of the base classes, and forgets all but means.

As the authors' code: a batch that is mixed counts its first labels twice over, as mixed and as they are;
the rate of a session rises over five steps, falls by a cosine to a hundredth, and is a thousandth in the last
five; `balanced` weighs classes of a batch alike, and `mixing` mixes pairs of projected features, both for
CIFAR-100 alone. Defaults are CIFAR-100's; miniImageNet's and CUB's are in the reference.

Differs: MixUp's images are whole levels, and partners are a batch's neighbours (the batch is shuffled); the
base's rate is the section `base`'s, where theirs rises over 100 steps and stays low in the last ten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Range, Searched, at_least, within
from streamlab.errors import StreamlabError
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.network import Network
from streamlab.nets.optimizer import SGD, set_rate
from streamlab.parts.equiangular import dot_regression_loss, equiangular_frame
from streamlab.parts.mixing import Mixed, cutmix, mixup
from streamlab.parts.prototypes import class_means
from streamlab.parts.resampling import shuffled
from streamlab.strategy import Batch, ExperienceView, Strategy
from streamlab.training import BaseConfig

CITATION = """
@inproceedings{yang2023neural,
  title = {Neural Collapse Inspired Feature-Classifier Alignment for Few-Shot Class-Incremental Learning},
  author = {Yang, Yibo and Yuan, Haobo and Li, Xiangtai and Lin, Zhouchen and Torr, Philip and Tao, Dacheng},
  booktitle = {ICLR},
  year = {2023},
}
"""
WEIGHT = 10.0  # of the loss
MIXED = 0.4  # of the base's batches, by MixUp; as many by CutMix
MOMENTUM = 0.9
WARM_UP = COOL_DOWN = 5  # steps of a session
LEAST = 0.01  # share of the rate that the cosine ends at; a tenth of it while it cools down


class EquiangularHead(nn.Module):
    """A projection of features, and their cosines to rows (classes, width) that stay as they are drawn."""

    def __init__(self, feature_size: int, classes: int, width: int) -> None:
        super().__init__()
        inner = 2 * feature_size
        self.deep = nn.Sequential(
            nn.Linear(feature_size, inner), nn.LayerNorm(inner), nn.LeakyReLU(0.1),
            nn.Linear(inner, inner), nn.LayerNorm(inner), nn.LeakyReLU(0.1),
            nn.Linear(inner, width, bias=False),
        )  # fmt: skip
        self.direct = nn.Linear(feature_size, width, bias=False)
        self.rows: Tensor
        self.register_buffer("rows", equiangular_frame(classes, width))

    def project(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, width)."""
        return cast(Tensor, self.deep(features) + self.direct(features))

    def cosines(self, projected: Tensor, labels: Tensor) -> Tensor:
        """(B, width), (B,) -> (B,): of each to the row of its label."""
        return (F.normalize(projected) * self.rows[labels]).sum(1)

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.project(features)) @ self.rows.T


@dataclass(frozen=True)
class EquiangularBase:
    """Dot regression on plain and mixed batches."""

    width: int
    name: ClassVar[str] = "nc-fscil"

    def head(self, feature_size: int, among: Tensor, config: BaseConfig) -> nn.Module:
        if len(among) > self.width:
            raise StreamlabError(
                f"nc-fscil: width is {self.width}, and must be at least the number of classes ({len(among)})"
            )
        return EquiangularHead(feature_size, len(among), self.width)

    def loss(self, network: Network, images: Tensor, labels: Tensor, among: Tensor) -> Tensor:
        kind = float(torch.rand(()))
        if kind < MIXED:
            return self.loss_of(network, mixup(images, labels, 0.8))
        if kind < 2 * MIXED:
            return self.loss_of(network, cutmix(images, labels))
        return self.loss_of(network, Mixed(images, labels, labels, 0.0), again=0.0)

    def loss_of(self, network: Network, mixed: Mixed, again: float = 1.0) -> Tensor:
        """The loss of what is mixed, and `again` times that of its first labels alone. A scalar."""
        head = cast(EquiangularHead, network.head)
        projected = head.project(network.features(mixed.images))

        def of(vectors: Tensor, labels: Tensor) -> Tensor:
            return dot_regression_loss(head.cosines(vectors, labels))

        return WEIGHT * (mixed.loss(projected, of) + again * of(projected, mixed.labels))


@dataclass(frozen=True)
class Options:
    """width: of the projection, at least the number of classes. Of the sessions: steps, and copies of the
    means of earlier novel classes, of each session (the last number is that of all that follow); batch_size,
    rate, weight_decay; balanced: classes of a batch weigh alike; mixing: how often pairs of a batch's
    projected features are halved into one (0: never).
    """

    width: int = 512
    steps: tuple[int, ...] = (50, 75, 100, 120, 140, 160, 200)
    copies: tuple[int, ...] = (1,)
    batch_size: int = 64
    rate: float = 0.25
    weight_decay: float = 5e-4
    balanced: bool = True
    mixing: float = 0.75

    def __post_init__(self) -> None:
        for name in ("steps", "copies"):
            given = getattr(self, name)
            if not given or min(given) < 1:
                raise StreamlabError(
                    f"nc-fscil: {name} needs numbers above 0, one for each session, as 50,75,100"
                )
        at_least("nc-fscil", "width", self.width, 2)
        at_least("nc-fscil", "batch_size", self.batch_size, 1)
        at_least("nc-fscil", "weight_decay", self.weight_decay, 0)
        within("nc-fscil", "mixing", self.mixing, 0, 1)
        if self.rate <= 0:
            raise StreamlabError(f"nc-fscil: rate is {self.rate}, and must be above 0")


def rate_factor(step: int, steps: int) -> float:
    """The share of the rate that step 1..steps of a session has."""
    falling = steps - COOL_DOWN
    warm = 1 - 0.9 * max(0.0, 1 - step / WARM_UP)
    if step > falling:
        return warm * LEAST / 10
    return warm * (LEAST + 0.5 * (1 - LEAST) * (cos(pi * step / falling) + 1))


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """(B,) labels -> (B,) weights: a class's add up to the same as any other's, and all to B."""
    counts = (labels[:, None] == torch.arange(classes, device=labels.device)).sum(0)
    return len(labels) / ((counts > 0).sum() * counts[labels])


class EquiangularSessions(Strategy):
    """A projection that is trained on means and shots, towards rows that were there from the beginning."""

    options: Options
    needs = Needs(kinds=SESSIONS, learning_backbone=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "resnet12", "width": 16}
    base = EquiangularBase(Options.width)
    frozen = True
    scores_are_logits = False
    ledger_kinds: ClassVar[dict[str, str]] = dict.fromkeys(("means", "session"), "statistics")
    search_space: ClassVar[dict[str, Searched]] = {"rate": Range(0.01, 0.5)}

    def setup(self) -> None:
        classes, device = self.setting.num_classes, self.setting.device
        self.means = torch.zeros(classes, self.net.backbone.feature_size, device=device)
        self.session = torch.full((classes,), -1, dtype=torch.int64, device=device)
        among = torch.ones(classes, dtype=torch.bool)
        self.replace_head(self.base_training().head(self.means.shape[1], among, self.setting.base))

    def base_training(self) -> EquiangularBase:
        return EquiangularBase(self.options.width)

    def replace_head(self, head: nn.Module) -> None:
        """Only the backbone is frozen after the base."""
        super().replace_head(head.requires_grad_(True))

    def observe(self, batch: Batch) -> dict[str, Tensor]:
        return {}  # it learns when a session has ended, from features

    def end_experience(self, view: ExperienceView) -> None:
        features, labels = view.embeddings(self), view.labels
        if view.number:
            self.learn(*self.joined(features, labels, view.number), view.number)
        classes, means = class_means(features, labels)
        self.means[classes], self.session[classes] = means, view.number

    def joined(self, features: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """A session's features (n, D), copies of the earlier novel classes' means, and the base classes'."""
        novel, base = (torch.nonzero(found).flatten() for found in (self.session > 0, self.session == 0))
        kept = torch.cat([novel.repeat(_of_session(self.options.copies, number)), base])
        return torch.cat([features, self.means[kept]]), torch.cat([labels, kept])

    def learn(self, features: Tensor, labels: Tensor, number: int) -> None:
        """Train the projection on features (n, D) and labels (n,), whole batches alone if there is one."""
        steps, size = _of_session(self.options.steps, number), min(self.options.batch_size, len(labels))
        optimizer = SGD(self.trained_parameters(), self.options.rate, MOMENTUM, self.options.weight_decay)
        rows = torch.arange(len(labels), device=labels.device)
        batches: list[Tensor] = []
        with torch.enable_grad():
            for step in range(1, steps + 1):
                if not batches:
                    batches = list(torch.split(shuffled(rows), size))[: len(labels) // size]
                part = batches.pop(0)
                mixed = float(torch.rand(())) < self.options.mixing
                order = torch.randperm(size).to(labels.device) if mixed else None
                set_rate(optimizer, self.options.rate * rate_factor(step, steps))
                optimizer.zero_grad()
                torch.autograd.backward(self.session_loss(features[part], labels[part], order))
                optimizer.step()
        optimizer.zero_grad()

    def session_loss(self, features: Tensor, labels: Tensor, order: Tensor | None) -> Tensor:
        """Of features (B, D); order: (B,), projected row i is halved with row order[i] (None: as it is)."""
        head = cast(EquiangularHead, self.net.head)
        projected = head.project(features)

        def of(vectors: Tensor, among: Tensor) -> Tensor:
            weights = balanced_weights(among, self.setting.num_classes) if self.options.balanced else None
            return dot_regression_loss(head.cosines(vectors, among), weights)

        if order is None:
            return WEIGHT * of(projected, labels)
        halves = (projected + projected[order]) / 2
        return WEIGHT * (of(halves, labels) + of(halves, labels[order])) / 2


def _of_session(numbers: tuple[int, ...], session: int) -> int:
    return numbers[min(session, len(numbers)) - 1]
