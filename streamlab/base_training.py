"""Base training: how a network is trained on a base session, before few-shot sessions begin.

It is a thing of its own: strategies that name the same `BaseTraining` share one trained network for
each (plan, backbone, config, seed). Simulated by simulator/base_session.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from .augment import Augmentation
from .config import OptimizerConfig, at_least, within
from .nets.network import CosineHead, Network
from .parts.losses import cross_entropy


@dataclass(frozen=True)
class BaseConfig:
    """How a base session is trained on (section `base`).

    SGD with Nesterov momentum, a cosine schedule whose rate falls once an epoch, as the papers' codes (or
    with every step: rate_by), augmentation by one affine map; temperature: of the cosine classifier.
    validation: share of each base class's images held out to choose the epoch by (0: the last epoch's
    weights). paper_compat: choose it on the test images of the base classes, as the papers' code does; the
    result says so.
    """

    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    rate_by: Literal["epoch", "step"] = "epoch"
    temperature: float = 16.0
    validation: float = 0.1
    rotate: float = 5.0
    shear: float = 5.0
    scale: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.08
    mirror: bool = False
    paper_compat: bool = False

    def __post_init__(self) -> None:
        at_least("base", "epochs", self.epochs, 1)
        at_least("base", "batch_size", self.batch_size, 1)
        within("base", "validation", self.validation, 0, 0.9)
        _ = self.augmentation, self.optimizer  # what they refuse is refused here

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(self.rotate, self.shear, self.scale, self.shift, self.mirror)

    @property
    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig("sgd", self.lr, self.momentum, self.weight_decay, nesterov=True)


class BaseTraining(Protocol):
    """What is trained in a base session. name: strategies that name the same one share its network."""

    @property
    def name(self) -> str: ...

    def head(self, feature_size: int, among: Tensor, config: BaseConfig) -> nn.Module:
        """The classifier that the backbone is trained under; among: (classes,) bool, the base classes."""
        ...

    def loss(self, network: Network, images: Tensor, labels: Tensor, among: Tensor) -> Tensor:
        """The loss of a batch, uint8 images; among: (classes,) bool, the base classes."""
        ...


class CosineBase:
    """A cosine classifier and cross-entropy among the base classes: TEEN's, and the literature's usual."""

    name = "cosine"

    def head(self, feature_size: int, among: Tensor, config: BaseConfig) -> nn.Module:
        return CosineHead(feature_size, len(among), config.temperature)

    def loss(self, network: Network, images: Tensor, labels: Tensor, among: Tensor) -> Tensor:
        return cross_entropy(network(images), labels, among)


class LinearBase:
    """A linear classifier and cross-entropy among the base classes."""

    name = "linear"

    def head(self, feature_size: int, among: Tensor, config: BaseConfig) -> nn.Module:
        return nn.Linear(feature_size, len(among))

    def loss(self, network: Network, images: Tensor, labels: Tensor, among: Tensor) -> Tensor:
        return cross_entropy(network(images), labels, among)
