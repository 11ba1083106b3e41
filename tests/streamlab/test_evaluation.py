"""Each metric computed once more, from predictions alone, in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from making import simulate
from scipy import stats

from streamlab.data.source import Source
from streamlab.evaluation.intervals import interval, t95
from streamlab.evaluation.metrics import METRICS, NotDefined, accuracy_matrix
from streamlab.evaluation.record import Record

OPTIONS = {"scenario": {"tasks": 3, "disjoint_percent": 100}}


@pytest.fixture(scope="module")
def record(tiny: Source) -> Record:
    simulation = simulate(tiny, "finetune", eval_every=30, settings=OPTIONS)
    return simulation.record()


def by_hand(record: Record) -> dict[str, float]:
    """Plain loops over predictions."""
    periodic, ends = [], []
    for evaluation in record.evaluations:
        pairs = zip(evaluation.predictions.tolist(), evaluation.labels.tolist(), strict=True)
        right = [int(a == b) for a, b in pairs]
        accuracy = sum(right) / len(right)
        periodic += [accuracy] if evaluation.periodic else []
        if evaluation.task_ends:
            ends.append((evaluation, accuracy))

    def class_accuracy(evaluation: object, label: int) -> float:
        mine = [p == t for p, t in zip(evaluation.predictions, evaluation.labels, strict=True) if t == label]
        return sum(mine) / len(mine) if mine else 0.0

    drops = []
    for label in range(record.plan.num_classes):
        best = max(class_accuracy(evaluation, label) for evaluation, _ in ends[:-1])
        if best > 0:
            drops.append(best - class_accuracy(ends[-1][0], label))

    rows = []
    for evaluation, _ in ends:
        right = dict(zip(evaluation.test_indices.tolist(), evaluation.correct.tolist(), strict=True))
        row = []
        for experience in record.plan.experiences:
            mine = [right[index] for index in experience.test_indices.tolist() if index in right]
            row.append(sum(mine) / len(mine) if mine else math.nan)
        rows.append(row)
    last = len(rows) - 1
    best_before = [max(rows[i][j] for i in range(j, last)) for j in range(last)]
    return {
        "a_auc": sum(periodic) / len(periodic),
        "a_avg": sum(accuracy for _, accuracy in ends) / len(ends),
        "a_last": ends[-1][1],
        "f_last": sum(drops) / len(drops),
        "average_forgetting": sum(best_before[j] - rows[last][j] for j in range(last)) / last,
        "backward_transfer": sum(rows[last][j] - rows[j][j] for j in range(last)) / last,
    }


def test_metrics_equal_a_second_computation(record: Record) -> None:
    expected = by_hand(record)
    assert expected.keys() == METRICS.keys()
    for name, metric in METRICS.items():
        assert metric(record) == pytest.approx(expected[name], abs=1e-12), name


def test_evaluations_are_over_exposed_classes_only(record: Record) -> None:
    exposed = [int(evaluation.exposed.sum()) for evaluation in record.evaluations]
    assert exposed == sorted(exposed)
    assert exposed[0] < exposed[-1]
    for evaluation in record.evaluations:
        assert evaluation.exposed[evaluation.labels].all()
        assert evaluation.exposed[evaluation.predictions].all()
        assert len(evaluation.labels) == 10 * evaluation.exposed.sum()


def test_task_ends_carry_what_later_metrics_need(record: Record) -> None:
    for evaluation in record.at_task_ends:
        assert ((evaluation.confidence > 0) & (evaluation.confidence <= 1)).all()
        assert np.isfinite(evaluation.energy).all()
        task_of = {c: n for n, e in enumerate(record.plan.experiences) for c in e.classes}
        same = [
            task_of[p] == task_of[t]
            for p, t in zip(evaluation.task_masked.tolist(), evaluation.labels.tolist(), strict=True)
        ]
        assert all(same)


def test_an_unfinished_matrix_has_holes_not_zeros(record: Record) -> None:
    shorter = Record(record.plan, record.evaluations[:1])
    matrix = accuracy_matrix(shorter)
    assert np.isnan(matrix[-1]).all()


def test_what_is_not_defined_says_why(tiny: Source) -> None:
    joint = simulate(tiny, "joint").record()
    for name, metric in METRICS.items():
        value = metric(joint)
        if name == "a_last":
            assert value > 0.9
        else:
            assert value == NotDefined("trained once on everything and evaluated at the end: it has no curve")
    short = simulate(tiny, "finetune", settings={"scenario": {"tasks": 1}}).record()
    assert METRICS["a_auc"](short) == NotDefined("the stream ends before the first point")
    assert METRICS["f_last"](short) == NotDefined("fewer than two tasks have ended")


def test_intervals_are_students() -> None:
    for degrees in (1, 2, 4, 9, 30, 31, 100):
        assert t95(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-4)
    values = [0.3, 0.5, 0.4, 0.45, 0.6]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    shown = interval(values)
    assert (shown.mean, shown.n) == (pytest.approx(np.mean(values)), 5)
    assert shown.half_width == pytest.approx((high - low) / 2, rel=1e-3)
    assert interval([0.5]).half_width is None
