"""Metrics: functions of a run's record, each with its definition and source.

Accuracies lie in 0..1. What a stream or a strategy does not define is `NotDefined`, with the
reason; it is never left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .record import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class NotDefined:
    """A metric that has no value here, and why."""

    reason: str


Value = float | NotDefined
_CEILING = NotDefined("trained once on everything and evaluated at the end: it has no curve")


def a_auc(record: Record) -> Value:
    """A_AUC: mean of accuracy at every regular evaluation point (Si-Blurry; Koh et al. 2022, eq. 2)."""
    if record.ceiling:
        return _CEILING
    points = [e.accuracy for e in record.evaluations if e.periodic and len(e.labels)]
    return float(np.mean(points)) if points else NotDefined("the stream ends before the first point")


def a_avg(record: Record) -> Value:
    """A_avg: mean over task ends of accuracy over the classes exposed so far (Si-Blurry)."""
    if record.ceiling:
        return _CEILING
    points = [e.accuracy for e in record.at_task_ends if len(e.labels)]
    return float(np.mean(points)) if points else NotDefined("no task has ended")


def a_last(record: Record) -> Value:
    """A_last: accuracy at the last task end (Si-Blurry)."""
    points = [e.accuracy for e in record.at_task_ends if len(e.labels)]
    return points[-1] if points else NotDefined("no task has ended")


def f_last(record: Record) -> Value:
    """F_last: mean over classes of (best accuracy at earlier task ends - final accuracy) (Si-Blurry).

    Classes whose best is 0 are left out.
    """
    if record.ceiling:
        return _CEILING
    curves = np.array([evaluation.class_accuracy for evaluation in record.at_task_ends])
    if len(curves) < 2:
        return NotDefined("fewer than two tasks have ended")
    best = np.nan_to_num(curves[:-1]).max(0)
    counted = best > 0
    if not counted.any():
        return NotDefined("no class was ever right before the last task end")
    return float((best - np.nan_to_num(curves[-1]))[counted].mean())


def accuracy_matrix(record: Record) -> NDArray[np.float64]:
    """R: (T, T), R[i][j] = accuracy on task j's test samples after task i; NaN where not tested.

    Predictions compete over all classes exposed by then.
    """
    tasks = record.plan.experiences
    matrix = np.full((len(tasks), len(tasks)), np.nan)
    for evaluation in record.at_task_ends:
        row = [evaluation.accuracy_on(task.test_indices) for task in tasks]
        for task in evaluation.task_ends:
            matrix[task] = row
    return matrix


def average_forgetting(record: Record) -> Value:
    """Mean over tasks j < T-1 of (best R[l][j], j <= l <= T-2, - R[T-1][j]) (Chaudhry 2018, eq. 3)."""
    return _over_earlier_tasks(record, lambda matrix, j: float(np.nanmax(matrix[j:-1, j]) - matrix[-1, j]))


def backward_transfer(record: Record) -> Value:
    """Mean over tasks j < T-1 of R[T-1][j] - R[j][j] (Lopez-Paz and Ranzato 2017, eq. 3)."""
    return _over_earlier_tasks(record, lambda matrix, j: float(matrix[-1, j] - matrix[j, j]))


def _over_earlier_tasks(record: Record, term: Callable[[NDArray[np.float64], int], float]) -> Value:
    if record.ceiling:
        return _CEILING
    matrix = accuracy_matrix(record)
    ended = sum(bool(np.isfinite(row).any()) for row in matrix)
    if ended < 2:
        return NotDefined("fewer than two tasks have ended")
    matrix = matrix[:ended, :ended]
    counted = [j for j in range(ended - 1) if np.isfinite([matrix[j, j], matrix[-1, j]]).all()]
    if not counted:
        return NotDefined("no earlier task has test samples")
    return float(np.mean([term(matrix, j) for j in counted]))


METRICS: dict[str, Callable[[Record], Value]] = {
    metric.__name__: metric
    for metric in (a_auc, a_avg, a_last, f_last, average_forgetting, backward_transfer)
}


def measure_all(record: Record) -> tuple[dict[str, float], dict[str, str]]:
    """Every metric that is defined, and for the others the reason why not."""
    values = {name: metric(record) for name, metric in METRICS.items()}
    return (
        {name: value for name, value in values.items() if not isinstance(value, NotDefined)},
        {name: value.reason for name, value in values.items() if isinstance(value, NotDefined)},
    )
