"""A dry run's pilot, by a clock that the strategy itself moves: what is told is what the whole would take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from making import make_source, resolved
from torch import Tensor

from streamlab.batch import Batch
from streamlab.data.source import Source
from streamlab.experiments import pilot as pilot_of
from streamlab.experiments.pilot import take_pilots
from streamlab.simulator import stream_simulation
from streamlab.strategy import ExperienceView, Strategy

NOW = [0.0]
STEP, EACH, FIXED, HELD = 0.01, 0.001, 0.5, 0.002


class Costly(Strategy):
    """A step takes longer with every experience; an end has a fixed part; consolidation goes by exemplars."""

    def setup(self) -> None:
        self.buffer = self.make_buffer()
        self.begun = 0

    def begin_experience(self, view: ExperienceView) -> None:
        self.begun += 1

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        NOW[0] += STEP * max(1, self.begun)
        return {}

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)

    def end_experience(self, view: ExperienceView) -> None:
        NOW[0] += FIXED + EACH * len(view)

    def consolidate(self) -> None:
        NOW[0] += HELD * len(self.buffer)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    NOW[0] = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: NOW[0])
    return make_source(classes=12, train=200, test=5)


def seconds(source: Source, **request: Any) -> float:
    strategy = request.pop("strategy", Costly)
    grid = resolved(source, strategy, **{"scenario": "class-incremental", "budget": "100ex", **request})
    (pilot,) = take_pilots(grid).values()
    assert not pilot.from_one_image
    return pilot.train_seconds


@pytest.mark.parametrize("kind", ["online", "sessions"])
def test_what_grows_and_what_comes_at_ends_is_told(source: Source, kind: str) -> None:
    told = seconds(source, settings={"scenario": {"tasks": 6, "kind": kind, "boundaries": "shown"}})
    steps = sum(STEP * (number + 1) * 400 / 10 for number in range(6))
    ends = 6 * (FIXED + EACH * 400)
    points = 6 if kind == "sessions" else 6 + 2400 // 1000
    assert told == pytest.approx(steps + ends + HELD * 100 * points, rel=0.1)


class Rehearsing(Costly):
    """A step takes the longer, the more exemplars there were when its experience began."""

    def begin_experience(self, view: ExperienceView) -> None:
        self.earlier = len(self.buffer)

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        NOW[0] += STEP + HELD * self.earlier
        return {}

    def end_experience(self, view: ExperienceView) -> None:
        return

    def consolidate(self) -> None:
        return


@pytest.mark.parametrize("kind", ["online", "sessions"])
def test_steps_that_go_by_what_is_held_are_told_by_full_memories(source: Source, kind: str) -> None:
    """The few batches that a pilot learns would not fill them."""
    epochs = 2 if kind == "sessions" else 1
    scenario = {"tasks": 6, "kind": kind, "boundaries": "shown"}
    settings = {"scenario": scenario, "stream": {"epochs": epochs}}
    told = seconds(source, strategy=Rehearsing, budget="300ex", settings=settings)
    assert told == pytest.approx(40 * epochs * (6 * STEP + 5 * HELD * 300), rel=0.1)


def test_where_nothing_grows_a_step_is_a_step(source: Source) -> None:
    told = seconds(source, scenario="si-blurry", settings={"scenario": {"tasks": 3}})
    assert told == pytest.approx(STEP * 2400 / 10 + HELD * 100 * 5, rel=0.1)


def test_a_step_that_would_take_long_is_not_taken(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All is told from one image: three times its time where the network learns, once at evaluations."""

    class Large(Strategy):
        def embed(self, images: Tensor) -> Tensor:
            return self.net.features(images)

        def observe(self, batch: Batch) -> Mapping[str, Tensor]:
            raise AssertionError("a step was taken")

    real = Large.features_of

    def slow(self: Strategy, images: Tensor) -> Tensor:
        NOW[0] += 0.5 * len(images)
        return real(self, images)

    monkeypatch.setattr(Large, "features_of", slow)
    grid = resolved(source, Large, settings={"scenario": {"tasks": 3}, "backbone": {"name": "mlp"}})
    (pilot,) = take_pilots(grid).values()
    assert pilot.from_one_image
    assert pilot.train_seconds == pytest.approx(2400 * 3 * 0.5)
    assert pilot.evaluation_seconds >= 0.5 * 60
    frozen = resolved(source, Large, settings={"scenario": {"tasks": 3}, "backbone": {"name": "pixels"}})
    (pilot,) = take_pilots(frozen).values()
    assert pilot.train_seconds == pytest.approx(2400 * 0.5)


def test_a_base_session_is_begun_once(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def stopped(*of: Any) -> None:
        begun.append(of)
        raise pilot_of._Enough

    monkeypatch.setattr(stream_simulation, "establish_base", stopped)
    options = {"base_classes": 8, "sessions": 2, "way": 2, "shot": 2}
    grid = resolved(source, "teen", scenario="fscil", settings={"scenario": options})
    take_pilots(grid)
    assert len(begun) == 1
