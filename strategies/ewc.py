"""Elastic weight consolidation (Kirkpatrick et al., PNAS 2017), online (Schwarz et al., ICML 2018).

The penalty is one quadratic, anchored at the end of the last experience (Huszár 2018); its Fisher
information is that of all experiences, older ones fading by `decay` (1: the sum, none fades).
Differs from the paper: the Fisher's expectation over labels is taken at the network's own
prediction (`fisher = predicted`, as in Hsu et al.'s code) or at the true label (`empirical`), not by
sampling; it is computed from `samples` samples of the experience, each with its own gradient. Lambda
does not carry over from libraries that square the gradients of batches, or leave out the 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import Range, Searched, at_least, within
from streamlab.needs import Needs
from streamlab.parts.heads import Heads, competing
from streamlab.parts.regulariser import Regulariser, mean_over_samples
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@article{kirkpatrick2017ewc,
  title = {Overcoming Catastrophic Forgetting in Neural Networks},
  author = {Kirkpatrick, James and Pascanu, Razvan and Rabinowitz, Neil and Veness, Joel and others},
  journal = {PNAS},
  year = {2017},
}

@inproceedings{schwarz2018progress,
  title = {Progress \\& Compress: A Scalable Framework for Continual Learning},
  author = {Schwarz, Jonathan and Luketina, Jelena and Czarnecki, Wojciech M. and others},
  booktitle = {ICML},
  year = {2018},
}
"""


@dataclass(frozen=True)
class Options:
    """strength: lambda of Kirkpatrick's eq. 3; decay: gamma of Schwarz's eq. 9; samples: for the Fisher.

    heads: while learning all classes compete (shared), or the current experience's alone (own).
    """

    strength: float = 100.0
    decay: float = 1.0
    samples: int = 1000
    fisher: Literal["predicted", "empirical"] = "predicted"
    heads: Heads = "shared"

    def __post_init__(self) -> None:
        at_least("ewc", "strength", self.strength, 0)
        within("ewc", "decay", self.decay, 0, 1)
        at_least("ewc", "samples", self.samples, 1)


class ElasticWeightConsolidation(Strategy):
    """Eq. 3: task loss + lambda / 2 · sum of Fisher · (parameter - anchor)²."""

    options: Options
    smooths_labels = True
    needs = Needs(boundaries=True)
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.001, 0.3), "strength": Range(1, 10_000)
    }  # fmt: skip

    def setup(self) -> None:
        self.regulariser = Regulariser(self.trained_parameters())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        among = competing(self.current_classes, self.options.heads)
        losses = {"task": self.cross_entropy(self.net(batch.images), batch.labels, among)}
        if self.regulariser:
            losses["penalty"] = self.options.strength / 2 * self.regulariser.penalty()
        return losses

    def end_experience(self, view: ExperienceView) -> None:
        """Fisher <- decay · Fisher + mean over samples of the squared gradient of log p(label)."""
        among = self.current_classes if self.options.heads == "own" else self.exposed

        def negative_log_likelihood(logits: Tensor, label: Tensor) -> Tensor:
            logits = torch.where(among, logits, float("-inf"))
            at = label if self.options.fisher == "empirical" else logits.detach().argmax(1)
            return F.cross_entropy(logits, at)

        fisher = mean_over_samples(
            self.net, self.regulariser.parameters, view.batches(1, 256), negative_log_likelihood,
            torch.square, self.options.samples,
        )  # fmt: skip
        self.regulariser.anchor(fisher, self.options.decay)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.regulariser.bytes_to_come()
