"""Metrics of few-shot sessions on a record that is small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from streamlab.evaluation import few_shot
from streamlab.evaluation.metrics import NotDefined
from streamlab.evaluation.record import Evaluation, Record
from streamlab.plans.stream import Experience, StreamPlan


def record(*predictions: list[int]) -> Record:
    """Base classes 0 and 2, then class 1, then class 3; two test samples each."""
    parts = ((0, 2), (1,), (3,))
    labels = np.repeat(np.arange(4), 2)
    experiences = tuple(
        Experience(np.zeros(1, np.int64), np.flatnonzero(np.isin(labels, part)), part) for part in parts
    )
    plan = StreamPlan("fscil", "sessions", 4, True, 0, {}, experiences, has_base=True)
    evaluations = []
    for number, made in enumerate(predictions):
        classes = [label for part in parts[: number + 1] for label in part]
        known = np.flatnonzero(np.isin(labels, classes))
        evaluations.append(
            Evaluation(
                number, (number,), False, np.isin(np.arange(4), classes), known, labels[known], np.array(made),
                group_masked=np.array(made),
            )
        )  # fmt: skip
    return Record(plan, tuple(evaluations))


WHOLE = record([0, 0, 2, 2], [0, 1, 1, 0, 2, 2], [0, 1, 1, 2, 2, 0, 3, 0])


def test_the_last_session_is_counted_by_hand() -> None:
    assert few_shot.base_accuracy(WHOLE) == 2 / 4
    assert few_shot.novel_accuracy(WHOLE) == 2 / 4
    assert few_shot.harmonic_mean(WHOLE) == pytest.approx(0.5)
    assert few_shot.performance_drop(WHOLE) == pytest.approx(1 - 4 / 8)
    assert few_shot.novel_as_base(WHOLE) == 2 / 4
    assert few_shot.base_as_novel(WHOLE) == 1 / 4
    assert few_shot.novel_only_accuracy(WHOLE) == 2 / 4


def test_every_session_has_its_figures() -> None:
    shown = few_shot.by_session(WHOLE)
    assert shown["accuracy"] == pytest.approx([1, 4 / 6, 4 / 8])
    assert shown["base_accuracy"] == pytest.approx([1, 3 / 4, 2 / 4])
    assert np.isnan(shown["novel_accuracy"][0])
    assert shown["novel_accuracy"][1:] == [1 / 2, 2 / 4]
    assert shown["novel_as_base"][1:] == [1 / 2, 2 / 4]
    assert shown["base_as_novel"] == [0, 1 / 4, 1 / 4]


def test_the_confusion_matrix_is_ordered_by_session() -> None:
    shares, order, sizes = few_shot.confusion(WHOLE)
    assert (order, sizes) == ([0, 2, 1, 3], [2, 1, 1])
    expected = [[0.5, 0, 0.5, 0], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5]]
    np.testing.assert_array_equal(shares, expected)


def test_what_is_not_defined_says_why() -> None:
    assert few_shot.novel_accuracy(record([0, 0, 2, 2])) == NotDefined("no session after the base has ended")
    plain = Record(StreamPlan("x", "online", 4, True, 0, {}, WHOLE.plan.experiences), WHOLE.evaluations)
    assert few_shot.harmonic_mean(plain) == NotDefined("the stream has no base session")
