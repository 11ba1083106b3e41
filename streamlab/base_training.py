"""Base training: how a network is trained on a base session, before few-shot sessions begin.

It is a thing of its own: strategies that name the same `BaseTraining` share one trained network for
each (plan, backbone, config, seed). Simulated by simulator/base_session.py.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from .nets.network import CosineHead, Network
from .parts.losses import cross_entropy
from .training import BaseConfig


class BaseTraining(Protocol):
    """What is trained in a base session. name: strategies that name the same one share its network.

    views, if it has it: how many views of each image a loss is given, all of one after all of another (else
    one).
    """

    @property
    def name(self) -> str: ...

    def head(self, feature_size: int, among: Tensor, config: BaseConfig) -> nn.Module:
        """The classifier that the backbone is trained under; among: (classes,) bool, the base classes."""
        ...

    def loss(self, network: Network, images: Tensor, labels: Tensor, among: Tensor) -> Tensor:
        """The loss of a batch, uint8 images (views · B, C, H, W), labels (B,); among: (classes,) bool, the
        base classes.
        """
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
