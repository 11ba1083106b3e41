"""Gradient episodic memory (Lopez-Paz and Ranzato, NeurIPS 2017): no step may hurt an earlier task.

As the paper's eq. 8 to 11: where the gradient points against that of some earlier task's memory, it is
projected to the nearest one that does not, by the dual quadratic program (solved exactly, by an active
set: it has as many variables as tasks). Differs: all classes compete, where the authors mask outputs by
task; the memory is a class-balanced buffer of the
budget's size, shared by however many tasks there come to be, where the authors keep the last m samples
of each of T tasks; at most `reference_size` exemplars stand for a task in a step (None: all, as theirs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from streamlab.config import at_least
from streamlab.needs import Needs
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

    Eq. 11: minimise ½ vᵀ(GGᵀ + 0.001 I)v + gᵀGᵀv over v >= 0, then Gᵀv + g; as the authors' code, with the
    ridge, and over v >= margin.
    """
    G, g = references.double(), gradient.double()
    products = G @ G.T + 1e-3 * torch.eye(len(G), dtype=G.dtype, device=G.device)
    slopes = G @ g + margin * products.sum(1)
    dual = torch.cat([products, slopes[:, None]], 1).cpu()  # a few numbers, solved on the host
    v = margin + least_over_positive(dual[:, :-1], dual[:, -1])
    return (g + G.T @ v.to(G.device)).to(gradient.dtype)


def least_over_positive(Q: Tensor, c: Tensor) -> Tensor:
    """(T,) the minimum of ½ vᵀQv + cᵀv over v >= 0, exact: Q (T, T) positive definite, c (T,).

    Lawson and Hanson's active-set method (1974, ch. 23): coordinates are freed one by one while the slope
    says so, the free ones solved for, and those that would fall below 0 held at 0 on the way.
    """
    v, free = torch.zeros_like(c), torch.zeros_like(c, dtype=torch.bool)
    accuracy = 1e-12 * (1 + float(c.abs().max()))
    for _ in range(10 * len(c)):
        slope = (Q @ v + c).masked_fill(free, torch.inf)
        if float(slope.min()) >= -accuracy:
            break
        free[slope.argmin()] = True
        while True:
            rows = free.nonzero().flatten()
            goal = torch.zeros_like(v)
            goal[rows] = torch.linalg.solve(Q[rows][:, rows], -c[rows])
            falls = free & (goal <= 0)
            if not bool(falls.any()):
                v = goal
                break
            reach = (v[falls] / (v[falls] - goal[falls])).min()
            v = v + reach * (goal - v)
            free &= v > accuracy * 1e-3
            v = torch.where(free, v, 0.0)
    return v


class GradientEpisodicMemory(Strategy):
    """Cross-entropy, its gradient projected where it would hurt an earlier task."""

    options: Options
    smooths_labels = True
    needs = Needs(boundaries=True)

    def setup(self) -> None:
        self.parameters = self.trained_parameters()
        self.buffer = self.make_buffer("balanced", extras={"task": ()})
        self.task = 0

    def begin_experience(self, view: ExperienceView) -> None:
        self.task = view.number

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        loss = self.cross_entropy(self.net(batch.images), batch.labels)
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
        tasks = held.extras["task"].cpu()  # one fetch, for all of them
        gradients = []
        for task in range(self.task):
            rows = (tasks == task).nonzero().flatten()
            if self.options.reference_size is not None:
                rows = rows[torch.randperm(len(rows), device=rows.device)[: self.options.reference_size]]
            if len(rows):
                rows = rows.to(held.labels.device)
                loss = self.cross_entropy(self.net(held.at(rows).view()), held.labels[rows])
                gradients.append(flat_gradient(loss, self.parameters))
        return torch.stack(gradients) if gradients else torch.zeros(0)

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch.with_extras(task=torch.full_like(batch.labels, self.task)))
