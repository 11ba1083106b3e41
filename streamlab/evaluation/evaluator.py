"""Takes a strategy's predictions for test images: batched, padded, masked and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import StreamlabError
from ..strategy import Strategy
from ..stream import StreamPlan
from .record import Evaluation

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SIZE = 500


class Evaluator:
    """Holds the test split on the device, and predicts those of its samples that are exposed.

    images: (M, C, H, W) uint8; labels: (M,) int64 on the host.
    """

    def __init__(self, plan: StreamPlan, images: Tensor, labels: NDArray[np.int64]) -> None:
        self.images, self.labels, self.plan = images, labels, plan
        self.candidates = plan.test_indices
        self.task_classes = np.zeros((len(plan.experiences), plan.num_classes), bool)
        self.task_of = np.zeros(len(labels), np.int64)
        for number, experience in enumerate(plan.experiences):
            self.task_classes[number, list(experience.classes)] = True
            self.task_of[experience.test_indices] = number

    def evaluate(
        self, strategy: Strategy, samples_seen: int, task_ends: tuple[int, ...], periodic: bool
    ) -> Evaluation:
        """Predict the exposed classes' test images.

        Raises StreamlabError where scores have the wrong shape or are not numbers.
        """
        exposed = strategy.exposed.cpu().numpy().copy()
        indices = self.candidates[exposed[self.labels[self.candidates]]]
        columns: list[tuple[Tensor, ...]] = []
        unexposed = ~strategy.exposed
        for start in range(0, len(indices), BATCH_SIZE):
            chosen = indices[start : start + BATCH_SIZE]
            scores = self._scores(strategy, chosen)
            columns.append(self._columns(scores, unexposed, chosen if task_ends else None, strategy))
        joined = [torch.cat(parts).cpu().numpy() for parts in zip(*columns, strict=True)]
        names = ["predictions", "task_masked", "confidence", "energy"]
        arrays = dict(zip(names, joined, strict=False))
        if not joined:
            arrays["predictions"] = np.zeros(0, np.int64)
        return Evaluation(samples_seen, task_ends, periodic, exposed, indices, self.labels[indices], **arrays)

    @torch.no_grad()
    def _scores(self, strategy: Strategy, chosen: NDArray[np.int64]) -> Tensor:
        """(n, classes) scores; a short batch is padded, so that its bits are those of a full one."""
        padded = np.resize(chosen, BATCH_SIZE) if len(chosen) < BATCH_SIZE else chosen
        images = self.images.index_select(0, torch.from_numpy(padded).to(self.images.device))
        scores = strategy.predict(images)
        expected = (BATCH_SIZE, self.plan.num_classes)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise StreamlabError(f"predict returned {found}, and must return scores of shape {expected}")
        if torch.isnan(scores).any():
            raise StreamlabError("predict returned scores that are not numbers (NaN)")
        return scores[: len(chosen)]

    def _columns(
        self, scores: Tensor, unexposed: Tensor, chosen: NDArray[np.int64] | None, strategy: Strategy
    ) -> tuple[Tensor, ...]:
        scores = scores.masked_fill(unexposed, float("-inf"))
        predictions = scores.argmax(1)
        if chosen is None:
            return (predictions,)
        allowed = torch.from_numpy(self.task_classes[self.task_of[chosen]]).to(scores.device)
        task_masked = scores.masked_fill(~allowed, float("-inf")).argmax(1)
        if not strategy.scores_are_logits:
            return predictions, task_masked
        scores = scores.float()
        return predictions, task_masked, scores.softmax(1).amax(1), scores.logsumexp(1)
