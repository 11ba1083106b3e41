"""Dark Experience Replay++ (Buzzega et al., NeurIPS 2020): replayed samples keep the logits they had.

As the paper's eq. 6: two independent draws, one for the logits (alpha), one for the labels (beta);
logits are stored as they were when the sample was learned. Avalanche's method of this name stores
those of the end of the experience instead. The three parts of a step go through the network apart where it
normalises by batch, as the authors' code does; in one pass it forgets less on Mammoth's network (a study
beside Mammoth found it). `beta = 0` is the paper's DER.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import at_least
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.passes import outputs_apart
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{buzzega2020der,
  title = {Dark Experience for General Continual Learning: a Strong, Simple Baseline},
  author = {Buzzega, Pietro and Boschini, Matteo and Porrello, Angelo and Abati, Davide and
    Calderara, Simone},
  booktitle = {NeurIPS},
  year = {2020},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars of each draw; alpha, beta: weights of eq. 6 (logits, labels). icnn,
    proto_triplet, margin: metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 10
    alpha: float = 0.5
    beta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("der++", "replay_size", self.replay_size, 1)
        at_least("der++", "alpha", self.alpha, 0)
        at_least("der++", "beta", self.beta, 0)


class DarkExperienceReplay(Strategy):
    """Eq. 6: task loss + alpha · squared error of logits + beta · cross-entropy of labels."""

    options: Options
    smooths_labels = True

    def setup(self) -> None:
        self.buffer = self.make_buffer("reservoir", extras={"logits": (self.setting.num_classes,)})
        self.fresh_logits: Tensor | None = None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        dark, plain = (self.buffer.draw(self.options.replay_size) for _ in range(2))
        parts = (batch.images, dark.images, plain.images)
        features = outputs_apart(self.net, self.net.features, *parts)
        logits = self.net.head(features)
        new, dark_logits, plain_logits = logits.split([len(batch), len(dark), len(plain)])
        self.fresh_logits = new.detach()
        losses = {"task": self.cross_entropy(new, batch.labels)}
        if len(dark):
            losses["logits"] = self.options.alpha * F.mse_loss(dark_logits, dark.extras["logits"])
            losses["replay"] = self.options.beta * self.cross_entropy(plain_logits, plain.labels)
        if self.options.wanted:
            labels = torch.cat([batch.labels, dark.labels, plain.labels])
            losses |= self.options.of(features, labels)
        return losses

    def remember(self, batch: Batch) -> None:
        assert self.fresh_logits is not None
        self.buffer.add(batch.with_extras(logits=self.fresh_logits))
        self.fresh_logits = None
