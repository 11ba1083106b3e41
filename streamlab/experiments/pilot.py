"""A pilot: a fraction of a second of each row, to tell how long the whole will take.

Nothing is written. What a budget buys is exact; times are extrapolated from the first batches.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..augment import augmented
from ..data.source import open_shared, share
from ..errors import StreamlabError
from ..evaluation.episode_evaluator import EpisodeEvaluator
from ..plans.stream import StreamPlan, labels_at
from ..simulator.episode_simulation import EpisodeSimulation
from ..simulator.execute import build, deterministic
from ..simulator.stream_simulation import StreamSimulation
from ..simulator.view import View
from ..strategy import Strategy
from .experiment import Experiment

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WARM_UP = 3
_PATIENCE_SECONDS = 0.25


@dataclass(frozen=True)
class Pilot:
    """One run of a row: exemplars that its budget buys, and the seconds it is expected to take."""

    exemplars: int
    train_seconds: float
    evaluation_seconds: float

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.evaluation_seconds


def take_pilots(experiment: Experiment) -> Mapping[str, Pilot]:
    """A pilot of every row's first seed; raises StreamlabError where a strategy cannot be built."""
    shared = open_shared(share(experiment.source))
    pilots: dict[str, Pilot] = {}
    for spec in experiment.specs:
        if spec.label in pilots:
            continue
        plan, cls = experiment.plans[spec.plan_seed], experiment.classes.get(spec.strategy)
        try:
            with deterministic():
                made = build(spec, plan, shared, lambda event: None, None, cls)
                if isinstance(made, EpisodeSimulation):
                    train, testing = _time_episodes(made)
                else:
                    train, each = _time_base(made) if made.strategy.base else _time(made)
                    testing = each * expected_predictions(
                        made.plan, shared.train_labels, shared.test_labels, spec.eval_every
                    )
        except StreamlabError as error:
            raise StreamlabError(f"{spec.label}: {error}") from None
        capacity = sum(buffer.capacity for buffer in made.strategy.buffers)
        pilots[spec.label] = Pilot(capacity, train, testing)
    return pilots


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


def _time(simulation: StreamSimulation) -> tuple[float, float]:
    """Seconds of training in all and of predicting one sample, from the first batches."""
    simulation.start()
    if simulation.plan.kind == "sessions" or simulation.plan.shows_boundaries:
        simulation.begin(0)
    simulation.progress.epoch = simulation.epochs - 1  # the one in which buffers are filled
    order = simulation.order(simulation.plan.experiences[0].indices)
    size = simulation.batch_size
    served = batches = 0
    began = time.perf_counter()
    for start in range(0, len(order), size):
        if batches == _WARM_UP:
            served, began = 0, time.perf_counter()
        part = order[start : start + size]
        simulation.learn(part)
        batches, served = batches + 1, served + len(part)
        if batches > _WARM_UP and time.perf_counter() - began > _PATIENCE_SECONDS:
            break
    training = (time.perf_counter() - began) / max(1, served) * simulation.total_samples
    return training, _predicting(simulation)


def _time_episodes(simulation: EpisodeSimulation) -> tuple[float, float]:
    """Seconds of training and of all evaluations, from the first steps and a small evaluation."""
    simulation.start()
    plan, strategy, training = simulation.plan, simulation.strategy, 0.0
    if strategy.base is not None:
        training = _base_seconds(strategy, simulation.view())
    else:
        simulation.begin()
        taken: list[float] = []
        began = time.perf_counter()
        while len(taken) < _WARM_UP or time.perf_counter() - began < _PATIENCE_SECONDS:
            start = time.perf_counter()
            simulation.learn(0)
            taken.append((time.perf_counter() - start) / min(simulation.batch_size, len(plan.train)))
        training = sorted(taken)[len(taken) // 2] * len(plan.train)
    strategy.train_mode(False)
    few = dataclasses.replace(plan, test=dataclasses.replace(plan.test, count=10))
    small = EpisodeEvaluator(few, simulation.images, batch_size=simulation.evaluator.batch_size)
    began = time.perf_counter()
    small.evaluate(strategy, "test", 0)
    each = (time.perf_counter() - began) / 10
    if type(strategy).predict_episodes is Strategy.predict_episodes:  # each image once, not each episode
        each *= 1 / max(1.0, len(plan.test) * len(plan.test.query_slots) / len(plan.test.samples))
    points = len(plan.train) // simulation.eval_every if strategy.base is None else 0
    return training, each * (len(plan.test) * (1 + len(plan.environments)) + len(plan.validation) * points)


def _time_base(simulation: StreamSimulation) -> tuple[float, float]:
    """The same where a base is trained: from a few of its steps, whether or not one is kept already."""
    seconds = _base_seconds(simulation.strategy, simulation.view(0))
    return seconds, _predicting(simulation)


def _base_seconds(strategy: Strategy, view: View) -> float:
    """Seconds of base training."""
    recipe, net, training = strategy.setting.base, strategy.net, strategy.base_training()
    assert training is not None
    strategy.exposed[view.labels] = True
    net.head = training.head(net.backbone.feature_size, strategy.exposed, recipe).to(view.indices.device)
    seconds = 0.0
    if any(parameter.requires_grad for parameter in net.backbone.parameters()):
        batch = next(view.batches(1, recipe.batch_size))
        taken = []
        for _ in range(_WARM_UP):
            began = time.perf_counter()
            images = augmented(batch.images, recipe.augmentation)
            loss = training.loss(net, images, batch.labels, strategy.exposed)
            torch.autograd.backward(loss)
            taken.append(time.perf_counter() - began)
        learned = len(view) if recipe.paper_compat else round(len(view) * (1 - recipe.validation))
        seconds = min(taken) * recipe.epochs * learned / len(batch)
    return seconds


def _predicting(simulation: StreamSimulation) -> float:
    """Seconds of predicting one test sample."""
    simulation.strategy.consolidate()
    simulation.strategy.train_mode(False)
    began = time.perf_counter()
    evaluation = simulation.evaluator.evaluate(simulation.strategy, 0, (), False, 1, simulation.neighbours)
    return (time.perf_counter() - began) / max(1, len(evaluation.labels))
