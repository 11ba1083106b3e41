"""Metrics of being right: over the stream, at its end, by class, by task, and with what confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..plans.stream import labels_at
from .metrics import CEILING, NotDefined, Value, lower_is_better
from .record import accuracy_matrix, shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .record import Evaluation, Record

_NO_END = NotDefined("no task has ended")
_ONE_END = NotDefined("fewer than two tasks have ended")
_BINS = 15


def a_auc(record: Record) -> Value:
    """A_AUC: mean of accuracy at every regular evaluation point (Si-Blurry; Koh et al. 2022, eq. 2)."""
    if record.ceiling:
        return CEILING
    points = [e.accuracy for e in record.evaluations if e.periodic and len(e.labels)]
    return float(np.mean(points)) if points else NotDefined("the stream has no regular point")


def a_avg(record: Record) -> Value:
    """A_avg: mean over task ends of accuracy over what is exposed so far (Si-Blurry; iCaRL)."""
    if record.ceiling:
        return CEILING
    points = [e.accuracy for e in record.at_task_ends if len(e.labels)]
    return float(np.mean(points)) if points else _NO_END


def a_last(record: Record) -> Value:
    """A_last: accuracy at the last task end (Si-Blurry)."""
    points = [e.accuracy for e in record.at_task_ends if len(e.labels)]
    return points[-1] if points else _NO_END


def anytime_accuracy(record: Record) -> Value:
    """AAA: mean over evaluation points of the mean accuracy over tasks (Caccia et al. 2022, eq. 7).

    The points are the regular ones, or the task ends where a stream has none; the tasks are
    those with exposed test samples. A_AUC weighs samples alike, this one tasks.
    """
    if record.ceiling:
        return CEILING
    curves = [np.nanmean(row) for row in _task_curves(record)[1]]
    return float(np.mean(curves)) if curves else NotDefined("nothing was evaluated")


def worst_case_accuracy(record: Record) -> Value:
    """WC-ACC: 1/k of the last task's accuracy, the rest the mean of the others' least (De Lange et al. 2023).

    (1/k) A(task k) + (1 - 1/k) mean over tasks j < k of the least accuracy at evaluations after
    task j ended; k tasks, at the end of the stream.
    """
    if record.ceiling:
        return CEILING
    evaluations, rows = _task_curves(record, all_points=True)
    ends = {task: place for place, e in enumerate(evaluations) for task in e.task_ends}
    tested = [task for task in sorted(ends) if np.isfinite(rows[-1][task])]
    if len(tested) < 2:
        return _ONE_END
    last = tested[-1]
    curves = np.array(rows)
    least = [np.nanmin(curves[ends[task] + 1 :, task]) for task in tested if ends[task] < len(rows) - 1]
    if not least:
        return _ONE_END
    return float(rows[-1][last] / len(tested) + (1 - 1 / len(tested)) * np.mean(least))


def _task_curves(
    record: Record, all_points: bool = False
) -> tuple[list[Evaluation], list[NDArray[np.float64]]]:
    """The evaluation points, and each one's accuracy by task."""
    tested = [e for e in record.evaluations if len(e.labels)]
    regular = [e for e in tested if e.periodic]
    points = tested if all_points or not regular else regular
    return points, [record.task_accuracy(e.test_indices, e.correct) for e in points]


def macro_accuracy(record: Record) -> Value:
    """Mean over exposed classes of each class's accuracy, at the last task end."""
    ends = [e for e in record.at_task_ends if len(e.labels)]
    return float(np.nanmean(ends[-1].class_accuracy)) if ends else _NO_END


def rare_accuracy(record: Record) -> Value:
    """Mean accuracy of the third of the classes with the fewest training samples, at the last task end."""
    counts = np.array(record.plan.class_counts)
    ends = [e for e in record.at_task_ends if len(e.labels)]
    if not ends:
        return _NO_END
    if not len(counts) or counts.min() == counts.max():
        return NotDefined("every class has as many training samples as any other")
    rarest = np.argsort(counts, kind="stable")[: -(-len(counts) // 3)]
    accuracies = ends[-1].class_accuracy[rarest]
    return (
        float(np.nanmean(accuracies))
        if np.isfinite(accuracies).any()
        else NotDefined("no rare class was tested")
    )


def subgroup_accuracy(record: Record) -> tuple[NDArray[np.float64], NDArray[np.float64]] | NotDefined:
    """(classes, groups) accuracy of each class in each subgroup at the last task end (NaN: not tested), and
    how many samples each is of.
    """
    groups = record.plan.subgroups
    if groups is None:
        return NotDefined("the stream has no subgroups; --set scenario.subgroups=FACTOR names them")
    ends = [e for e in record.at_task_ends if len(e.labels)]
    if not ends:
        return _NO_END
    last, count = ends[-1], int(groups.max()) + 1
    cells = last.labels * count + labels_at(groups, last.test_indices)
    shape = (record.plan.num_classes, count)
    sizes = np.bincount(cells, minlength=shape[0] * count).astype(np.float64)
    return shares(cells, last.correct, len(sizes)).reshape(shape), sizes.reshape(shape)


@lower_is_better
def macro_std(record: Record) -> Value:
    """Mean over classes of the weighted standard deviation of their subgroups' accuracies.

    Weights are the subgroups' shares of the class's test samples. Chiu et al. (ICCV 2023) describe it in
    words; the formula is our reading of them.
    """
    found = subgroup_accuracy(record)
    if isinstance(found, NotDefined):
        return found
    accuracy, sizes = found
    tested = sizes.sum(1) > 0
    weights = sizes[tested] / sizes[tested].sum(1, keepdims=True)
    accuracy = np.nan_to_num(accuracy[tested])
    mean = (weights * accuracy).sum(1, keepdims=True)
    return float(np.sqrt((weights * (accuracy - mean) ** 2).sum(1)).mean())


def worst_group_accuracy(record: Record) -> Value:
    """The least accuracy of a class in a subgroup, at the last task end (Sagawa et al., ICLR 2020).

    Pairs without a test sample are left out.
    """
    found = subgroup_accuracy(record)
    return found if isinstance(found, NotDefined) else float(np.nanmin(found[0]))


def old_new_harmonic_mean(record: Record) -> Value:
    """Harmonic mean of the accuracy on the task that ended last and on all before it (FSCIL literature)."""
    if record.ceiling:
        return CEILING
    ends = record.at_task_ends
    if len(ends) < 2:
        return _ONE_END
    tasks = record.plan.experience_of_test(ends[-1].test_indices)
    new = np.isin(tasks, ends[-1].task_ends)
    old, fresh = ends[-1].correct[~new], ends[-1].correct[new]
    if not len(old) or not len(fresh):
        return NotDefined("the last task, or all before it, has no test sample")
    both = float(old.mean()), float(fresh.mean())
    return 2 * both[0] * both[1] / sum(both) if sum(both) else 0.0


def task_masked_accuracy(record: Record) -> Value:
    """Mean over tasks of the accuracy when only the task's own classes compete, at the last task end.

    What the literature calls task-incremental accuracy (Hsu et al. 2018; van de Ven et al. 2022).
    """
    if record.ceiling:
        return CEILING
    ends = [(e, e.task_masked) for e in record.at_task_ends if e.task_masked is not None and len(e.labels)]
    if not ends:
        return _NO_END
    last, masked = ends[-1]
    return float(np.nanmean(record.task_accuracy(last.test_indices, masked == last.labels)))


@lower_is_better
def expected_calibration_error(record: Record) -> Value:
    """ECE: mean gap between confidence and accuracy in 15 bins of equal width, at the last task end.

    Weighted by the bins' samples; confidence is the top softmax probability (Guo et al. 2017, eq. 5).
    """
    ends = [e for e in record.at_task_ends if len(e.labels)]
    if not ends:
        return _NO_END
    confidence = ends[-1].confidence
    if confidence is None:
        return NotDefined("the strategy's scores are no logits")
    bins = np.minimum((confidence.astype(np.float64) * _BINS).astype(np.int64), _BINS - 1)
    sizes = np.bincount(bins, minlength=_BINS)
    sure = np.bincount(bins, weights=confidence, minlength=_BINS) / np.maximum(sizes, 1)
    gaps = np.nan_to_num(np.abs(shares(bins, ends[-1].correct, _BINS) - sure))
    return float((sizes * gaps).sum() / sizes.sum())


@lower_is_better
def intransigence(record: Record) -> Value:
    """Mean over tasks of the joint run's accuracy less that right after the task (Chaudhry 2018, eq. 4).

    The ceiling is one joint run on the whole stream, not one for every task; it is found among
    the runs of the same command and seed.
    """
    if record.ceiling:
        return CEILING
    if record.joint is None or not record.joint.at_task_ends:
        return NotDefined(
            "it compares with a complete joint run beside it (--strategy joint; streamlab runs metrics)"
        )
    ceiling = record.joint.at_task_ends[-1]
    joint = record.task_accuracy(ceiling.test_indices, ceiling.correct)
    gaps = joint - np.diag(accuracy_matrix(record))
    return float(np.nanmean(gaps)) if np.isfinite(gaps).any() else _NO_END
