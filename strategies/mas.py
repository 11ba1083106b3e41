"""Memory aware synapses (Aljundi et al., ECCV 2018): what the output is sensitive to may not move.

As the paper: importance is the mean over samples of the size of the gradient of the output's squared
length (its section 4.1), needs no labels, and adds up over experiences. Differs in nothing by
default but that it is computed from `samples` samples of the experience.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from streamlab.config import at_least
from streamlab.parts.importance import QuadraticPenalty, mean_over_samples
from streamlab.parts.losses import cross_entropy
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{aljundi2018mas,
  title = {Memory Aware Synapses: Learning What (Not) to Forget},
  author = {Aljundi, Rahaf and Babiloni, Francesca and Elhoseiny, Mohamed and Rohrbach, Marcus and
    Tuytelaars, Tinne},
  booktitle = {ECCV},
  year = {2018},
}
"""


@dataclass(frozen=True)
class Options:
    """strength: lambda of eq. 4; samples: for the importance; heads: as in `ewc`."""

    strength: float = 1.0
    samples: int = 1000
    heads: Literal["shared", "own"] = "shared"

    def __post_init__(self) -> None:
        at_least("mas", "strength", self.strength, 0)
        at_least("mas", "samples", self.samples, 1)


class MemoryAwareSynapses(Strategy):
    """Eq. 4: task loss + lambda · sum of importance · (parameter - anchor)²."""

    options: Options
    needs_boundaries = True
    ledger_kinds: ClassVar[dict[str, str]] = {"penalty": "statistics"}

    def setup(self) -> None:
        self.parameters = self.trained_parameters()
        self.penalty = QuadraticPenalty()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        among = self.own_classes if self.options.heads == "own" else None
        losses = {"task": cross_entropy(self.net(batch.images), batch.labels, among)}
        if self.penalty:
            losses["penalty"] = self.options.strength * self.penalty.of(self.parameters)
        return losses

    def end_experience(self, view: ExperienceView) -> None:
        """Eq. 2 with the squared length of the output: mean over samples of |gradient|."""
        importance = mean_over_samples(
            self.net, self.parameters, view.batches(1, 256), lambda logits, label: logits.square().sum(),
            torch.abs, self.options.samples,
        )  # fmt: skip
        self.penalty.anchor_at(self.parameters, importance)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.penalty.bytes_to_come(self.parameters)
