"""Synaptic intelligence (Zenke et al., ICML 2017): importance gathered along the way.

As the paper: a parameter matters by how much its moves lowered the task loss (eq. 3 and 5). The path
integral uses the gradient of the task loss alone, without the penalty's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from streamlab.config import at_least
from streamlab.parts.importance import QuadraticPenalty
from streamlab.parts.losses import cross_entropy
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zenke2017si,
  title = {Continual Learning Through Synaptic Intelligence},
  author = {Zenke, Friedemann and Poole, Ben and Ganguli, Surya},
  booktitle = {ICML},
  year = {2017},
}
"""


@dataclass(frozen=True)
class Options:
    """strength: c of eq. 4; damping: xi of eq. 5; heads: as in `ewc`."""

    strength: float = 1.0
    damping: float = 1e-3
    heads: Literal["shared", "own"] = "shared"

    def __post_init__(self) -> None:
        at_least("si", "strength", self.strength, 0)
        at_least("si", "damping", self.damping, 1e-12)


class SynapticIntelligence(Strategy):
    """Eq. 4: task loss + c · sum of importance · (parameter - anchor)²."""

    options: Options
    needs_boundaries = True
    ledger_kinds: ClassVar[dict[str, str]] = dict.fromkeys(
        ("penalty", "paths", "starts", "before"), "statistics"
    )

    def setup(self) -> None:
        self.parameters: list[Tensor] = list(self.trained_parameters())
        self.penalty = QuadraticPenalty()
        self.paths = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.starts = [parameter.detach().clone() for parameter in self.parameters]
        self.before = [parameter.detach().clone() for parameter in self.parameters]

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        among = self.own_classes if self.options.heads == "own" else None
        task = cross_entropy(self.net(batch.images), batch.labels, among)
        gradients = torch.autograd.grad(task, self.parameters)
        numbers = {"task": task}
        total: Sequence[Tensor] = gradients
        if self.penalty:
            numbers["penalty"] = self.options.strength * self.penalty.of(self.parameters)
            total = torch._foreach_add(gradients, torch.autograd.grad(numbers["penalty"], self.parameters))
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = gradient
        with torch.no_grad():
            torch._foreach_copy_(self.before, self.parameters)
            self.apply_gradients()
            moves = torch._foreach_sub(self.parameters, self.before)
            torch._foreach_addcmul_(self.paths, gradients, moves, value=-1)  # eq. 3
        return numbers

    @torch.no_grad()
    def end_experience(self, view: ExperienceView) -> None:
        """Eq. 5: importance += path integral / (distance² + xi), never below 0."""
        fresh = [
            (path / ((parameter - start).square() + self.options.damping)).clamp(min=0)
            for path, parameter, start in zip(self.paths, self.parameters, self.starts, strict=True)
        ]
        self.penalty.anchor_at(self.parameters, fresh)
        torch._foreach_copy_(self.starts, self.parameters)
        torch._foreach_zero_(self.paths)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.penalty.bytes_to_come(self.parameters)
