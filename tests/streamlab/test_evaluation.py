"""Each metric computed once more, from predictions alone, in another way."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import simulate
from scipy import stats

from streamlab import plugins
from streamlab.data.source import Source
from streamlab.evaluation.intervals import holm, interval, paired_differences, t_quantile, t_tails
from streamlab.evaluation.libraries import LIBRARIES, as_libraries
from streamlab.evaluation.metrics import NotDefined, measure
from streamlab.evaluation.novelty import area_under_roc, average_precision, false_positives_at_95
from streamlab.evaluation.record import Evaluation, Record, accuracy_matrix
from streamlab.planning import make_plan
from streamlab.plans.stream import Labels

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
    values, _ = measure(record)
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-12), name


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
    values, reasons = measure(joint)
    assert values.keys() == {"a_last", "macro_accuracy", "expected_calibration_error"}
    assert values["a_last"] > 0.9
    assert set(reasons) | set(values) == set(plugins.names("metrics"))
    even = "every class has as many training samples as any other"
    assert reasons.pop("rare_accuracy") == even
    assert set(reasons.values()) == {
        "trained once on everything and evaluated at the end: it has no curve",
        "the run is of a stream",
        "the run did not record it; --record geometry does",
        "the stream has no subgroups; --set scenario.subgroups=FACTOR names them",
    }
    short = simulate(tiny, "finetune", settings={"scenario": {"tasks": 1}}).record()
    _, reasons = measure(short)
    assert reasons["a_auc"] == "the stream has no regular point"
    assert reasons["f_last"] == "fewer than two tasks have ended"
    assert reasons["forward_transfer"] == "the run did not record it; --record unexposed does"
    assert reasons["intransigence"].startswith("it compares with a complete joint run")
    _, reasons = measure(made([0, 1], [0, 1]))
    assert reasons["expected_calibration_error"] == "the strategy's scores are no logits"


@pytest.fixture(scope="module")
def full(tiny: Source) -> Record:
    """Everything recorded."""
    wanted = ("unexposed", "neighbours")
    return simulate(tiny, "er", eval_every=30, settings=OPTIONS, record=wanted).record()


def test_recording_more_changes_nothing_that_is_learned(full: Record, tiny: Source) -> None:
    plain = simulate(tiny, "er", eval_every=30, settings=OPTIONS).record()
    assert full.evaluations[0].samples_seen == 0
    for one, other in zip(full.evaluations[1:], plain.evaluations, strict=True):
        np.testing.assert_array_equal(one.predictions, other.predictions)


def test_forward_transfer_is_against_the_untrained_network(full: Record) -> None:
    tasks = [set(e.test_indices.tolist()) for e in full.plan.experiences]

    def unmasked_accuracy(evaluation: Evaluation, task: set[int]) -> float:
        right = {}
        for part in (evaluation, evaluation.unexposed):
            if part is not None and part.unmasked is not None:
                right |= dict(
                    zip(part.test_indices.tolist(), (part.unmasked == part.labels).tolist(), strict=True)
                )
        return sum(right[index] for index in task) / len(task)

    ends = full.at_task_ends
    gains = [
        unmasked_accuracy(ends[j - 1], tasks[j]) - unmasked_accuracy(full.evaluations[0], tasks[j])
        for j in range(1, len(tasks))
    ]
    assert measure(full)[0]["forward_transfer"] == pytest.approx(sum(gains) / len(gains), abs=1e-12)


def test_novel_classes_are_told_from_known_ones(full: Record) -> None:
    values, _ = measure(full)
    for score, name in (("confidence", "softmax"), ("energy", "energy"), ("neighbour", "neighbour")):
        areas, rates, precisions, shares = [], [], [], []
        for evaluation in full.at_task_ends:
            if evaluation.unexposed is None:
                continue
            sign = -1 if score == "neighbour" else 1
            known, novel = sign * getattr(evaluation, score), sign * getattr(evaluation.unexposed, score)
            pairs = [(k > n) + 0.5 * (k == n) for k in known for n in novel]
            areas.append(sum(pairs) / len(pairs))
            thresholds = [t for t in known if (known >= t).mean() >= 0.95]
            rates.append((novel >= max(thresholds)).mean())
            above = [(known >= t).sum() / ((known >= t).sum() + (novel >= t).sum()) for t in known]
            precisions.append(sum(above) / len(known))
            shares.append(len(known) / (len(known) + len(novel)))
        assert values[f"auprc_{name}"] == pytest.approx(np.mean(precisions), abs=1e-9)
        assert values["known_share"] == pytest.approx(np.mean(shares), abs=1e-9)
        assert values[f"auroc_{name}"] == pytest.approx(np.mean(areas), abs=1e-9)
        assert values[f"fpr95_{name}"] == pytest.approx(np.mean(rates), abs=1e-9)
    assert area_under_roc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert false_positives_at_95(np.arange(100.0), np.array([4.0, 5.0, 6.0, 200.0])) == 0.75


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=9), st.lists(st.integers(0, 5), min_size=1, max_size=9)
)
def test_precision_weighs_false_positives_by_how_rarely_a_score_is_reached(
    known: list[int], novel: list[int]
) -> None:
    """McDermott et al.'s identity (NeurIPS 2024, theorem 1), and chance where all score alike."""
    k, n = np.array(known, float), np.array(novel, float)
    share, both = len(n) / (len(k) + len(n)), np.concatenate([k, n])
    weighted = [(n >= t).mean() / (both >= t).mean() for t in k]
    assert average_precision(k, n) == pytest.approx(1 - share * np.mean(weighted), abs=1e-12)
    assert average_precision(0 * k, 0 * n) == pytest.approx(1 - share, abs=1e-12)
    assert average_precision(k + 6, n) == 1


def test_anytime_and_worst_case_accuracy(record: Record) -> None:
    regular, rows, ended = [], [], {}
    for place, evaluation in enumerate(record.evaluations):
        right = dict(zip(evaluation.test_indices.tolist(), evaluation.correct.tolist(), strict=True))
        row = {}
        for task, experience in enumerate(record.plan.experiences):
            mine = [right[index] for index in experience.test_indices.tolist() if index in right]
            if mine:
                row[task] = sum(mine) / len(mine)
        rows.append(row)
        regular += [sum(row.values()) / len(row)] if evaluation.periodic else []
        ended |= dict.fromkeys(evaluation.task_ends, place)
    values, _ = measure(record)
    assert values["anytime_accuracy"] == pytest.approx(sum(regular) / len(regular), abs=1e-12)
    least = [min(row[task] for row in rows[ended[task] + 1 :]) for task in (0, 1)]
    assert values["worst_case_accuracy"] == pytest.approx(rows[-1][2] / 3 + 2 / 3 * sum(least) / 2, abs=1e-12)


def made(predictions: list[int], labels: list[int], **more: object) -> Record:
    """A record of one task end over a plan of one task with as many test samples."""
    source = Labels(np.array([0, 1, 1, 1, 2, 2, 2, 2]), np.array(labels), ("a", "b", "c"))
    plan = make_plan("class-incremental", source, 0, {"tasks": 1})
    columns = (np.arange(len(labels)), np.array(labels), np.array(predictions))
    return Record(plan, (Evaluation(8, (0,), True, np.ones(3, bool), *columns, **more),))


def test_accuracies_by_class_and_calibration_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55], np.float32)
    values, _ = measure(made([0, 0, 1, 2], [0, 1, 1, 2], confidence=confidence))
    assert values["a_last"] == 0.75
    assert values["macro_accuracy"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert values["rare_accuracy"] == 1.0  # class 0 has one training sample, the fewest
    assert values["expected_calibration_error"] == pytest.approx(0.5 * 0.45 + 0.5 * 0.45, abs=1e-6)


def test_subgroups_are_told_apart_within_classes() -> None:
    """By hand: class 0 is 2 of 3 right in one subgroup and 0 of 1 in the other; class 1 always right."""
    source = Labels(
        np.array([0, 1, 2]), np.array([0, 0, 0, 0, 1, 1]), ("a", "b", "c"),
        test_factors={"font": np.array(["x", "x", "x", "y", "y", "x"])},
    )  # fmt: skip
    plan = make_plan("class-incremental", source, 0, {"tasks": 1, "subgroups": "font"})
    columns = np.arange(6), source.test, np.array([0, 0, 1, 1, 1, 1])
    record = Record(plan, (Evaluation(3, (0,), True, np.ones(3, bool), *columns),))
    values, _ = measure(record)
    mean = 0.5
    spread = math.sqrt(3 / 4 * (2 / 3 - mean) ** 2 + 1 / 4 * (0 - mean) ** 2)
    assert values["macro_std"] == pytest.approx((spread + 0) / 2)
    assert values["worst_group_accuracy"] == 0
    assert measure(made([0], [0]))[1]["macro_std"].startswith("the stream has no subgroups")


def test_the_harmonic_mean_weighs_old_and_new(record: Record) -> None:
    last = record.at_task_ends[-1]
    new = np.isin(last.test_indices, record.plan.experiences[-1].test_indices)
    old, fresh = last.correct[~new].mean(), last.correct[new].mean()
    expected = 2 * old * fresh / (old + fresh) if old + fresh else 0
    assert measure(record)[0]["old_new_harmonic_mean"] == pytest.approx(expected)


def test_intransigence_is_what_the_joint_run_has_more(record: Record, tiny: Source) -> None:
    joint = simulate(tiny, "joint", settings=OPTIONS).record()
    compared = dataclasses.replace(record, joint=joint)
    (ceiling,) = joint.evaluations
    gaps = []
    for number, experience in enumerate(record.plan.experiences):
        own = np.isin(ceiling.test_indices, experience.test_indices)
        gaps.append(ceiling.correct[own].mean() - accuracy_matrix(record)[number, number])
    assert measure(compared, ["intransigence"])[0]["intransigence"] == pytest.approx(np.mean(gaps))


def test_one_matrix_as_five_libraries_report_it() -> None:
    nan = float("nan")
    matrix = np.array([[90, nan, nan], [60, 80, nan], [70, 50, 95]])
    forgetting = {name: shown[0] for name, shown in as_libraries(matrix).items()}
    assert forgetting == pytest.approx(
        {"Mammoth": 25, "PyCIL": 25, "Avalanche": 25, "Continuum": 25, "online surveys": 50 / 3}
    )
    transfer = {name: shown[1] for name, shown in as_libraries(matrix).items()}
    assert transfer.pop("PyCIL") == NotDefined("the library reports none")
    assert transfer == pytest.approx(
        {"Mammoth": -25, "Avalanche": -25, "Continuum": -80 / 3, "online surveys": 0}
    )
    # The definitions part where a task gets better later on.
    better = np.array([[50, nan, nan], [40, 80, nan], [70, 50, 95]])
    forgetting = {name: shown[0] for name, shown in as_libraries(better).items()}
    assert forgetting == pytest.approx(
        {"Mammoth": 15, "PyCIL": 15, "Avalanche": 5, "Continuum": 5, "online surveys": 10}
    )
    assert all(
        isinstance(value, NotDefined) for pair in as_libraries(matrix[:1, :1]).values() for value in pair
    )
    assert set(as_libraries(matrix)) == set(LIBRARIES)


def test_intervals_are_students() -> None:
    for degrees in (1, 2, 4, 9, 30, 31, 100):
        assert t_quantile(0.95, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)
        assert t_tails(-1.7, degrees) == pytest.approx(2 * stats.t.sf(1.7, degrees), rel=1e-9)
    values = [0.3, 0.5, 0.4, 0.45, 0.6]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    shown = interval(values)
    assert (shown.mean, shown.n) == (pytest.approx(np.mean(values)), 5)
    assert shown.half_width == pytest.approx((high - low) / 2, rel=1e-3)
    assert interval([0.5]).half_width is None


def test_differences_are_paired_by_seed_and_corrected_as_holm_does() -> None:
    own = {0: 0.5, 1: 0.6, 2: 0.55}
    others = {
        "near": {0: 0.49, 1: 0.58, 2: 0.56},
        "far": {0: 0.3, 1: 0.41, 2: 0.35, 9: 1.0},
        "lone": {2: 0.1},
    }
    found = paired_differences(own, others)
    assert set(found) == {"near", "far"}, "one seed in common gives no interval"
    gaps = [0.2, 0.19, 0.2]
    assert found["far"].interval == interval([own[seed] - others["far"][seed] for seed in range(3)])
    assert found["far"].p == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue, rel=1e-6)
    assert found["far"].p_holm == pytest.approx(2 * found["far"].p)
    assert (found["far"].told_apart, found["near"].told_apart) == (True, False)
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"b": 0.03, "c": 0.06, "a": 0.06})
