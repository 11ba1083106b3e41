"""Wrong labels: as many as asked for, learned by as given, judged by the true ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import all_bits, broken_off, carry_on, make_source, resolved, simulate
from rich.console import Console

from streamlab.cli.describe import print_plan
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.evaluation.arrivals import prequential_accuracy
from streamlab.planning import make_plan
from streamlab.plans.stream import StreamPlan
from streamlab.strategy import Batch, Strategy


@pytest.fixture(scope="module")
def source() -> Source:
    return make_source(classes=5, train=40, test=10)


def planned(source: Source, scenario: str = "si-blurry", seed: int = 0, **options: Any) -> StreamPlan:
    plan = make_plan(scenario, source.labels, seed, options)
    assert isinstance(plan, StreamPlan)
    return plan


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_symmetric_noise_takes_its_share_of_every_class_for_any_other(source: Source, rate: float) -> None:
    plan = planned(source, noise="symmetric", noise_rate=rate)
    given = plan.given(source.train_labels)
    for label in range(5):
        own = source.train_labels == label
        assert (given[own] != label).sum() == round(rate * 40)
    np.testing.assert_array_equal(plan.true(given), source.train_labels)
    if rate == 1:
        counts = np.bincount(given[source.train_labels == 0], minlength=5)
        assert counts[0] == 0
        assert (counts[1:] > 2).all()


def test_pair_noise_takes_a_class_for_the_next(source: Source) -> None:
    given = planned(source, noise="pair", noise_rate=0.5).given(source.train_labels)
    wrong = given != source.train_labels
    assert wrong.sum() == 100
    np.testing.assert_array_equal(given[wrong], (source.train_labels[wrong] + 1) % 5)


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_a_matrix_says_what_is_taken_for_what(source: Source, tmp_path: Path, suffix: str) -> None:
    matrix = np.eye(5)
    matrix[2] = [0, 0.25, 0.5, 0, 0.25]
    path = tmp_path / f"matrix{suffix}"
    np.save(path, matrix) if suffix == ".npy" else np.savetxt(path, matrix, delimiter=",")
    given = planned(source, noise=f"file:{path}").given(source.train_labels)
    own = source.train_labels == 2
    np.testing.assert_array_equal(given[~own], source.train_labels[~own])
    counts = np.bincount(given[own], minlength=5)
    assert counts[2] == 20
    assert counts[0] == counts[3] == 0
    assert min(counts[1], counts[4]) >= 4


@pytest.mark.parametrize("noise", ["symmetric", "pair"])
def test_where_classes_are_told_a_label_is_one_of_the_experience(source: Source, noise: str) -> None:
    plan = planned(source, "class-incremental", base=3, increment=2, noise=noise, noise_rate=0.5)
    given = plan.given(source.train_labels)
    for experience in plan.experiences:
        assert set(given[experience.indices]) <= set(experience.classes)
        assert (given[experience.indices] != source.train_labels[experience.indices]).sum() == (
            20 * len(experience.classes)
        )


class Seen(Strategy):
    """Counts the labels that it is shown, and predicts the first class."""

    def setup(self) -> None:
        self.counts = [0] * self.setting.num_classes

    def observe(self, batch: Batch) -> dict[str, Any]:
        for label in batch.label_list:
            self.counts[label] += 1
        return {}


def test_strategies_learn_the_given_labels_and_evaluations_know_the_true_ones(source: Source) -> None:
    noise = {"noise": "pair", "noise_rate": 0.5, "tasks": 2}
    run = simulate(source, Seen, scenario="si-blurry", settings={"scenario": noise}, record=("arrivals",))
    given = run.plan.given(source.train_labels)
    strategy: Any = run.strategy
    assert strategy.counts == np.bincount(given[run.plan.stream], minlength=5).tolist()
    last = run.evaluations[-1]
    np.testing.assert_array_equal(last.labels, source.test_labels[last.test_indices])
    taken = [e.arrivals for e in run.evaluations if e.arrivals is not None]
    true = np.concatenate([one.labels for one in taken])
    np.testing.assert_array_equal(true, source.train_labels[run.plan.stream])
    assert isinstance(prequential_accuracy(run.record()), float)


def test_a_class_is_judged_once_it_has_come_whatever_its_label(source: Source) -> None:
    """In a stream whose every label is wrong, the first class that comes is not the first that is named."""
    run = simulate(
        source, "finetune", eval_every=1,
        settings={"scenario": {"noise": "pair", "noise_rate": 1, "tasks": 2}, "stream": {"batch_size": 1}},
    )  # fmt: skip
    first = int(source.train_labels[run.plan.stream[0]])
    assert np.flatnonzero(run.evaluations[0].exposed).tolist() == [first]
    assert set(run.evaluations[0].predictions) == {(first + 1) % 5}
    assert run.evaluations[0].accuracy == 0


def test_a_killed_run_with_noise_ends_in_the_same_bits(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    options = {"kind": "sessions", "base": 3, "increment": 2, "noise": "symmetric", "noise_rate": 0.4}
    grid = resolved(source, "er", scenario="class-incremental", settings={"scenario": options})
    broken_off(grid, tmp_path / "broken", after=15)
    assert carry_on(grid, tmp_path / "broken")
    assert carry_on(grid, tmp_path / "whole")
    assert all_bits(tmp_path / "broken", grid) == all_bits(tmp_path / "whole", grid)


def test_a_plan_keeps_its_wrong_labels(source: Source, tmp_path: Path) -> None:
    plan = planned(source, noise="symmetric")
    plan.save(tmp_path / "plan.safetensors")
    loaded = StreamPlan.load(tmp_path / "plan.safetensors")
    assert loaded == plan
    np.testing.assert_array_equal(loaded.given(source.train_labels), plan.given(source.train_labels))
    assert plan.fingerprint != planned(source).fingerprint
    np.testing.assert_array_equal(plan.stream, planned(source).stream)


def test_noise_that_cannot_be_is_one_sentence(source: Source, tmp_path: Path) -> None:
    np.save(tmp_path / "self.npy", np.eye(5)), np.save(tmp_path / "small.npy", np.eye(3))
    np.save(tmp_path / "odd.npy", np.full((5, 5), 0.5)), (tmp_path / "text.csv").write_text("a,b")
    for options, sentence in (
        ({"noise": "loud"}, "noise is 'loud', and should be none, symmetric, pair or file:PATH"),
        ({"noise_rate": 0.4}, "noise_rate is 0.4, and noise, which it is of, is none"),
        ({"noise": "pair", "noise_rate": 1.5}, "noise_rate is 1.5, and must lie in 0..1"),
        ({"noise": f"file:{tmp_path}/self.npy"}, "labels every class as itself, which is no noise"),
        ({"noise": f"file:{tmp_path}/small.npy"}, r"is of shape \(3, 3\), and should be 5 by 5"),
        ({"noise": f"file:{tmp_path}/odd.npy"}, "has rows that are no shares of 1"),
        ({"noise": f"file:{tmp_path}/text.csv"}, "cannot be read"),
        ({"noise": f"file:{tmp_path}/none.npy"}, "cannot be read"),
    ):
        with pytest.raises(StreamlabError, match=sentence):
            planned(source, **options)
    with pytest.raises(StreamlabError, match="has another class to be taken for"):
        planned(source, "class-incremental", tasks=5, noise="symmetric")
    episodes = {"train_classes": 2, "validation_classes": 2, "test_classes": 2, "way": 2, "noise": "pair"}
    with pytest.raises(StreamlabError, match="noise is of streams, and these are episodes"):
        make_plan("episodes", make_source().labels, 0, episodes)


def test_a_described_plan_says_how_many_labels_are_wrong(source: Source) -> None:
    told = io.StringIO()
    print_plan(planned(source, noise="pair", noise_rate=0.25), source, Console(file=told, width=100))
    assert "50 of 200 labels are wrong" in told.getvalue()
