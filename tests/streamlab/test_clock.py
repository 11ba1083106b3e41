"""A stream that does not wait: what is granted, what passes, what is late, and what is judged on arrival."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from making import all_bits, broken_off, carry_on, make_source, resolved, simulate

from streamlab import plugins
from streamlab.cli.live import title_of
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.evaluation.arrivals import near_future_accuracy, prequential_accuracy, prequential_fading
from streamlab.evaluation.record import Evaluation
from streamlab.plans.clock import Clock, batch_ends, decorrelated_shift
from streamlab.plans.stream import StreamPlan
from streamlab.runs.spec import load_strategy
from streamlab.simulator.stream_simulation import StreamSimulation
from streamlab.strategy import Batch, Strategy


@pytest.fixture(scope="module")
def source() -> Source:
    return make_source(classes=6, train=60, test=10)


def clocked(source: Source, strategy: Any, clock: dict[str, Any], **request: Any) -> StreamSimulation:
    given = {"scenario": "si-blurry", "eval_every": 60, "budget": "50ex", **request}
    settings = {"clock": clock, **given.pop("settings", {})}
    return simulate(source, strategy, settings=settings, **given)


@given(st.integers(1, 9), st.integers(1, 30), st.integers(50, 120))
def test_what_costs_more_learns_of_the_share_that_is_paid_for(grant: int, cost: int, batches: int) -> None:
    """And never more than it was granted, but for the step that was begun; nothing is saved for later."""
    clock, granted, spent, learned = Clock(grant), 0.0, 0.0, 0
    for _ in range(batches):
        granted = clock.granted(granted, spent, 1)
        assert granted - spent <= grant
        if clock.affords(granted, spent):
            spent, learned = spent + cost, learned + 1
    assert learned == min(batches, -(-batches * grant // cost))


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40))
def test_the_shift_is_where_labels_are_no_more_alike_than_chance(labels: list[int]) -> None:
    row = np.array(labels)
    chance = sum((row == label).mean() ** 2 for label in range(4))
    blind = {s: (row[s:] == row[:-s]).mean() for s in range(1, len(row) // 2 + 1)}
    close = any(abs(share - chance) < 1e-9 and share != chance for share in blind.values())
    expected = next((s for s, share in blind.items() if share <= chance), None)
    if not close:
        assert decorrelated_shift(row, 4) == expected
    assert decorrelated_shift(np.repeat(np.arange(4), 10), 4) == 8  # 8 of 32 pairs agree


def test_batches_end_where_experiences_do() -> None:
    assert batch_ends([5, 0, 4], 2) == [2, 4, 5, 7, 9]


@pytest.mark.parametrize("beyond", ["unseen", "fewer-updates"])
def test_plain_fine_tuning_costs_once_itself(source: Source, beyond: str) -> None:
    plain = clocked(source, "finetune", {})
    paid = clocked(source, "finetune", {"operations": "1x", "beyond": beyond})
    assert (paid.lost, plain.lost) == (0, 0)
    assert paid.progress.flops == plain.progress.flops == paid.plan.clock.operations * plain.plan.num_samples
    for one, other in zip(plain.evaluations, paid.evaluations, strict=True):
        np.testing.assert_array_equal(one.predictions, other.predictions)


class Counting(Strategy):
    """Takes a step of twice plain fine-tuning's operations, and writes down what it is given."""

    def setup(self) -> None:
        self.observed, self.remembered, self.images = list[int](), list[int](), list[float]()
        self.labels, self.early = list[int](), 0

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.observed.append(len(batch))
        self.labels += [label for label in batch.label_list if label not in self.labels]
        self.early += int(self.exposed.sum()) - len(self.labels)
        twice = torch.cat([batch.images, batch.images])
        return {"task": self.cross_entropy(self.net(twice), torch.cat([batch.labels, batch.labels]))}

    def remember(self, batch: Batch) -> None:
        self.remembered.append(len(batch))

    def arrive(self, images: torch.Tensor) -> None:
        self.images.append(float(images.float().sum()))


def test_a_dearer_method_misses_half_the_stream_and_is_judged_on_all_of_it(source: Source) -> None:
    run = clocked(source, Counting, {"operations": "1x"})
    plain = clocked(source, "finetune", {"operations": "1x"})
    strategy: Any = run.strategy
    assert sum(strategy.observed) == sum(strategy.remembered) == run.progress.used
    assert run.lost == run.plan.num_samples - run.progress.used
    assert run.lost == pytest.approx(run.plan.num_samples / 2, abs=20)
    single: Any = clocked(source, Counting, {"operations": "1x"}, settings={"stream": {"batch_size": 1}})
    assert single.strategy.early == 0  # it knows of no class that passed unseen
    most = run.plan.clock.operations * run.plan.num_samples
    assert run.progress.flops <= most + run.progress.flops_per_step
    for one, other in zip(run.evaluations, plain.evaluations, strict=True):
        assert one.samples_seen == other.samples_seen
        np.testing.assert_array_equal(one.test_indices, other.test_indices)


def test_with_fewer_updates_it_sees_and_may_keep_all(source: Source) -> None:
    run = clocked(
        source, Counting, {"operations": "1x", "beyond": "fewer-updates"},
        settings={"stream": {"updates_per_batch": 4}},
    )  # fmt: skip
    strategy: Any = run.strategy
    assert sum(strategy.remembered) == run.plan.num_samples
    assert sum(strategy.observed) == pytest.approx(run.plan.num_samples / 2, abs=20)
    assert run.lost > 0
    twice = clocked(source, "finetune", {"delay": 1}, settings={"stream": {"updates_per_batch": 2}})
    assert twice.progress.used == twice.progress.samples_seen


def test_an_absolute_grant_is_taken_as_it_is_and_a_generous_one_changes_nothing(source: Source) -> None:
    run, plain = clocked(source, "er", {"operations": "1e12"}), clocked(source, "er", {})
    assert run.plan.clock.operations == 1e12
    assert run.plan.fingerprint != plain.plan.fingerprint
    np.testing.assert_array_equal(run.evaluations[-1].predictions, plain.evaluations[-1].predictions)


def test_sessions_take_fewer_updates(source: Source) -> None:
    given: dict[str, Any] = {"scenario": {"kind": "sessions", "tasks": 2}, "stream": {"epochs": 3}}
    run = simulate(
        source, Counting, scenario="class-incremental",
        settings={**given, "clock": {"operations": "1x", "beyond": "fewer-updates"}},
    )  # fmt: skip
    assert run.progress.used == pytest.approx(3 * run.plan.num_samples / 2, abs=20)


def test_labels_come_so_many_batches_after_their_images(source: Source) -> None:
    run = clocked(source, Counting, {"delay": 3})
    strategy: Any = run.strategy
    ends = batch_ends([len(e.indices) for e in run.plan.experiences], 10)
    assert len(strategy.images) == len(ends)
    assert len(strategy.observed) == len(ends) - 3
    assert sum(strategy.observed) == run.progress.samples_seen == ends[-4]
    sums = [source.train_images[run.plan.stream[a:b]].sum() for a, b in zip([0, *ends], ends, strict=False)]
    assert strategy.images == sums
    assert run.evaluations[-1].samples_seen == run.plan.num_samples
    assert run.evaluations[-1].task_ends == (4,)
    assert run.lost == run.plan.num_samples - ends[-4]
    regular = [e.samples_seen for e in run.evaluations if e.periodic]
    in_time = clocked(source, "finetune", {})
    assert regular == [e.samples_seen for e in in_time.evaluations if e.periodic]


class LastLabel(Strategy):
    """Says of every image what the last label was."""

    def setup(self) -> None:
        self.last = torch.zeros((), dtype=torch.int64)

    def observe(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.last = batch.labels[-1].clone()
        return {}

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        scores = torch.zeros(len(images), self.setting.num_classes)
        scores[:, self.last] = 1
        return scores


@pytest.mark.parametrize("delay", [0, 2])
def test_arrivals_are_judged_before_their_labels_come(source: Source, delay: int) -> None:
    run = clocked(
        source, LastLabel, {"delay": delay}, record=("arrivals",), settings={"scenario": {"tasks": 2}}
    )
    labels, record = source.train_labels[run.plan.stream], run.record()
    ends = batch_ends([len(e.indices) for e in run.plan.experiences], 10)
    shift = decorrelated_shift(labels, 6)
    assert shift is not None
    assert shift > 1
    now, ahead = [], []
    for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        learned = number - delay
        said = labels[ends[learned - 1] - 1] if learned > 0 else -1
        now += [labels[place] == said for place in range(begin, end)]
        later = range(begin + shift - 1, min(end + shift - 1, len(labels)))
        ahead += [labels[place] == said for place in later]
    assert prequential_accuracy(record) == pytest.approx(np.mean(now))
    assert near_future_accuracy(record) == pytest.approx(np.mean(ahead))
    weights = 0.999 ** np.arange(len(now))[::-1]
    assert prequential_fading(record) == pytest.approx((weights * now).sum() / weights.sum())


def test_what_is_recorded_of_arrivals_changes_nothing(source: Source) -> None:
    for strategy in ("er", "scr", "slda"):
        clock = {"operations": "1.5x"}
        with_them = clocked(source, strategy, clock, record=("arrivals",))
        without = clocked(source, strategy, clock)
        assert with_them.progress.flops == without.progress.flops
        for one, other in zip(with_them.evaluations, without.evaluations, strict=True):
            np.testing.assert_array_equal(one.predictions, other.predictions)


def test_a_killed_run_under_a_clock_ends_in_the_same_bits(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    grid = resolved(
        source, "er", scenario="si-blurry", eval_every=60, record=("arrivals",),
        settings={"clock": {"operations": "1x", "delay": 2}, "scenario": {"tasks": 2}},
    )  # fmt: skip
    broken_off(grid, tmp_path / "broken", after=17)
    assert carry_on(grid, tmp_path / "broken")
    assert carry_on(grid, tmp_path / "whole")
    assert all_bits(tmp_path / "broken", grid) == all_bits(tmp_path / "whole", grid)


def test_the_table_is_headed_by_the_clock(source: Source) -> None:
    grid = resolved(source, "er", eval_every=60, settings={"clock": {"operations": "25e3", "delay": 2}})
    assert title_of(grid).endswith("· 500ex · 2.5e+04 operations a sample, labels 2 batches late · 1 seed")


def test_a_plan_keeps_its_clock(source: Source, tmp_path: Path) -> None:
    (cell,) = resolved(source, "er", settings={"clock": {"operations": "2x", "delay": 1}}).cells
    assert isinstance(cell.plan, StreamPlan)
    cell.plan.save(tmp_path / "plan.safetensors")
    loaded = StreamPlan.load(tmp_path / "plan.safetensors")
    assert loaded == cell.plan
    assert loaded.clock == cell.plan.clock


@pytest.mark.parametrize(
    ("scenario", "settings", "sentence"),
    [
        ("si-blurry", {"operations": "0x"}, "operations is 0x; nothing can be learned of that"),
        ("si-blurry", {"operations": "fast"}, "operations is 'fast', and should be 2x"),
        ("si-blurry", {"operations": "nan"}, "operations is 'nan', and should be 2x"),
        ("si-blurry", {"operations": "1"}, "the whole stream grants less than one batch of plain fine-tuning"),
        ("si-blurry", {"beyond": "fewer-updates"}, "operations, which it is of, is not given"),
        ("si-blurry", {"delay": -1}, "delay is -1, and must be at least 0"),
        ("si-blurry", {"delay": 50}, "labels come 50 batches after their images, and the stream has 3"),
        ("si-blurry", {"delay": 6}, "the first evaluation is at 60; set --eval-every to more"),
        ("class-incremental", {"delay": 1}, "set scenario.boundaries=hidden"),
        ("fscil", {"operations": "1x"}, "no sample passes unseen; set clock.beyond=fewer-updates"),
        ("fscil", {"delay": 1}, "labels are late in online streams alone"),
        ("episodes", {"delay": 1}, "episodes is episodes, and a clock is of streams"),
    ],
)  # fmt: skip
def test_a_clock_that_cannot_be_is_one_sentence(
    source: Source, scenario: str, settings: dict[str, Any], sentence: str
) -> None:
    options: dict[str, Any] = {
        "fscil": {"base_classes": 2, "way": 2, "shot": 2, "sessions": 2},
        "episodes": {"way": 2, "train_classes": 2, "validation_classes": 2, "test_classes": 2},
        "si-blurry": {"tasks": 2},
    }
    strategy = {"fscil": "proto-cosine", "episodes": "protonet"}.get(scenario, "er")
    evaluated = 60 if scenario != "fscil" else None
    with pytest.raises(StreamlabError, match=sentence):
        resolved(
            source, strategy, scenario=scenario, eval_every=evaluated,
            settings={"clock": settings, "scenario": options.get(scenario, {})},
        )  # fmt: skip


def test_metrics_of_arrivals_say_why_they_are_not_defined(source: Source) -> None:
    assert "--record arrivals" in str(prequential_accuracy(clocked(source, "finetune", {}).record()))
    settings = {"scenario": {"kind": "sessions", "tasks": 2}}
    sessions = simulate(source, "finetune", scenario="class-incremental", settings=settings)
    assert "the run is of sessions" in str(near_future_accuracy(sessions.record()))
    sorted_stream = simulate(
        make_source(classes=2, train=20), "finetune", scenario="class-incremental",
        settings={"scenario": {"tasks": 2}}, record=("arrivals",),
    )  # fmt: skip
    evaluation: Evaluation = sorted_stream.evaluations[-1]
    assert evaluation.arrivals is not None
    assert len(evaluation.arrivals.labels) == 20


def consolidating() -> list[str]:
    """Built-ins of online streams that do something before they are asked."""
    found = {name: load_strategy(name) for name in plugins.names("strategies")}
    return [
        name
        for name, cls in found.items()
        if "online" in cls.needs.kinds and cls.consolidate is not Strategy.consolidate
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", consolidating())
def test_what_is_recorded_of_arrivals_changes_no_built_in(name: str) -> None:
    source = make_source(classes=4, train=15, test=5)
    shown = {"scenario": "class-incremental", "settings": {"scenario": {"tasks": 2}}, "eval_every": 20}
    with_them = simulate(source, name, record=("arrivals",), **shown)
    without = simulate(source, name, **shown)
    assert with_them.progress.flops == without.progress.flops
    for one, other in zip(with_them.evaluations, without.evaluations, strict=True):
        np.testing.assert_array_equal(one.predictions, other.predictions)
