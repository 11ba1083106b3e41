"""Baseline++ (Chen et al., ICLR 2019, arXiv 1904.04232): a cosine classifier, fitted anew to each support.

The network is trained on the meta-training classes at large under a cosine classifier, and frozen; for an
episode a new cosine classifier is fitted to the support by gradient descent. Differs: all episodes are
fitted side by side with full batches and plain SGD with momentum (the paper: batches of 4, SGD with
momentum 0.9, dampening 0.9 and weight decay 0.001, 100 iterations); it begins at the class means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.base import CosineBase
from streamlab.config import at_least
from streamlab.strategy import Strategy

from .losses import prototypes_of

CITATION = """
@inproceedings{chen2019closer,
  title = {A Closer Look at Few-shot Classification},
  author = {Chen, Wei-Yu and Liu, Yen-Cheng and Kira, Zsolt and Wang, Yu-Chiang Frank and Huang, Jia-Bin},
  booktitle = {ICLR},
  year = {2019},
}
"""


@dataclass(frozen=True)
class Options:
    """iterations, lr, momentum, weight_decay: of the fit to a support (0 iterations: class means);
    temperature: of the cosine classifier.
    """

    iterations: int = 100
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.001
    temperature: float = 16.0

    def __post_init__(self) -> None:
        at_least("baseline++", "iterations", self.iterations, 0)
        at_least("baseline++", "temperature", self.temperature, 1e-9)


class BaselinePlusPlus(Strategy):
    """temperature · cos(feature, weight), the weights fitted to the support."""

    options: Options
    kinds: ClassVar[frozenset[str]] = frozenset({"episodes"})
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    base = CosineBase()
    frozen = "features"

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        way, options = int(support_labels.max()) + 1, self.options
        given, asked = F.normalize(support, dim=-1), F.normalize(query, dim=-1)
        weights = prototypes_of(given, support_labels, way)
        velocity = torch.zeros_like(weights)
        targets = F.one_hot(support_labels, way).to(given.dtype)
        for _ in range(options.iterations):
            length = weights.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            unit = weights / length
            errors = (options.temperature * given @ unit.mT).softmax(-1) - targets
            pull = options.temperature * errors.mT @ given / given.shape[-2]
            gradient = (pull - (pull * unit).sum(-1, keepdim=True) * unit) / length
            velocity = options.momentum * velocity + gradient + options.weight_decay * weights
            weights = weights - options.lr * velocity
        return options.temperature * asked @ F.normalize(weights, dim=-1).mT
