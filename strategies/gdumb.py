"""GDumb (Prabhu et al., ECCV 2020): store greedily, and train from nothing when asked.

No step is taken on the stream: samples go to a greedily balanced buffer, and before every evaluation
a new network is trained on it. As the authors' code: SGD with momentum 0.9, warm restarts of doubling
length between `max_lr` and `min_lr` after one epoch at a tenth, gradients clipped; without their
CutMix. Their networks have batch normalisation, which this rate wants (`backbone.norm = batch`); they
report the best epoch on the test set, this the last. The `optimizer` section is not used. An
evaluation is dear: see `--eval-every`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Range, Searched, at_least
from streamlab.needs import Needs
from streamlab.nets.optimizer import SGD, set_rate
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{prabhu2020gdumb,
  title = {{GDumb}: A Simple Approach that Questions Our Progress in Continual Learning},
  author = {Prabhu, Ameya and Torr, Philip H. S. and Dokania, Puneet K.},
  booktitle = {ECCV},
  year = {2020},
}
"""


@dataclass(frozen=True)
class Options:
    """passes: epochs over the buffer; batch_size: samples a step; clip: the longest gradient."""

    passes: int = 128
    batch_size: int = 16
    max_lr: float = 0.05
    min_lr: float = 0.0005
    weight_decay: float = 1e-6
    clip: float = 10.0

    def __post_init__(self) -> None:
        at_least("gdumb", "passes", self.passes, 1)
        at_least("gdumb", "batch_size", self.batch_size, 1)


def learning_rate(epoch: int, options: Options) -> float:
    """Warm restarts (Loshchilov and Hutter 2017): cycles of 1, 2, 4, … epochs after the first, at a tenth."""
    if epoch == 0:
        return options.max_lr * 0.1
    cycle = int(math.log2(epoch))
    place = (epoch - 2**cycle) / 2**cycle
    return options.min_lr + (options.max_lr - options.min_lr) * (1 + math.cos(math.pi * place)) / 2


def train(
    net: nn.Module, parameters: list[nn.Parameter], held: Batch, orders: list[Tensor], options: Options
) -> None:
    """Teach a network all samples held, in batches of a new order a pass; orders: (n,) rows of each pass."""
    optimizer = SGD(parameters, options.max_lr, 0.9, options.weight_decay)
    for epoch, order in enumerate(orders):
        set_rate(optimizer, learning_rate(epoch, options))
        for rows in torch.split(order, options.batch_size):
            if len(rows) == 1 < len(order):
                continue  # batch normalisation has no variance of one sample
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(net(held.at(rows).view()), held.labels[rows]))
            nn.utils.clip_grad_norm_(parameters, options.clip)
            optimizer.step()
    optimizer.zero_grad()


class GDumb(Strategy):
    """A sampler, and a learner that is dumb."""

    options: Options
    search_space: ClassVar[Mapping[str, Searched]] = {"max_lr": Range(0.01, 0.2)}
    needs = Needs(exemplars_per_class=1)

    def setup(self) -> None:
        self.optimizer = None
        self.buffer = self.make_buffer("greedy")

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        return {}

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)

    def consolidate(self) -> None:
        """Train a network anew on what is held."""
        held = self.buffer.everything()
        if not len(held):
            return
        fresh = self.make_network()
        if not any(parameter.requires_grad for parameter in self.net.backbone.parameters()):
            fresh.backbone = self.net.backbone  # frozen: there is nothing in it to be learned anew
        self.net = fresh
        orders = [torch.randperm(len(held)).to(held.labels.device) for _ in range(self.options.passes)]
        train(fresh, self.trained_parameters(), held, orders, self.options)
