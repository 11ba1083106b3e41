"""Baseline++ (Chen et al., ICLR 2019, arXiv 1904.04232): a cosine classifier, fitted anew to each support.

The network is trained on the meta-training classes at large under a cosine classifier, and frozen; for an
episode a new cosine classifier is fitted to the support by gradient descent. As the authors' code: logits
are 2 · g_c · cos(feature, w_c) (10 for more than 200 classes), where each class has a learned length g_c
(weight normalisation); it begins as any linear layer does, and takes 100 passes over the support in batches
of 4, by SGD with momentum 0.9, dampening 0.9 and weight decay 0.001. Episodes are fitted side by side, each
from the same initial weights and in the same orders, drawn from the seed, so that an answer depends on its
episode alone.

Differs: the network's own training is the kernel's (section `base`: a cosine classifier without lengths, at
`base.temperature`, where theirs is Adam's and has them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.base_training import CosineBase
from streamlab.config import at_least
from streamlab.needs import EPISODES, Needs
from streamlab.randomness import generator
from streamlab.strategy import Strategy

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
    """iterations: passes over a support; batch_size, lr, momentum, dampening, weight_decay: of the fit;
    scale: of the logits (0: 2 for up to 200 classes, else 10).
    """

    iterations: int = 100
    batch_size: int = 4
    lr: float = 0.01
    momentum: float = 0.9
    dampening: float = 0.9
    weight_decay: float = 0.001
    scale: float = 0.0

    def __post_init__(self) -> None:
        at_least("baseline++", "iterations", self.iterations, 0)
        at_least("baseline++", "batch_size", self.batch_size, 1)
        at_least("baseline++", "scale", self.scale, 0)


def cosine_logits(features: Tensor, lengths: Tensor, directions: Tensor, scale: float) -> Tensor:
    """(E, n, D) features, (E, W, 1) lengths g, (E, W, D) directions -> (E, n, W): scale · g_c · cos."""
    weights = lengths * F.normalize(directions, dim=-1)
    units = features / (features.norm(dim=-1, keepdim=True) + 1e-5)
    logits: Tensor = scale * units @ weights.mT
    return logits


def fit(
    support: Tensor, labels: Tensor, lengths: Tensor, directions: Tensor, orders: Tensor, options: Options
) -> tuple[Tensor, Tensor]:
    """Lengths (E, W, 1) and directions (E, W, D) fitted to supports (E, S, D) with labels (E, S).

    orders: (E, passes, S), the rows of each pass; every batch of them is one step of SGD.
    """
    scale = options.scale or (2.0 if directions.shape[1] <= 200 else 10.0)
    parameters = [lengths, directions]
    velocities: list[Tensor] = []
    for rows in (part for order in orders.unbind(1) for part in torch.split(order, options.batch_size, 1)):
        batch = support.gather(1, rows[..., None].expand(-1, -1, support.shape[2]))
        with torch.enable_grad():
            learned = [parameter.detach().requires_grad_() for parameter in parameters]
            logits = cosine_logits(batch, learned[0], learned[1], scale)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.gather(1, rows).flatten(), reduction="sum")
            gradients = torch.autograd.grad(loss / rows.shape[1], learned)  # the mean in each episode
        steps = [g + options.weight_decay * p for g, p in zip(gradients, parameters, strict=True)]
        kept = 1 - options.dampening
        velocities = (
            [options.momentum * v + kept * step for v, step in zip(velocities, steps, strict=True)]
            if velocities
            else steps
        )
        parameters = [p - options.lr * v for p, v in zip(parameters, velocities, strict=True)]
    return parameters[0], parameters[1]


class BaselinePlusPlus(Strategy):
    """scale · g_c · cos(feature, weight), lengths and weights fitted to the support."""

    options: Options
    needs = Needs(kinds=EPISODES)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    base = CosineBase()
    frozen = True

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        way, (episodes, count, size) = int(support_labels.max()) + 1, support.shape
        draws, bound = generator(self.setting.seed, "baseline++", way, count), size**-0.5
        drawn = draws.uniform(-bound, bound, (way, size))  # a linear layer's initial values
        passes = [draws.permutation(count) for _ in range(self.options.iterations)]
        directions = torch.from_numpy(drawn).to(support).expand(episodes, -1, -1)
        lengths = directions.norm(dim=-1, keepdim=True)
        orders = torch.from_numpy(np.stack(passes)) if passes else torch.zeros(0, count, dtype=torch.int64)
        orders = orders.to(support.device).expand(episodes, -1, -1)
        fitted = fit(support, support_labels, lengths, directions, orders, self.options)
        scale = self.options.scale or (2.0 if way <= 200 else 10.0)
        return cosine_logits(query, fitted[0], fitted[1], scale)
