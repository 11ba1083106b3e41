"""Metrics of few-shot sessions: base and novel classes apart, and what is taken for what.

Base classes are those of the base session, novel ones all that came after. Unless a name says
otherwise all classes seen so far compete, and the values are those after the last session; `by_session`
gives every session's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .metrics import CEILING, NotDefined, Value, lower_is_better

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .record import Evaluation, Record

_NO_BASE = NotDefined("the stream has no base session")
_NO_NOVEL = NotDefined("no session after the base has ended")


def _last(record: Record) -> Evaluation | NotDefined:
    """The evaluation after the last session that ended."""
    if record.ceiling:
        return CEILING
    if not record.plan.has_base:
        return _NO_BASE
    ends = record.at_task_ends
    return ends[-1] if len(ends) > 1 else _NO_NOVEL


def _is_base(record: Record, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether these classes are of the base session."""
    return np.isin(labels, record.plan.experiences[0].classes)


def _group_accuracy(record: Record, evaluation: Evaluation, base: bool) -> float:
    rows = _is_base(record, evaluation.labels) == base
    return float(evaluation.correct[rows].mean()) if rows.any() else float("nan")


def base_accuracy(record: Record) -> Value:
    """Accuracy on the base session's classes (FSCIL; TEEN, sec. 3)."""
    last = _last(record)
    return last if isinstance(last, NotDefined) else _group_accuracy(record, last, True)


def novel_accuracy(record: Record) -> Value:
    """Accuracy on all classes that came after the base (FSCIL; TEEN, sec. 3)."""
    last = _last(record)
    return last if isinstance(last, NotDefined) else _group_accuracy(record, last, False)


def harmonic_mean(record: Record) -> Value:
    """Harmonic mean of base and novel accuracy (FSCIL)."""
    last = _last(record)
    if isinstance(last, NotDefined):
        return last
    return _harmonic(_group_accuracy(record, last, True), _group_accuracy(record, last, False))


def _harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one + other else 0.0


def novel_only_accuracy(record: Record) -> Value:
    """Accuracy on novel classes when only novel classes compete: the kinder figure."""
    last = _last(record)
    if isinstance(last, NotDefined):
        return last
    if last.group_masked is None:
        return NotDefined("the run did not keep predictions within base and novel classes")
    novel = ~_is_base(record, last.labels)
    return float((last.group_masked == last.labels)[novel].mean())


@lower_is_better
def performance_drop(record: Record) -> Value:
    """PD: accuracy after the base session less that after the last (FSCIL)."""
    last = _last(record)
    return last if isinstance(last, NotDefined) else record.at_task_ends[0].accuracy - last.accuracy


@lower_is_better
def novel_as_base(record: Record) -> Value:
    """Share of novel test samples that are taken for a base class (TEEN, sec. 3)."""
    last = _last(record)
    return last if isinstance(last, NotDefined) else _crossed(record, last, base=False)


@lower_is_better
def base_as_novel(record: Record) -> Value:
    """Share of base test samples that are taken for a novel class (TEEN, sec. 3)."""
    last = _last(record)
    return last if isinstance(last, NotDefined) else _crossed(record, last, base=True)


def _crossed(record: Record, evaluation: Evaluation, base: bool) -> float:
    rows = _is_base(record, evaluation.labels) == base
    other = _is_base(record, evaluation.predictions) != base
    return float(other[rows].mean()) if rows.any() else float("nan")


def by_session(record: Record) -> dict[str, list[float]]:
    """For every session that ended, accuracy over all classes so far and its parts; NaN before novel ones."""
    rows: dict[str, list[float]] = {}
    for evaluation in record.at_task_ends:
        base, novel = (_group_accuracy(record, evaluation, which) for which in (True, False))
        values = {
            "accuracy": evaluation.accuracy,
            "base_accuracy": base,
            "novel_accuracy": novel,
            "harmonic_mean": _harmonic(base, novel) if novel == novel else novel,
            "novel_as_base": _crossed(record, evaluation, base=False),
            "base_as_novel": _crossed(record, evaluation, base=True),
        }
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
    return rows


def confusion(record: Record) -> tuple[NDArray[np.float64], list[int], list[int]]:
    """After the last session: (K, K) share of each true class (row) taken for each class (column).

    Also the classes in the order of rows, session by session, and how many belong to each session.
    """
    last = record.at_task_ends[-1]
    order = [label for experience in record.plan.experiences for label in experience.classes]
    place = np.zeros(record.plan.num_classes, np.int64)
    place[order] = np.arange(len(order))
    counts = np.zeros((len(order), len(order)))
    np.add.at(counts, (place[last.labels], place[last.predictions]), 1)
    sizes = [len(experience.classes) for experience in record.plan.experiences]
    return counts / np.maximum(1, counts.sum(1, keepdims=True)), order, sizes
