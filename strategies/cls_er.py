"""CLS-ER (Arani et al., ICLR 2022): a fast and a slow average of the network say what replayed samples were.

As the authors' code: cross-entropy of new and replayed samples together, among all outputs, and for the
replayed ones the mean squared distance of the outputs to those of whichever average gives the right class
the larger chance. After a step each average moves with a chance of its own (`plastic`, `stable`), by a
share that grows to `decay`. The slow (stable) average predicts. Averages are of parameters; what
normalisation keeps of batches is their own, of the replayed samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least, within
from streamlab.needs import Needs
from streamlab.nets.network import Network, frozen_copy
from streamlab.parts.metric_losses import MetricTerms
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{arani2022clser,
  title = {Learning Fast, Learning Slow: A General Continual Learning Method based on Complementary
    Learning System},
  author = {Arani, Elahe and Sarfraz, Fahad and Zonooz, Bahram},
  booktitle = {ICLR},
  year = {2022},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch; weight: of the distance to what the averages say;
    plastic, stable: the chance that each moves after a step; decay: what it keeps of itself at most. icnn,
    proto_triplet, margin: metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 10
    weight: float = 0.1
    plastic: float = 0.9
    stable: float = 0.7
    decay: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("cls-er", "replay_size", self.replay_size, 1)
        at_least("cls-er", "weight", self.weight, 0)
        for name in ("plastic", "stable", "decay"):
            within("cls-er", name, getattr(self, name), 0, 1)


def moved(average: Network, network: Network, keeps: float) -> None:
    """Parameters of the average, in place: keeps · its own + (1 - keeps) · the network's."""
    with torch.no_grad():
        for mine, new in zip(average.parameters(), network.parameters(), strict=True):
            mine.mul_(keeps).add_(new, alpha=1 - keeps)


class ComplementaryLearning(Strategy):
    """Experience replay, consistent with two averages of the network."""

    options: Options
    needs = Needs(learning_backbone=True)
    ledger_kinds: ClassVar[dict[str, str]] = dict.fromkeys(("fast", "slow"), "extra models")
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "weight": Choice((0.1, 0.15, 0.2, 1.0)),
    }  # fmt: skip

    def setup(self) -> None:
        self.buffer = self.make_buffer()
        self.fast, self.slow = frozen_copy(self.net), frozen_copy(self.net)
        self.steps = 0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        replayed = self.buffer.draw(self.options.replay_size)
        losses = {}
        if len(replayed):
            wanted = self.said(replayed)
            change = (self.net(replayed.images) - wanted).square().mean()
            losses["consistency"] = self.options.weight * change
        combined = batch.joined(replayed)
        features = self.net.features(combined.images)
        losses["task"] = self.cross_entropy(self.net.head(features), combined.labels)
        return {**losses, **self.options.of(features, combined.labels)}

    @torch.no_grad()
    def said(self, batch: Batch) -> Tensor:
        """(n, K) the outputs of the average that gives each sample's class the larger chance."""
        slow, fast = self.slow(batch.images), self.fast(batch.images)
        labels = batch.labels[:, None]
        surer = F.softmax(slow, 1).gather(1, labels) > F.softmax(fast, 1).gather(1, labels)
        return torch.where(surer, slow, fast)

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        losses = super().observe(batch)
        self.steps += 1
        keeps = min(1 - 1 / (self.steps + 1), self.options.decay)
        for average, chance in ((self.fast, self.options.plastic), (self.slow, self.options.stable)):
            if float(torch.rand(1)) < chance:
                moved(average, self.net, keeps)
        return losses

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)

    def train_mode(self, training: bool) -> None:
        super().train_mode(training)
        for average in (self.fast, self.slow):
            average.train(training)

    def predict(self, images: Tensor) -> Tensor:
        scores: Tensor = self.slow(images)
        return scores
