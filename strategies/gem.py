"""Gradient episodic memory (Lopez-Paz and Ranzato, NeurIPS 2017): no step may hurt an earlier task.

As the paper's eq. 8 to 11: where the gradient points against that of some earlier task's memory, it is
projected to the nearest one that does not, by the dual quadratic program (solved here by coordinate
descent: it has as many variables as tasks). Differs: the memory is a class-balanced buffer of the
budget's size, shared by however many tasks there come to be, where the authors keep the last m samples
of each of T tasks; at most `reference_size` exemplars stand for a task in a step (None: all, as theirs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import at_least
from streamlab.parts.gradients import flat_gradient, set_gradient
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{lopezpaz2017gem,
  title = {Gradient Episodic Memory for Continual Learning},
  author = {Lopez-Paz, David and Ranzato, Marc'Aurelio},
  booktitle = {NeurIPS},
  year = {2017},
}
"""


@dataclass(frozen=True)
class Options:
    """margin: gamma of the authors' code (added to every dual variable); reference_size: see above."""

    margin: float = 0.5
    reference_size: int | None = None

    def __post_init__(self) -> None:
        at_least("gem", "margin", self.margin, 0)
        at_least("gem", "reference_size", 1 if self.reference_size is None else self.reference_size, 1)


def project(gradient: Tensor, references: Tensor, margin: float) -> Tensor:
    """The nearest gradient to (P,) that points against none of references (T, P).

    Eq. 11: minimise ½ vᵀGGᵀv + gᵀGᵀv over v >= 0, then Gᵀv + g; as the authors' code, over v >= margin.
    """
    products = (references @ references.T).double() + 1e-3 * torch.eye(len(references)).to(
        references
    ).double()
    linear = (references @ gradient).double()
    dual = torch.full_like(linear, margin)
    for _ in range(1000):
        before = dual.clone()
        for number in range(len(dual)):
            slope = products[number] @ dual + linear[number]
            dual[number] = (dual[number] - slope / products[number, number]).clamp(min=margin)
        if (dual - before).abs().max() <= 1e-9 * (1 + dual.abs().max()):
            break
    return gradient + references.T @ dual.to(references)


class GradientEpisodicMemory(Strategy):
    """Cross-entropy, its gradient projected where it would hurt an earlier task."""

    options: Options
    needs_boundaries = True

    def setup(self) -> None:
        self.parameters = self.trained_parameters()
        self.buffer = self.make_buffer("balanced", extras={"task": ()})
        self.task = 0

    def begin_experience(self, view: ExperienceView) -> None:
        self.task = view.number

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        loss = F.cross_entropy(self.net(batch.images), batch.labels)
        gradient = flat_gradient(loss, self.parameters)
        references = self._references()
        clashes = loss.new_zeros(())
        if len(references):
            hurts = references @ gradient < 0
            clashes = hurts.float().mean()
            if hurts.any():
                gradient = project(gradient, references, self.options.margin)
        set_gradient(self.parameters, gradient)
        self.apply_gradients()
        return {"task": loss, "clashes": clashes}

    def _references(self) -> Tensor:
        """(T, P) the gradient on each earlier task's memory."""
        held = self.buffer.everything()
        gradients = []
        for task in range(self.task):
            rows = (held.extras["task"] == task).nonzero().flatten()
            if self.options.reference_size is not None:
                rows = rows[torch.randperm(len(rows), device=rows.device)[: self.options.reference_size]]
            if len(rows):
                loss = F.cross_entropy(self.net(held.images[rows]), held.labels[rows])
                gradients.append(flat_gradient(loss, self.parameters))
        return torch.stack(gradients) if gradients else torch.zeros(0)

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch.with_extras(task=torch.full_like(batch.labels, self.task)))
