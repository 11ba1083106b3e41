"""Judges a stream's samples as they arrive, before their labels do (`--record arrivals`)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data.split import Split
from ..plans.clock import decorrelated_shift
from ..plans.stream import StreamPlan, labels_at
from .metrics import CEILING, NotDefined, Value, not_recorded
from .record import Arrivals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..strategy import Strategy
    from .record import Record

FADING = 0.999
Pending = dict[str, list[int]]  # predictions since the last evaluation, by the names of Arrivals


def taken(pending: Pending) -> Arrivals:
    """What is pending, which then is so no more."""
    names = (field.name for field in dataclasses.fields(Arrivals))
    rows = {name: np.asarray(pending.get(name, []), np.int64) for name in names}
    pending.clear()
    return Arrivals(**rows)


class ArrivalJudge:
    """Predicts the batch that arrives, and the one that lies a shift ahead of what was learned.

    The shift is the plan's (streamlab.plans.clock.decorrelated_shift). truth: (N,) the training labels,
    without the stream's noise. A class whose label has not come cannot be predicted.
    """

    def __init__(self, plan: StreamPlan, train: Split, truth: NDArray[np.int64]) -> None:
        self.train, self.stream = train, plan.stream
        self.labels = labels_at(truth, plan.stream)
        self.shift = decorrelated_shift(self.labels, plan.num_classes)

    def judge(self, strategy: Strategy, begin: int, end: int, pending: Pending) -> None:
        """Predict the samples of the stream from begin to end, and those a shift after begin."""
        ahead = [("", 0)] if self.shift is None else [("", 0), ("later_", self.shift - 1)]
        for name, shift in ahead:
            rows = slice(begin + shift, end + shift)
            pending.setdefault(f"{name}labels", []).extend(self.labels[rows].tolist())
            pending.setdefault(f"{name}predictions", []).extend(self._predicted(strategy, self.stream[rows]))

    @torch.no_grad()
    def _predicted(self, strategy: Strategy, rows: NDArray[np.int64]) -> list[int]:
        if not len(rows) or not strategy.exposed.any():
            return [-1] * len(rows)
        images = self.train.images_at(torch.from_numpy(rows).to(self.train.device))
        scores = strategy.predict(images).masked_fill(~strategy.exposed, float("-inf"))
        found: list[int] = scores.argmax(1).tolist()
        return found


def prequential_accuracy(record: Record) -> Value:
    """Share of the stream's samples that were right as they arrived, before they were learned."""
    return _share(record, later=False)


def prequential_fading(record: Record) -> Value:
    """The same at the stream's end, a sample counting 0.999 times as much as the next (Gama et al. 2013)."""
    right = _right(record, later=False)
    if isinstance(right, NotDefined):
        return right
    weights = FADING ** np.arange(len(right) - 1, -1, -1)
    return float((weights * right).sum() / weights.sum())


def near_future_accuracy(record: Record) -> Value:
    """Share of right predictions of samples ahead of what was learned, by a shift at which labels are no more
    alike than chance (Hammoud et al., ICCV 2023).
    """
    return _share(record, later=True)


def _share(record: Record, later: bool) -> Value:
    right = _right(record, later)
    return right if isinstance(right, NotDefined) else float(right.mean())


def _right(record: Record, later: bool) -> NDArray[np.bool_] | NotDefined:
    """(n,) whether each sample that arrived, or that lay a shift ahead, was predicted."""
    if record.ceiling:
        return CEILING
    if record.plan.kind != "online":
        return NotDefined("samples arrive in online streams, and the run is of sessions")
    held = [e.arrivals for e in record.evaluations if e.arrivals is not None]
    if not held:
        return not_recorded("arrivals")
    parts = [a.later_labels == a.later_predictions if later else a.labels == a.predictions for a in held]
    right: NDArray[np.bool_] = np.concatenate(parts)
    if not len(right):
        return NotDefined("labels of this stream are alike at any shift that it has room for")
    return right
