"""FACT: forward compatible few-shot class-incremental learning (Zhou et al., CVPR 2022, arXiv 2203.06953).

Base training keeps room for what is to come: rows of the classifier that belong to no class yet
(virtual prototypes) attract base samples as their second choice, and mixtures of two classes as their
first. Later classes get mean features, and a prediction blends cosine to them with what the virtual
prototypes say.

As the authors' code, equal to it in a test: rows begin orthogonal; a frozen copy of the virtual rows gives
the ordinary pass's virtual logits, so that the trained ones learn from the mixtures alone; each virtual
class is open as second choice to three base classes, drawn once; features are mixed before a network's last
stage (ResNet-20's, as theirs; their ResNet-18 mixes one stage earlier), by one share a batch; in a prediction
the products of virtual and class rows are taken of class rows normalised along the class axis; the base
session is judged without the blend. `balance` and `mixing` are 0.01 and 2 for CUB (the defaults), 0.001 and
0.5 for CIFAR-100, 0.01 and 0.5 for miniImageNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least, within
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.network import CosineHead, Network
from streamlab.nets.precision import full, in_precision
from streamlab.parts.losses import cross_entropy
from streamlab.parts.prototypes import class_means, set_rows
from streamlab.strategy import Batch, ExperienceView, Strategy
from streamlab.training import BaseConfig

CITATION = """
@inproceedings{zhou2022fact,
  title = {Forward Compatible Few-Shot Class-Incremental Learning},
  author = {Zhou, Da-Wei and Wang, Fu-Yun and Ye, Han-Jia and Ma, Liang and Pu, Shiliang and Zhan, De-Chuan},
  booktitle = {CVPR},
  year = {2022},
}
"""
OPEN_TO = 3  # base classes that a virtual class is open to as second choice
NEAREST = 40  # virtual prototypes that speak for an image


class ReservingHead(CosineHead):
    """A cosine classifier that remembers how its rows began, and which base class may choose which virtual.

    among: (K,) bool, the base classes. reserved: (K, D), never learned; is_open: (K, K) bool, by the label of
    an image and a virtual class.
    """

    def __init__(self, feature_size: int, among: Tensor, scale: float) -> None:
        super().__init__(feature_size, len(among), scale)
        nn.init.orthogonal_(self.weight)
        base = among.nonzero().flatten().cpu()
        is_open = torch.zeros(len(among), len(among), dtype=torch.bool)
        for virtual in (~among).nonzero().flatten().tolist():
            is_open[base[torch.randperm(len(base))[:OPEN_TO]], virtual] = True
        self.reserved: Tensor
        self.is_open: Tensor
        self.register_buffer("reserved", self.weight.detach().clone())
        self.register_buffer("is_open", is_open)

    def plain(self) -> CosineHead:
        """The classifier alone, its weight the same parameter: what stays after base training."""
        head = CosineHead(self.weight.shape[1], len(self.weight), float(self.scale))
        head.weight = self.weight
        return head


@dataclass(frozen=True)
class ForwardCompatibleBase:
    """Eq. 6: cross-entropy + gamma · (virtual second choices + mixtures, both ways)."""

    balance: float
    mixing: float
    name: ClassVar[str] = "fact"

    def head(self, feature_size: int, among: Tensor, config: BaseConfig) -> nn.Module:
        return ReservingHead(feature_size, among, config.temperature)

    def loss(self, network: Network, images: Tensor, labels: Tensor, among: Tensor) -> Tensor:
        order = torch.randperm(len(labels), device=labels.device)
        share = float(torch.distributions.Beta(self.mixing, self.mixing).sample())
        return self.loss_of(network, images, labels, among, order, share)

    def loss_of(
        self, network: Network, images: Tensor, labels: Tensor, among: Tensor, order: Tensor, share: float
    ) -> Tensor:
        """The loss where image i is mixed with image order[i], by `share` of the former. A scalar."""
        head = cast(ReservingHead, network.head)
        general, special = network.backbone.split()
        precision = network.backbone.precision
        with in_precision(precision, images.device):
            early = general(network.scaled(images))
            features = full(special(early))
        trained, reserved = head(features), head.scale * _cosine(features, head.reserved)
        logits = torch.where(among, trained, reserved)
        task = cross_entropy(logits, labels, among)
        if bool(among.all()):
            return task  # no class is to come
        others = logits.scatter(1, labels[:, None], -1e9)
        second = (others * head.is_open[labels]).masked_fill(among, float("-inf")).argmax(1)
        reserve = F.cross_entropy(others, second)  # eq. 4
        apart = labels != labels[order]
        if not bool(apart.any()):
            return task + self.balance * reserve
        with in_precision(precision, images.device):
            mixed_features = full(special(share * early + (1 - share) * early[order]))
        mixed = head(mixed_features)[apart]
        virtual = mixed.masked_fill(among, float("-inf")).argmax(1)
        known = mixed.masked_fill(~among, float("-inf")).argmax(1)
        without_virtual = mixed.scatter(1, virtual[:, None], -1e9)
        mixtures = F.cross_entropy(mixed, virtual) + F.cross_entropy(without_virtual, known)  # eq. 5
        return task + self.balance * (reserve + mixtures)


def _cosine(features: Tensor, rows: Tensor) -> Tensor:
    return F.normalize(features) @ F.normalize(rows).T


def blended(features: Tensor, prototypes: Tensor, virtual: Tensor, temperature: float, eta: float) -> Tensor:
    """(B, D) features, (K, D) class prototypes, (V, D) virtual ones -> (B, K) probabilities.

    eta · softmax(what the nearest virtual prototypes say of each class) + (1 - eta) · softmax(cosine).
    """
    cosines = (temperature * _cosine(features, prototypes)).softmax(1)
    if not len(virtual):
        return cosines
    virtual = F.normalize(virtual, dim=1)
    products = virtual @ F.normalize(prototypes, dim=0).T  # along the class axis, as the authors' code
    nearness = F.normalize(features) @ virtual.T
    best = nearness.topk(min(NEAREST, len(virtual)), dim=1)
    kept = torch.zeros_like(nearness).scatter(1, best.indices, best.values)
    return eta * (kept @ products).softmax(1) + (1 - eta) * cosines


@dataclass(frozen=True)
class Options:
    """eta: how much the virtual prototypes say in a prediction; balance: gamma of eq. 6; mixing: both
    numbers of the Beta distribution that shares of mixtures are drawn from.
    """

    eta: float = 0.1
    balance: float = 0.01
    mixing: float = 2.0

    def __post_init__(self) -> None:
        within("fact", "eta", self.eta, 0, 1)
        at_least("fact", "balance", self.balance, 0)
        at_least("fact", "mixing", self.mixing, 1e-6)


class ForwardCompatible(Strategy):
    """Class means, blended with the room that was kept for them."""

    options: Options
    needs = Needs(kinds=SESSIONS)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet", "blocks": 3}
    base = ForwardCompatibleBase(Options.balance, Options.mixing)
    frozen = True
    scores_are_logits = False
    ledger_kinds: ClassVar[dict[str, str]] = {"virtual": "statistics"}

    def setup(self) -> None:
        self.virtual = torch.zeros(0, self.net.backbone.feature_size, device=self.setting.device)
        self.session = 0

    def base_training(self) -> ForwardCompatibleBase:
        return ForwardCompatibleBase(self.options.balance, self.options.mixing)

    def begin_experience(self, view: ExperienceView) -> None:
        """After the base session: the virtual prototypes are the trained rows of the classes to come."""
        self.session = view.number
        if view.number == 0:
            self.virtual = cast(Tensor, self.net.head.weight)[~self.exposed].detach().clone()

    def replace_head(self, head: nn.Module) -> None:
        super().replace_head(head.plain() if isinstance(head, ReservingHead) else head)

    def bytes_to_come(self, experiences: int = 1) -> int:
        """Virtual prototypes, of as many classes as there will be at most."""
        return 0 if len(self.virtual) else 4 * self.setting.num_classes * self.net.backbone.feature_size

    def observe(self, batch: Batch) -> dict[str, Tensor]:
        return {}  # nothing is learned by gradient after the base

    def end_experience(self, view: ExperienceView) -> None:
        classes, means = class_means(view.embeddings(self), view.labels)
        set_rows(self.net.head, classes, means)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        weight, known = cast(Tensor, self.net.head.weight), self.exposed.nonzero().flatten()
        eta = self.options.eta if self.session else 0.0
        scores = embedding.new_zeros(len(embedding), len(weight))
        temperature = self.setting.base.temperature
        scores[:, known] = blended(embedding, weight[known], self.virtual, temperature, eta)
        return scores
