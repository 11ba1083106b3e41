"""A pilot: a fraction of a second of each row, to tell how long the whole will take.

The run itself, as its driver drives it, with nothing on disk, stopped once it has shown its pace. What a
budget buys is exact; times are extrapolated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.source import SharedSource, open_shared, share
from ..errors import StreamlabError
from ..evaluation.episode_evaluator import EpisodeEvaluator
from ..plans.stream import StreamPlan, labels_at
from ..simulator import events
from ..simulator.assembly import build
from ..simulator.episode_simulation import EpisodeSimulation
from ..simulator.execute import deterministic, drive
from ..simulator.stream_simulation import StreamSimulation
from ..strategy import Strategy
from .grid import Cell, Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PATIENCE_SECONDS = 0.25
_NEVER = 1 << 60


@dataclass(frozen=True)
class Pilot:
    """One run of a row: exemplars that its budget buys, and the seconds it is expected to take."""

    exemplars: int
    train_seconds: float
    evaluation_seconds: float

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.evaluation_seconds


class _Enough(Exception):
    """The run has shown its pace."""


class _Pace:
    """Hears a run, and stops it: seconds a sample after the first batch, seconds of base training in all."""

    def __init__(self) -> None:
        self.first: events.Progressed | None = None
        self.last: events.Progressed | None = None
        self.base_began: tuple[float, int] | None = None
        self.base_seconds = 0.0

    def hear(self, event: events.Event) -> None:
        """Raise _Enough where nothing more needs to be known."""
        if isinstance(event, events.BaseTrained):
            now = time.perf_counter()
            began, step = self.base_began = self.base_began or (now, event.step)
            self.base_seconds = (now - began) / max(1, event.step - step) * event.steps
            if now - began > _PATIENCE_SECONDS:
                raise _Enough
        if isinstance(event, events.Progressed):
            self.first = self.first or event
            self.last = event
            if event.train_seconds - self.first.train_seconds > _PATIENCE_SECONDS:
                raise _Enough

    def train_seconds(self, samples: int) -> float:
        """Of a whole run that serves so many."""
        if self.first is None or self.last is None:
            return self.base_seconds
        served = self.last.samples_seen - self.first.samples_seen
        if not served:  # one batch was all
            return self.base_seconds + self.last.train_seconds
        each = (self.last.train_seconds - self.first.train_seconds) / served
        return self.base_seconds + each * samples


def take_pilots(grid: Grid) -> Mapping[tuple[str, str], Pilot]:
    """By block's folder and label, a pilot of every row's first seed.

    Raises StreamlabError where a strategy cannot be built.
    """
    shared: dict[str, Path] = {}
    pilots: dict[tuple[str, str], Pilot] = {}
    for cell in grid.cells:
        name = (cell.block.folder, cell.spec.label)
        if name not in pilots:
            shared[cell.source.name] = shared.get(cell.source.name) or share(cell.source)
            try:
                with deterministic(cell.spec.device):
                    pilots[name] = _pilot(cell, open_shared(shared[cell.source.name]))
            except StreamlabError as error:
                raise StreamlabError(f"{cell.spec.label}: {error}") from None
    return pilots


def _pilot(cell: Cell, source: SharedSource) -> Pilot:
    pace, spec = _Pace(), dataclasses.replace(cell.spec, eval_every=_NEVER, record=())
    made = build(spec, cell.plan, source, pace.hear, None, cell.strategy)
    with contextlib.suppress(_Enough):
        drive(made)
    buffers = made.strategy.account.buffers
    capacity = sum(buffer.capacity for buffer in buffers)
    if isinstance(made, EpisodeSimulation):
        return Pilot(capacity, pace.train_seconds(len(made.plan.train)), _testing(made, cell.spec.eval_every))
    judged = expected_predictions(made.plan, source.train_labels, source.test_labels, cell.spec.eval_every)
    return Pilot(capacity, pace.train_seconds(made.total_samples), judged * _predicting(made))


def expected_predictions(
    plan: StreamPlan, train_labels: NDArray[np.int64], test_labels: NDArray[np.int64], eval_every: int
) -> int:
    """Test samples to be predicted in a whole run, over all its evaluation points."""
    ends = np.cumsum([len(experience.indices) for experience in plan.experiences])
    points = set(ends.tolist())
    if plan.kind == "online":
        past = plan.points == "past"
        points |= set(range(eval_every + past, int(ends[-1]) + 1, eval_every))
    served = labels_at(train_labels, plan.stream)
    first = np.full(plan.num_classes, len(served))
    arrived, place = np.unique(served, return_index=True)
    first[arrived] = place
    labels = labels_at(test_labels, plan.test_indices)
    begins = (ends - [len(experience.indices) for experience in plan.experiences])[
        plan.experience_of_test(plan.test_indices)
    ]
    counts_from = np.where(plan.shared_classes[labels], np.maximum(first[labels], begins), first[labels])
    return sum(int((counts_from < point).sum()) for point in points)


def _predicting(simulation: StreamSimulation) -> float:
    """Seconds of predicting one test sample of the classes seen so far."""
    simulation.strategy.consolidate()
    simulation.strategy.train_mode(False)
    began = time.perf_counter()
    evaluation = simulation.evaluator.evaluate(simulation.strategy, 0, (), False, 1, simulation.neighbours)
    return (time.perf_counter() - began) / max(1, len(evaluation.labels))


def _testing(simulation: EpisodeSimulation, eval_every: int) -> float:
    """Seconds of all evaluations of episodes, from ten of them."""
    plan, strategy = simulation.plan, simulation.strategy
    strategy.train_mode(False)
    few = dataclasses.replace(plan, test=dataclasses.replace(plan.test, count=10))
    small = EpisodeEvaluator(few, simulation.images, batch_size=simulation.evaluator.batch_size)
    began = time.perf_counter()
    small.evaluate(strategy, "test", 0)
    each = (time.perf_counter() - began) / 10
    if type(strategy).predict_episodes is Strategy.predict_episodes:  # each image once, not each episode
        each *= 1 / max(1.0, len(plan.test) * len(plan.test.query_slots) / len(plan.test.samples))
    points = len(plan.train) // eval_every if strategy.base is None else 0
    return each * (len(plan.test) * (1 + len(plan.environments)) + len(plan.validation) * points)
