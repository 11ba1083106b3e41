"""The inner loop of MAML and its kin: a learner of learn2learn's, cloned and adapted to a support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import at_least


@dataclass(frozen=True)
class InnerLoop:
    """inner_lr: alpha, of the steps on a support (meta-sgd: where its learned rates begin); inner_steps: how
    many; test_steps: how many in testing (0: as many); first_order: leave out second derivatives.
    """

    inner_lr: float = 0.1
    inner_steps: int = 3
    test_steps: int = 0
    first_order: bool = False

    def __post_init__(self) -> None:
        at_least("inner loop", "inner_lr", self.inner_lr, 0)
        at_least("inner loop", "inner_steps", self.inner_steps, 1)
        at_least("inner loop", "test_steps", self.test_steps, 0)


def adapted(learner: Any, support: Tensor, labels: Tensor, loop: InnerLoop) -> Any:
    """A clone of the learner after its steps on a support: theta' = theta - alpha · gradient (MAML, eq. 1).

    support: (S, …), whatever the learner takes; labels: (S,) int64 in [0, way). Gradients flow through the
    steps to the learner itself.
    """
    clone = learner.clone()
    for _ in range(loop.inner_steps):
        clone.adapt(F.cross_entropy(clone(support), labels), first_order=loop.first_order)
    return clone


def adapted_in_testing(learner: Any, support: Tensor, labels: Tensor, loop: InnerLoop) -> Any:
    """The same with `test_steps` steps, through which nothing flows; the learner stays as it was."""
    steps = InnerLoop(loop.inner_lr, loop.test_steps or loop.inner_steps, first_order=True)
    with torch.enable_grad():
        return adapted(learner, support.detach(), labels, steps)
