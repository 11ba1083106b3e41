"""Metrics of forgetting and transfer, from accuracies by class or the task matrix R.

R[i][j] is the accuracy on task j after task i. Other libraries' definitions of the same words
stand in libraries.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .metrics import CEILING, NotDefined, Value, lower_is_better, not_recorded
from .record import accuracy_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .record import Record

_ONE_END = NotDefined("fewer than two tasks have ended")


@lower_is_better
def f_last(record: Record) -> Value:
    """F_last: mean over classes of (best accuracy at earlier task ends - final accuracy) (Si-Blurry).

    Classes whose best is 0 are left out.
    """
    if record.ceiling:
        return CEILING
    curves = np.array([evaluation.class_accuracy for evaluation in record.at_task_ends])
    if len(curves) < 2:
        return _ONE_END
    best = np.nan_to_num(curves[:-1]).max(0)
    counted = best > 0
    if not counted.any():
        return NotDefined("no class was ever right before the last task end")
    return float((best - np.nan_to_num(curves[-1]))[counted].mean())


@lower_is_better
def average_forgetting(record: Record) -> Value:
    """Mean over tasks j < T-1 of (best R[l][j], j <= l <= T-2, - R[T-1][j]) (Chaudhry et al. 2018, eq. 3)."""
    return _over_earlier_tasks(record, lambda matrix, j: float(np.nanmax(matrix[j:-1, j]) - matrix[-1, j]))


def backward_transfer(record: Record) -> Value:
    """BWT: mean over tasks j < T-1 of R[T-1][j] - R[j][j] (Lopez-Paz and Ranzato 2017, eq. 3)."""
    return _over_earlier_tasks(record, lambda matrix, j: float(matrix[-1, j] - matrix[j, j]))


def _over_earlier_tasks(record: Record, term: Callable[[NDArray[np.float64], int], float]) -> Value:
    if record.ceiling:
        return CEILING
    matrix = accuracy_matrix(record)
    ended = sum(bool(np.isfinite(row).any()) for row in matrix)
    if ended < 2:
        return _ONE_END
    matrix = matrix[:ended, :ended]
    counted = [j for j in range(ended - 1) if np.isfinite([matrix[j, j], matrix[-1, j]]).all()]
    if not counted:
        return NotDefined("no earlier task has test samples")
    return float(np.mean([term(matrix, j) for j in counted]))


def forward_transfer(record: Record) -> Value:
    """FWT: mean over tasks j > 0 of R[j-1][j] - the untrained network's accuracy (Lopez-Paz 2017, eq. 4).

    Both without the class mask, since task j's classes may not be exposed yet.
    """
    if record.ceiling:
        return CEILING
    first = record.evaluations[0].unexposed if record.evaluations else None
    if first is None or record.evaluations[0].samples_seen:
        return not_recorded("unexposed")
    untrained = record.task_accuracy(first.test_indices, first.unmasked == first.labels)
    gains = []
    for evaluation in record.at_task_ends:
        following = max(evaluation.task_ends) + 1
        if following < len(record.plan.experiences) and evaluation.unmasked is not None:
            parts = [(evaluation.test_indices, evaluation.unmasked == evaluation.labels)]
            if evaluation.unexposed is not None:
                hidden = evaluation.unexposed
                parts.append((hidden.test_indices, hidden.unmasked == hidden.labels))
            indices, correct = (np.concatenate(column) for column in zip(*parts, strict=True))
            gains.append(record.task_accuracy(indices, correct)[following] - untrained[following])
    known = [gain for gain in gains if np.isfinite(gain)]
    return float(np.mean(known)) if known else _ONE_END
