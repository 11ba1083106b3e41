"""Episodes in progress: what their driver does at each step, and the state it can resume from."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..batch import EpisodeBatch
from ..data.split import Split
from ..evaluation.episode_evaluator import EpisodeEvaluator
from ..evaluation.episode_record import EpisodeEvaluation, EpisodeRecord, save_episode_evaluation
from ..plans.episodes import EpisodePlan, Phase
from ..randomness import global_randomness
from ..runs.folder import RunFolder
from ..strategy import Strategy
from . import events
from .base_session import establish_base
from .pace import Pace
from .simulation import Served, Simulation
from .view import View


class EpisodeSimulation(Simulation):
    """A plan of episodes, a strategy and their progress.

    images: both splits, the training split first. stream.batch_size: episodes of a step.
    """

    def __init__(
        self,
        plan: EpisodePlan,
        strategy: Strategy,
        images: Split,
        evaluator: EpisodeEvaluator,
        served: Served,
        emit: events.Listener,
        folder: RunFolder | None = None,
    ) -> None:
        pace = Pace.of(plan, served.stream, served.first)
        super().__init__(strategy, served, pace, images.device, emit, folder)
        self.plan, self.images, self.evaluator = plan, images, evaluator
        self.batch_size = self.stream.batch_size or 1
        self.evaluations: list[EpisodeEvaluation] = []

    # What the driver calls, in its order.

    def start(self) -> None:
        """Restore the newest whole checkpoint, if there is one, and announce the run."""
        self.restore()
        if self.folder:
            self.evaluations = list(self.folder.episode_record(self.progress.evaluations).evaluations)
        count, limit = len(self.plan.train), self.budget.bytes
        self.emit(events.RunStarted(count, self.progress.samples_seen, 1, limit, 0))
        self.strategy.train_mode(True)

    def begin(self) -> None:
        """Training begins: a network that is trained on the classes at large is trained now."""
        self.strategy.exposed[list(self.plan.train.classes)] = True
        if self.strategy.base is not None:
            with self.training(counted=False):
                view = self.view()
                self.progress.base = establish_base(self.strategy, view, None, self.hear_fit)
                self.strategy.begin_experience(view)
            self.progress.samples_seen = len(self.plan.train)
        self.measure_memory()

    def batch(self, number: int, count: int) -> EpisodeBatch:
        """So many training episodes from this number on."""
        episodes = self.plan.train
        rows = episodes.draw(torch.arange(number, number + count, device=self.device))
        support, query, labels, answers = episodes.parted(rows)

        def images(of: Tensor) -> Tensor:
            taken = self.images.images_at(of.flatten())
            return taken.view(*of.shape, *taken.shape[1:])

        spread = (labels.expand(count, -1), answers.expand(count, -1))
        wholes = self.images.wholes_at(support.flatten()), self.images.wholes_at(query.flatten())
        return EpisodeBatch(images(support), spread[0], images(query), spread[1], episodes.way, wholes)

    def learn(self, number: int) -> None:
        """Serve the batch of training episodes that begins with this one."""
        count = min(self.batch_size, len(self.plan.train) - number)
        batch = self.batch(number, count)
        began = time.perf_counter()
        views = self.strategy.views
        for update in range(self.stream.updates_per_batch):
            served = batch.viewed(views) if views.operations else batch
            learn = partial(self.strategy.observe_episodes, served)
            self.update(number // self.batch_size, update, len(batch), learn)
        self.count(count, began)

    def evaluate_if_due(self) -> None:
        """Judge meta-validation where a regular point, or the end of training, is reached."""
        progress = self.progress
        seen = progress.samples_seen
        regular = seen // self.eval_every > max(progress.evaluated_at, 0) // self.eval_every
        ends = seen >= len(self.plan.train) and progress.evaluated_at < seen
        if not (regular or ends) or not len(self.plan.validation):
            return
        progress.evaluated_at = seen
        judged = self._judge("validation")
        best = progress.best["accuracy"] if progress.best else -1.0
        if self.plan.keep == "best" and judged.interval.mean > best:
            state, self.best_tensors = self.strategy.account.take_state()
            progress.best = {"accuracy": judged.interval.mean, "samples_seen": seen, "state": state}
        self.flush_numbers()
        self.evaluated((), judged.interval.mean, {}, judged.interval.half_width)

    def settle(self) -> None:
        """Training is over: the weights that are tested."""
        progress = self.progress
        if progress.best is not None:
            with self.training():
                self.strategy.account.put_state(progress.best["state"], self.best_tensors)
            progress.best, self.best_tensors = {**progress.best, "state": None}, {}
        self.flush_numbers()
        progress.segment = 1
        self.evaluator.forget()

    @property
    def left(self) -> list[str]:
        """The tests not yet taken: clean ("") first, then every environment."""
        return [name for name in ("", *self.plan.environments) if self.record().tested(name) is None]

    def test(self, environment: str) -> None:
        """Judge meta-test, clean or in an environment."""
        judged = self._judge("test", environment).interval
        half = judged.half_width or 0.0
        if environment:
            self.emit(events.EnvironmentTested(environment, judged.mean, half))
            return
        self.evaluated((0,), judged.mean, {"episode_accuracy": judged.mean}, half)
        self.emit(events.ExperienceEnded(0, self.progress.samples_seen))

    def keep_features(self) -> None:
        """Keep the features of a frozen network for other runs."""
        self.evaluator.keep()

    def record(self) -> EpisodeRecord:
        """The plan and the evaluations so far."""
        return EpisodeRecord(self.plan, tuple(self.evaluations))

    def view(self) -> View:
        """The images of meta-training, for strategies that learn them at large."""
        train = self.plan.train
        indices = torch.from_numpy(np.sort(train.samples)).to(self.device)
        return View(0, train.classes, indices, self.images, self.seed, views=self.strategy.views)

    def _judge(self, phase: Phase, environment: str = "") -> EpisodeEvaluation:
        progress, strategy = self.progress, self.strategy
        if not strategy.frozen and not environment:
            self.evaluator.forget()
        self.measure_memory()
        self.wait_for_device()
        began = time.perf_counter()
        strategy.train_mode(False)
        with global_randomness(self.seed, "evaluation", progress.samples_seen, phase, environment):
            judged = self.evaluator.evaluate(strategy, phase, progress.samples_seen, environment)
        strategy.train_mode(True)
        progress.evaluation_seconds += time.perf_counter() - began
        self.evaluations.append(judged)
        self.only_here()
        if self.folder:
            path = self.folder.evaluation_path(progress.evaluations)
            progress.seals.append(save_episode_evaluation(judged, path))
        progress.evaluations += 1
        return judged
