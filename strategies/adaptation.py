"""What maml, anil and meta-sgd share: a learner of learn2learn's that is cloned, adapted and asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import at_least
from streamlab.episodes import EpisodeBatch


@dataclass(frozen=True)
class InnerLoop:
    """inner_lr: of the steps on a support (meta-sgd: where its learned rates begin); inner_steps: how
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


Given = Callable[[Tensor], Tensor]


def losses_after_adaptation(
    learner: Any, episodes: EpisodeBatch, loop: InnerLoop, given: Given = lambda images: images
) -> dict[str, Tensor]:
    """The mean loss on queries of clones adapted to each support, through which gradients flow.

    given: what the learner takes of images (its whole network: the images).
    """
    losses = []
    for number in range(len(episodes)):
        support, query = given(episodes.support[number]), given(episodes.query[number])
        own = learner.clone()
        _adapt(own, support, episodes.support_labels[number], loop.inner_steps, loop.first_order)
        losses.append(F.cross_entropy(own(query), episodes.query_labels[number]))
    return {"task": torch.stack(losses).mean()}


def predict_after_adaptation(
    learner: Any,
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    loop: InnerLoop,
    given: Given = lambda images: images,
) -> Tensor:
    """(E, Q, way) logits of clones adapted to each support; the learner stays as it was."""
    scores = []
    for number in range(len(support)):
        with torch.enable_grad():
            own, steps = learner.clone(), loop.test_steps or loop.inner_steps
            _adapt(own, given(support[number]).detach(), labels[number], steps, first_order=True)
        with torch.no_grad():
            scores.append(own(given(query[number])))
    return torch.stack(scores)


def _adapt(learner: Any, support: Tensor, labels: Tensor, steps: int, first_order: bool) -> None:
    for _ in range(steps):
        learner.adapt(F.cross_entropy(learner(support), labels), first_order=first_order)
