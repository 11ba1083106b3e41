"""FACT: forward compatible few-shot class-incremental learning (Zhou et al., CVPR 2022, arXiv 2203.06953).

Base training keeps room for what is to come: rows of the classifier that belong to no class yet
(virtual prototypes) attract base samples as their second choice, and mixtures of two classes as their
first. Later classes get mean features, and a prediction blends cosine to them with what the virtual
prototypes say.

Differs: mixtures are made of images, not of features half-way (no backbone here has a named middle);
virtual prototypes are the rows of the classes to come, as in the authors' code, but begin as any
linear layer does (theirs: orthogonal), and each may be any image's second choice (theirs: that of three
base classes alone); prototypes are normalised one by one in a prediction. It is tested by its
equations, not against the authors' numbers, which are not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.base import BaseRecipe
from streamlab.config import within
from streamlab.nets.network import CosineHead, Network
from streamlab.parts.losses import cross_entropy
from streamlab.parts.prototypes import class_means
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zhou2022fact,
  title = {Forward Compatible Few-Shot Class-Incremental Learning},
  author = {Zhou, Da-Wei and Wang, Fu-Yun and Ye, Han-Jia and Ma, Liang and Pu, Shiliang and Zhan, De-Chuan},
  booktitle = {CVPR},
  year = {2022},
}
"""
BALANCE = 0.01  # gamma of eq. 6
MIXING = 2.0  # of the Beta distribution that mixtures are drawn from
NEAREST = 40  # virtual prototypes that speak for an image


def second_choices(logits: Tensor, labels: Tensor, among: Tensor) -> Tensor:
    """(B,) the virtual class that each image is nearest to. logits: (B, K); among: (K,) bool, base."""
    return logits.masked_fill(among, float("-inf")).argmax(1)


class ForwardCompatibleBase:
    """Eq. 6: cross-entropy + gamma · (virtual second choices + mixtures, both ways)."""

    name = "fact"

    def head(self, feature_size: int, num_classes: int, recipe: BaseRecipe) -> nn.Module:
        return CosineHead(feature_size, num_classes, recipe.temperature)

    def loss(self, network: Network, images: Tensor, labels: Tensor, among: Tensor) -> Tensor:
        logits = network(images)
        task = cross_entropy(logits, labels, among)
        if bool(among.all()):
            return task  # no class is to come
        without_own = logits.scatter(1, labels[:, None], float("-inf"))
        reserved = F.cross_entropy(without_own, second_choices(logits, labels, among))  # eq. 4
        order = torch.randperm(len(labels), device=labels.device)
        share = float(torch.distributions.Beta(MIXING, MIXING).sample())
        mixed_images = (share * images.float() + (1 - share) * images[order].float()).round().to(images.dtype)
        apart = labels != labels[order]
        if not bool(apart.any()):
            return task + BALANCE * reserved
        mixed = network(mixed_images[apart])
        virtual = mixed.detach().masked_fill(among, float("-inf")).argmax(1)
        known = mixed.detach().masked_fill(~among, float("-inf")).argmax(1)
        without_virtual = mixed.scatter(1, virtual[:, None], float("-inf"))
        mixtures = F.cross_entropy(mixed, virtual) + F.cross_entropy(without_virtual, known)  # eq. 5
        return task + BALANCE * (reserved + mixtures)


def blended(features: Tensor, prototypes: Tensor, virtual: Tensor, temperature: float, eta: float) -> Tensor:
    """(B, D) features, (K, D) class prototypes, (V, D) virtual ones -> (B, K) probabilities.

    eta · softmax(what the nearest virtual prototypes say of each class) + (1 - eta) · softmax(cosine).
    """
    features, prototypes = F.normalize(features, dim=1), F.normalize(prototypes, dim=1)
    own = (temperature * features @ prototypes.T).softmax(1)
    if not len(virtual):
        return own
    virtual = F.normalize(virtual, dim=1)
    nearness = features @ virtual.T
    best = nearness.topk(min(NEAREST, len(virtual)), dim=1)
    kept = torch.zeros_like(nearness).scatter(1, best.indices, best.values)
    return eta * (kept @ virtual @ prototypes.T).softmax(1) + (1 - eta) * own


@dataclass(frozen=True)
class Options:
    """eta: how much the virtual prototypes say in a prediction."""

    eta: float = 0.1

    def __post_init__(self) -> None:
        within("fact", "eta", self.eta, 0, 1)


class ForwardCompatible(Strategy):
    """Class means, blended with the room that was kept for them."""

    options: Options
    kinds: ClassVar[frozenset[str]] = frozenset({"sessions"})
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet", "blocks": 3}
    base = ForwardCompatibleBase()
    frozen = "features"
    scores_are_logits = False
    ledger_kinds: ClassVar[dict[str, str]] = {"virtual": "statistics"}

    def setup(self) -> None:
        self.virtual = torch.zeros(0, self.net.backbone.feature_size, device=self.setting.device)

    def begin_experience(self, view: ExperienceView) -> None:
        if view.number == 0:
            weight = self.net.head.weight
            assert isinstance(weight, Tensor)
            self.virtual = weight[~self.exposed].clone()

    def bytes_to_come(self, experiences: int = 1) -> int:
        """Virtual prototypes, of as many classes as there will be at most."""
        return 0 if len(self.virtual) else 4 * self.setting.num_classes * self.net.backbone.feature_size

    def observe(self, batch: Batch) -> dict[str, Tensor]:
        return {}  # nothing is learned by gradient after the base

    @torch.no_grad()
    def end_experience(self, view: ExperienceView) -> None:
        classes, means = class_means(view.features(self), view.labels)
        weight = self.net.head.weight
        assert isinstance(weight, Tensor)
        weight[classes] = means

    def classify(self, features: Tensor) -> Tensor:
        weight, known = self.net.head.weight, self.exposed.nonzero().flatten()
        assert isinstance(weight, Tensor)
        temperature = self.setting.base.temperature
        scores = features.new_zeros(len(features), len(weight))
        scores[:, known] = blended(features, weight[known], self.virtual, temperature, self.options.eta)
        return scores
