"""Synaptic intelligence (Zenke et al., ICML 2017): importance gathered along the way.

As the paper: a parameter matters by how much its moves lowered the task loss (eq. 3 and 5). The path
integral uses the gradient of the task loss alone, without the penalty's. As the authors' code, the sum
over experiences is kept from falling below 0 (`clamp = total`); Mammoth's, FACIL's and van de Ven et
al.'s never clamp (`none`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.needs import Needs
from streamlab.parts.heads import Heads, competing
from streamlab.parts.regulariser import Regulariser
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
    """strength: c of eq. 4 (ours; with the paper's 0.1 to 1 plain SGD diverges on glyphs-100); damping: xi
    of eq. 5; clamp: see above; heads: as in `ewc`."""

    strength: float = 0.03
    damping: float = 1e-3
    clamp: Literal["total", "none"] = "total"
    heads: Heads = "shared"

    def __post_init__(self) -> None:
        at_least("si", "strength", self.strength, 0)
        at_least("si", "damping", self.damping, 1e-12)


class SynapticIntelligence(Strategy):
    """Eq. 4: task loss + c · sum of importance · (parameter - anchor)²."""

    options: Options
    smooths_labels = True
    needs = Needs(boundaries=True)
    ledger_kinds: ClassVar[dict[str, str]] = dict.fromkeys(("omega", "starts", "before"), "statistics")
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.001, 0.3), "strength": Range(0.001, 1), "damping": Choice((1e-3, 1e-2, 0.1)),
    }  # fmt: skip

    def setup(self) -> None:
        self.regulariser = Regulariser(self.trained_parameters())
        parameters = self.regulariser.parameters
        self.omega = [torch.zeros_like(parameter) for parameter in parameters]  # the path integral
        self.starts = [parameter.detach().clone() for parameter in parameters]
        self.before = [parameter.detach().clone() for parameter in parameters]

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        parameters = self.regulariser.parameters
        task = self.cross_entropy(
            self.net(batch.images), batch.labels, competing(self.current_classes, self.options.heads)
        )
        gradients = torch.autograd.grad(task, parameters)
        numbers = {"task": task}
        total: Sequence[Tensor] = gradients
        if self.regulariser:
            numbers["penalty"] = self.options.strength * self.regulariser.penalty()
            total = torch._foreach_add(gradients, torch.autograd.grad(numbers["penalty"], parameters))
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = gradient
        with torch.no_grad():
            torch._foreach_copy_(self.before, parameters)
            self.apply_gradients()
            moves = torch._foreach_sub(parameters, self.before)
            torch._foreach_addcmul_(self.omega, gradients, moves, value=-1)  # eq. 3
        return numbers

    @torch.no_grad()
    def end_experience(self, view: ExperienceView) -> None:
        """Eq. 5: importance += omega / (distance² + xi)."""
        parameters = self.regulariser.parameters
        importance = [
            omega / ((parameter - start).square() + self.options.damping)
            for omega, parameter, start in zip(self.omega, parameters, self.starts, strict=True)
        ]
        self.regulariser.anchor(importance)
        if self.options.clamp == "total":
            torch._foreach_clamp_min_(self.regulariser.importance, 0)
        torch._foreach_copy_(self.starts, parameters)
        torch._foreach_zero_(self.omega)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.regulariser.bytes_to_come()
