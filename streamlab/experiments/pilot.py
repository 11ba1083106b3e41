"""A pilot: a second or so of each row, to tell how long the whole will take.

The run itself, as its driver drives it, with nothing on disk, stopped once it has shown its pace. What a
budget buys is exact; times are extrapolated: training from the first batches, what a strategy does at the end
of an experience from two small ones, what it does before an evaluation from what it does for few exemplars.
Where a step would take long (and much memory), none is taken: all is told from a single image.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.source import SharedSource, open_shared, share
from ..errors import StreamlabError
from ..evaluation.episode_evaluator import EpisodeEvaluator
from ..plans.stream import StreamPlan, labels_at
from ..simulator import events
from ..simulator.assembly import build
from ..simulator.episode_simulation import EpisodeSimulation
from ..simulator.execute import deterministic, drive
from ..simulator.stream_simulation import StreamSimulation
from ..simulator.view import View
from ..strategy import Strategy
from .grid import Cell, Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PATIENCE_SECONDS = 0.25
_STEP_SECONDS = 1.0  # a step that is expected to take longer is not taken
_FEW, _MANY = (16, 48), 800  # samples of the small experiences, and of a larger one where that is quick
_EXPERIENCES, _BATCHES = 4, 5  # of which it is looked whether steps grow longer
_NEVER = 1 << 60


@dataclass(frozen=True)
class Pilot:
    """One run of a row: exemplars that its budget buys, and the seconds it is expected to take.

    from_one_image: whether nothing more than an image was computed to tell.
    """

    exemplars: int
    train_seconds: float
    evaluation_seconds: float
    from_one_image: bool = False

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.evaluation_seconds


Again = Callable[[events.Listener], StreamSimulation]  # builds the run once more


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
    capacity = sum(buffer.capacity for buffer in made.strategy.account.buffers)
    image = _one_image(made, source)
    learning = any(parameter.requires_grad for parameter in made.strategy.net.backbone.parameters())
    step = image * (3 if learning else 1)
    small = step * _largest_batch(made) <= _STEP_SECONDS
    if isinstance(made, EpisodeSimulation):
        if not small:
            episodes, tested = made.plan.train, made.plan.test
            shown = len(episodes) * (len(episodes.support_slots) + len(episodes.query_slots))
            return Pilot(capacity, shown * step, len(tested.samples) * image, from_one_image=True)
        _drive(made)
        return Pilot(capacity, pace.train_seconds(len(made.plan.train)), _testing(made, cell.spec.eval_every))
    judged = expected_predictions(made.plan, source.train_labels, source.test_labels, cell.spec.eval_every)
    served = made.total_samples * made.stream.updates_per_batch
    if not small:
        return Pilot(capacity, served * step, judged * image, from_one_image=True)
    vars(made).update(end=_enough, _evaluate=_enough)  # both are told apart
    _drive(made)
    first = len(made.plan.experiences[0].test_indices)
    each = _predicting(made) if image * first <= _STEP_SECONDS else image

    def again(hear: events.Listener) -> StreamSimulation:
        fresh = build(spec, cell.plan, source, hear, None, cell.strategy)
        assert isinstance(fresh, StreamSimulation)
        return fresh

    if made.strategy.base is not None:  # whose end no other run can come to in a second
        return Pilot(capacity, pace.train_seconds(made.total_samples), judged * each)
    trained = pace.train_seconds(made.total_samples) * _growth(again, made.plan, step * made.batch_size)
    if made.plan.shows_boundaries and type(made.strategy).end_experience is not Strategy.end_experience:
        trained += _ending(again, made.plan)
    if type(made.strategy).consolidate is not Strategy.consolidate:
        trained += _consolidating(again, capacity, _points(made.plan, cell.spec.eval_every))
    return Pilot(capacity, trained, judged * each)


def _drive(made: StreamSimulation | EpisodeSimulation) -> None:
    with contextlib.suppress(_Enough):
        drive(made)


def _enough(*of: object) -> None:
    raise _Enough


def _after(signs: int) -> events.Listener:
    """Stops a run at so many signs of life: the first batch, then every tenth of a second."""
    left = signs

    def hear(event: events.Event) -> None:
        nonlocal left
        left -= isinstance(event, events.Progressed)
        if left == 0:
            raise _Enough

    return hear


def _one_image(made: StreamSimulation | EpisodeSimulation, source: SharedSource) -> float:
    """Seconds that one image takes on its way through the network, the second time."""
    image = torch.tensor(source.train_images[:1], device=made.strategy.setting.device)
    began = 0.0
    for _ in range(2):
        began = time.perf_counter()
        made.strategy.features_of(image)
    return time.perf_counter() - began


def _largest_batch(made: StreamSimulation | EpisodeSimulation) -> int:
    """Images of a step: of the stream, of a base session, or of episodes."""
    base = made.strategy.setting.base.batch_size if made.strategy.base is not None else 1
    if isinstance(made, EpisodeSimulation):
        episodes = made.plan.train
        return max(base, made.batch_size * (len(episodes.support_slots) + len(episodes.query_slots)))
    return max(base, made.batch_size)


def _ending(again: Again, plan: StreamPlan) -> float:
    """Seconds of what a strategy does at the ends of all experiences: a part for each, a part a sample."""
    _ended(again, _FEW[0])  # the first is slower for being the first
    few, more = _FEW
    short, long = _ended(again, few), _ended(again, more)
    if long / more * _MANY < _STEP_SECONDS:  # what is chosen of many samples may be no more than of fewer
        few, more, short = more, _MANY, long
        long = _ended(again, more)
    each = max(0.0, (long - short) / (more - few))
    fixed = max(0.0, short - each * few)
    return sum(fixed + each * len(experience.indices) for experience in plan.experiences)


def _ended(again: Again, count: int) -> float:
    """Seconds of what it does at the end of an experience of so many samples."""
    fresh = again(_after(1))
    vars(fresh)["view"] = partial(_cut, fresh.view(0), count)
    _drive(fresh)
    began = time.perf_counter()
    fresh.end(0)
    return time.perf_counter() - began


def _growth(again: Again, plan: StreamPlan, batch: float) -> float:
    """How much longer a step takes on the average than in the first experience (1: no longer).

    By the first experiences, a few batches each; a strategy may do more the more experiences there were.
    batch: seconds that one is expected to take.
    """
    shown = len(plan.experiences[:_EXPERIENCES])
    if not plan.shows_boundaries or shown < 3 or batch * _BATCHES * shown > _STEP_SECONDS:
        return 1.0
    fresh = again(lambda event: None)
    took: list[list[float]] = [[] for _ in range(shown)]
    observe = fresh.observe

    def timed(learn: Callable[[], Mapping[str, Tensor]], size: int) -> None:
        began = time.perf_counter()
        observe(learn, size)
        took[fresh.progress.segment].append(time.perf_counter() - began)

    for number in range(shown):
        vars(fresh)["observe"] = timed
        _serve(fresh, number, _BATCHES * fresh.batch_size)
        vars(fresh).pop("observe")
        _remember(fresh, number, int(_STEP_SECONDS / shown / max(batch / fresh.batch_size, 1e-9)))
        vars(fresh)["view"] = partial(_cut, fresh.view(number), _FEW[0])
        fresh.end(number)
        vars(fresh).pop("view")
    each = [float(np.median(seconds)) for seconds in took]
    slope = (each[-1] - each[1]) / (shown - 2)
    later = [
        each[n] if n < shown else each[-1] + slope * (n - shown + 1) for n in range(len(plan.experiences))
    ]
    sizes = np.array([len(experience.indices) for experience in plan.experiences])
    grown = float((sizes * np.maximum(later, each[0])).sum() / sizes.sum() / each[0])
    return grown if grown > 1.5 else 1.0  # less than that may be chance


def _serve(fresh: StreamSimulation, number: int, count: int) -> None:
    """So many samples from all over an experience, in its last epoch, in which they are remembered."""
    fresh.progress.segment, fresh.progress.offset = number, 0
    fresh.progress.epoch = fresh.epochs_of(number) - 1
    order = fresh.order(_spread(fresh.plan.experiences[number].indices, count))
    fresh.strategy.train_mode(True)
    fresh.begin(number)
    for begin in range(0, len(order), fresh.batch_size):
        fresh.learn(order[begin : begin + fresh.batch_size], order[:0])


def _remember(fresh: StreamSimulation, number: int, most: int) -> None:
    """Fill buffers by an experience's samples, as they are at its end: later steps may take the longer.

    As one batch, of so many samples at most, which is learned first: what is kept may hang on that.
    """
    if fresh.strategy.account.buffers and most > 0:
        count = min(most, sum(buffer.capacity for buffer in fresh.strategy.account.buffers))
        order = fresh.order(_spread(fresh.plan.experiences[number].indices, count))
        fresh.learn(order, order[:0])


def _spread(indices: Any, count: int) -> Any:
    return indices[:: max(1, len(indices) // count)][:count]


def _cut(view: View, count: int, number: int) -> View:
    """The first experience, of so many samples from all over it."""
    return dataclasses.replace(view, indices=_spread(view.indices, count))


def _consolidating(again: Again, capacity: int, points: Sequence[int]) -> float:
    """Seconds of what a strategy does before all evaluations, in proportion to the exemplars it has then."""
    fresh = again(lambda event: None)
    _serve(fresh, 0, _FEW[1])
    began = time.perf_counter()
    fresh.strategy.consolidate()
    took = time.perf_counter() - began
    held = sum(len(buffer) for buffer in fresh.strategy.account.buffers)
    if not held:
        return took * len(points)
    return took / held * sum(min(capacity, point) for point in points)


def _points(plan: StreamPlan, eval_every: int) -> list[int]:
    """After how many samples a run is evaluated."""
    ends = np.cumsum([len(experience.indices) for experience in plan.experiences])
    points = set(ends.tolist())
    if plan.kind == "online":
        past = plan.points == "past"
        points |= set(range(eval_every + past, int(ends[-1]) + 1, eval_every))
    return sorted(points)


def expected_predictions(
    plan: StreamPlan, train_labels: NDArray[np.int64], test_labels: NDArray[np.int64], eval_every: int
) -> int:
    """Test samples to be predicted in a whole run, over all its evaluation points."""
    ends = np.cumsum([len(experience.indices) for experience in plan.experiences])
    points = _points(plan, eval_every)
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
    simulation.strategy.train_mode(False)
    began = time.perf_counter()
    evaluation = simulation.evaluator.evaluate(
        simulation.strategy, 0, (), False, 1, simulation.exposed_classes(), simulation.neighbours
    )
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
