"""Memory aware synapses (Aljundi et al., ECCV 2018): what the output is sensitive to may not move.

As the paper: importance is the mean over samples of the size of the gradient of the output's squared
length (its section 4.1), needs no labels, and adds up over experiences. Differs in nothing by
default but that it is computed from `samples` samples of the experience. The authors' functions take the
gradient of a whole batch's sum by default, in which samples cancel: their importances are smaller, the
more so the larger the batch, so that their lambda does not carry over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from streamlab.config import Range, Searched, at_least
from streamlab.needs import Needs
from streamlab.parts.heads import Heads, competing
from streamlab.parts.regulariser import Regulariser, mean_over_samples
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
    """strength: lambda of eq. 4 (ours; with the authors' 1 plain SGD diverges on glyphs-100); samples: for
    the importance; heads: as in `ewc`."""

    strength: float = 0.01
    samples: int = 1000
    heads: Heads = "shared"

    def __post_init__(self) -> None:
        at_least("mas", "strength", self.strength, 0)
        at_least("mas", "samples", self.samples, 1)


class MemoryAwareSynapses(Strategy):
    """Eq. 4: task loss + lambda · sum of importance · (parameter - anchor)²."""

    options: Options
    smooths_labels = True
    needs = Needs(boundaries=True)
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.001, 0.3), "strength": Range(0.001, 1)
    }  # fmt: skip

    def setup(self) -> None:
        self.regulariser = Regulariser(self.trained_parameters())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        among = competing(self.current_classes, self.options.heads)
        losses = {"task": self.cross_entropy(self.net(batch.images), batch.labels, among)}
        if self.regulariser:
            losses["penalty"] = self.options.strength * self.regulariser.penalty()
        return losses

    def end_experience(self, view: ExperienceView) -> None:
        """Eq. 2 with the squared length of the output: mean over samples of |gradient|."""
        importance = mean_over_samples(
            self.net, self.regulariser.parameters, view.batches(1, 256),
            lambda logits, label: logits.square().sum(), torch.abs, self.options.samples,
        )  # fmt: skip
        self.regulariser.anchor(importance)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.regulariser.bytes_to_come()
