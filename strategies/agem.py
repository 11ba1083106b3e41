"""Averaged GEM (Chaudhry et al., ICLR 2019): one reference gradient, from a draw of the whole memory.

As the paper's eq. 11: where the gradient points against that of the drawn exemplars, its part along
theirs is taken out. Differs: the memory is a reservoir over the stream (Mammoth's A-GEM-R), so that no
boundaries are needed; the paper adds a task's samples when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from streamlab.config import at_least
from streamlab.parts.gradients import flat_gradient, set_gradient
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{chaudhry2019agem,
  title = {Efficient Lifelong Learning with {A-GEM}},
  author = {Chaudhry, Arslan and Ranzato, Marc'Aurelio and Rohrbach, Marcus and Elhoseiny, Mohamed},
  booktitle = {ICLR},
  year = {2019},
}
"""


@dataclass(frozen=True)
class Options:
    """reference_size: exemplars drawn for the reference gradient (the paper: 256)."""

    reference_size: int = 256

    def __post_init__(self) -> None:
        at_least("agem", "reference_size", self.reference_size, 1)


def project(gradient: Tensor, reference: Tensor) -> Tensor:
    """Eq. 11: g - (g·r / r·r) r where g·r < 0, else g; both (P,)."""
    along = torch.dot(gradient, reference)
    return torch.where(along < 0, gradient - along / torch.dot(reference, reference) * reference, gradient)


class AveragedGEM(Strategy):
    """Cross-entropy, its gradient projected where it would hurt the memory on average."""

    options: Options
    smooths_labels = True

    def setup(self) -> None:
        self.parameters = self.trained_parameters()
        self.buffer = self.make_buffer("reservoir")

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        loss = self.cross_entropy(self.net(batch.images), batch.labels)
        gradient = flat_gradient(loss, self.parameters)
        drawn = self.buffer.draw(self.options.reference_size)
        if len(drawn):
            reference = self.cross_entropy(self.net(drawn.images), drawn.labels)
            gradient = project(gradient, flat_gradient(reference, self.parameters))
        set_gradient(self.parameters, gradient)
        self.apply_gradients()
        return {"task": loss}

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)
