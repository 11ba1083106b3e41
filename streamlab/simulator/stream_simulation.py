"""A stream or sessions in progress: what their drivers do at each step.

Knows no strategy by name and no terminal. A driver (online.py, sessions.py) is the loop; this is
what the loop's words mean.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..augmentation.views import view
from ..batch import Batch
from ..data.split import Split
from ..evaluation.arrivals import ArrivalJudge, taken
from ..evaluation.evaluator import Evaluator
from ..evaluation.features import FeatureCache
from ..evaluation.metrics import LIVE, measure
from ..evaluation.record import Evaluation, Record, save_evaluation
from ..plans.clock import Clock, batch_ends
from ..plans.stream import Experience, StreamPlan, labels_at
from ..randomness import Draws, global_randomness, key
from ..runs.folder import RunFolder
from ..strategy import Strategy
from . import events
from .base_session import establish_base
from .fit import Samples
from .pace import BATCH_SIZE, Pace
from .simulation import Served, Simulation
from .view import Order, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEIGHBOURS = 1000


class StreamSimulation(Simulation):
    """A plan, a strategy and their progress; emits events, evaluates, writes checkpoints."""

    def __init__(
        self,
        plan: StreamPlan,
        strategy: Strategy,
        train: Split,
        evaluator: Evaluator,
        served: Served,
        emit: events.Listener,
        folder: RunFolder | None = None,
    ) -> None:
        pace = Pace.of(plan, served.stream, served.first, strategy.base is not None)
        super().__init__(strategy, served, pace, train.device, emit, folder)
        self.plan, self.evaluator = plan, evaluator
        self.train = train
        self.batch_size = self.stream.batch_size or BATCH_SIZE
        self.operations = strategy.views.operations
        self.evaluations: list[Evaluation] = []
        self.host_labels = train.labels.cpu().numpy()
        self.true_labels = plan.true(self.host_labels)
        epochs = Pace.of(plan, served.stream, served.first).epochs
        served_samples = (len(e.indices) * times for e, times in zip(plan.experiences, epochs, strict=True))
        self.bounds = list(accumulate(served_samples, initial=0))
        self.ends = batch_ends([len(e.indices) for e in plan.experiences], self.batch_size)
        self._train_cache: FeatureCache | None = None
        self._unexposed = set(range(plan.num_classes))  # of the stream; a strategy may not have seen more
        self._unknown = set(self._unexposed)
        judged = plan.kind == "online" and "arrivals" in evaluator.record
        self.arrivals = ArrivalJudge(plan, train, self.true_labels) if judged else None

    @property
    def total_samples(self) -> int:
        """Samples to be served in all, epochs included."""
        return self.bounds[-1]

    @property
    def arrived(self) -> int:
        """Samples whose images have come by now; the labels of the last of them may come later."""
        seen, delay = self.progress.samples_seen, self.plan.clock.delay
        return self.ends[min(self._labelled + delay, len(self.ends)) - 1] if delay and seen else seen

    @property
    def _labelled(self) -> int:
        """Batches of an online stream whose labels have come."""
        return bisect_right(self.ends, self.progress.samples_seen)

    @property
    def last_label(self) -> int:
        """Samples whose labels come before the stream is over."""
        delay = self.plan.clock.delay
        return self.ends[-1 - delay] if delay else self.total_samples

    @property
    def lost(self) -> int:
        """Samples that have come by now and that no update was taken on."""
        return self.arrived - self.progress.used if self.plan.clock != Clock() else 0

    def epochs_of(self, number: int) -> int:
        """How often a session is served: never a base session that a network was trained on as such."""
        return self.pace.epochs[number]

    # What a driver calls, in its order.

    def start(self) -> None:
        """Restore the newest whole checkpoint, if there is one, and announce the run."""
        self.restore()
        self._unknown = set(torch.nonzero(~self.strategy.exposed).flatten().tolist())
        self._unexposed.difference_update(self.progress.exposed)
        if self.folder:
            self.evaluations = list(self.folder.stream_record(self.progress.evaluations).evaluations)
        capacity = sum(buffer.capacity for buffer in self.strategy.account.buffers)
        seen, limit = self.arrived, self.budget.bytes
        experiences = len(self.plan.experiences)
        self.emit(events.RunStarted(self.total_samples, seen, experiences, limit, capacity))
        if "unexposed" in self.evaluator.record and not self.evaluations:
            self._take_predictions((), False)
        self.strategy.train_mode(True)
        if not self.progress.samples_seen:
            for number in range(self.plan.clock.delay):
                self._arrive(number)

    def begin(self, number: int) -> None:
        """An experience begins, where boundaries are shown."""
        self._start_experiences(self.progress.samples_seen + 1)
        self.progress.measured_from, self.progress.offers = self.progress.steps, 0
        self.progress.step_flops.clear()
        view, current = self.view(number), self.strategy.current_classes
        if number == 0 and self.strategy.base is not None:
            with self.training(counted=False):
                self._train_base(view)
        current.zero_()[list(view.classes)] = True
        current[view.labels] = True  # a blurry task shows samples of others' classes
        if not self.strategy.learns_jointly:
            self.strategy.account.allot(self.budget)
        self.strategy.tune(self.optimizer_of(number), restart=self.later.restart and number > 0)
        self.strategy.schedule_rate(1.0)
        with self.training():
            self.strategy.begin_experience(view)
        self.measure_memory()

    def order(self, indices: NDArray[np.int64]) -> Order:
        """Training indices as what `learn` takes slices of."""
        host = np.ascontiguousarray(indices)
        return Order(host, torch.from_numpy(host).to(self.train.device))

    def learn(self, served: Order, then: Order) -> None:
        """Serve one batch of training samples, as often as the stream says. then: the batch after it.

        Under a clock a strategy that is still computing does not see it, or takes fewer updates of it.
        """
        progress, strategy, clock = self.progress, self.strategy, self.plan.clock
        count = len(served)
        self._arrive(self._labelled + clock.delay)
        progress.granted = clock.granted(progress.granted, progress.flops, count)
        if progress.started < len(self.plan.experiences):
            coming = self.ends[min(self._labelled + clock.delay, len(self.ends) - 1)]
            self._start_experiences(coming if clock.delay else progress.samples_seen + count)
        if clock.beyond == "unseen" and not clock.affords(progress.granted, progress.flops):
            self._pass(served)
            return
        images, labels = self.train.images_at(served.device), self.train.labels_at(served.device)
        host = labels_at(self.host_labels, served.host).tolist()
        lying = batch = Batch(images, labels, wholes=self.train.wholes_at(served.device), host_labels=host)
        self.train.ahead(torch.from_numpy(then.host))
        if self._unknown or self._unexposed:
            self._expose(served.host)
        began = time.perf_counter()
        for number in range(self.stream.updates_per_batch):
            if clock.beyond == "fewer-updates" and not clock.affords(progress.granted, progress.flops):
                break
            progress.used += count if number == 0 else 0
            if self.operations:
                batch = self._viewed(lying, number)
            place = progress.offset // self.batch_size
            self.update(place, number, count, partial(strategy.observe, batch))
        if progress.epoch == self.epochs_of(progress.segment) - 1:  # no buffer is offered a sample twice
            self.offer(partial(strategy.remember, batch))
        progress.offset += count
        self.count(count, began)

    def evaluate_if_due(self) -> None:
        """Evaluate at the first batch end at (or past) a regular point, and at the end of a task."""
        progress, seen = self.progress, self.arrived
        ends: list[int] = []
        while progress.ended + len(ends) < len(self.plan.experiences):
            number = progress.ended + len(ends)
            if self.bounds[number + 1] > seen:
                break
            ends.append(number)
        regular = self.plan.kind == "online" and self._multiples(seen) > self._multiples(
            progress.evaluated_at
        )
        if ends or regular:
            self._evaluate(tuple(ends), regular)
        for number in ends:
            self.emit(events.ExperienceEnded(number, seen))
        progress.ended += len(ends)

    def _multiples(self, seen: int) -> int:
        """Regular points that so many samples reach, or, where the plan judges past them, exceed."""
        return max(0, seen - (self.plan.points == "past")) // self.eval_every

    def end(self, number: int) -> None:
        """An experience ends, where boundaries are shown."""
        with self.training():
            self.strategy.end_experience(self.view(number))
        self.measure_memory()

    def keep_features(self) -> None:
        """Keep the features of a frozen network for other runs; not needed for this one."""
        self.evaluator.keep()
        if self._train_cache is not None:
            self._train_cache.keep()

    def record(self) -> Record:
        """The plan and the evaluations so far."""
        return Record(self.plan, tuple(self.evaluations), self.strategy.learns_jointly)

    # Helpers

    def _pass(self, served: Order) -> None:
        """These samples go by while a strategy computes: it neither learns nor keeps them."""
        began = time.perf_counter()
        if self._unexposed:
            self._expose(served.host, seen=False)
        self.progress.offset += len(served)
        self.count(len(served), began)

    def _arrive(self, number: int) -> None:
        """Images of an online stream come: they are judged, and shown where their labels are late."""
        judge, clock = self.arrivals, self.plan.clock
        shown = clock.delay and type(self.strategy).arrive is not Strategy.arrive
        if number >= len(self.ends) or not (judge or shown):
            return
        begin, end = self.ends[number - 1] if number else 0, self.ends[number]
        if judge:
            with self.training(counted=False):
                self.strategy.consolidate()
            with self._predicting("arrival", begin):
                judge.judge(self.strategy, begin, end, self.progress.incoming)
        if shown:
            with self.training():
                self.strategy.arrive(self.train.images_at(self.order(self.plan.stream[begin:end]).device))

    def _viewed(self, lying: Batch, update: int) -> Batch:
        """A batch in new views for one of its updates."""
        name = key(self.seed, "stream", "view", update)
        images = view(lying.images, self.operations, name, self.progress.samples_seen, lying.wholes)
        return replace(lying, images=images, lying=lying.images, views=self.strategy.views)

    def view(self, number: int) -> View:
        experience: Experience = self.plan.experiences[number]
        indices = torch.from_numpy(experience.indices).to(self.train.device)
        views = self.strategy.views
        return View(
            number, experience.classes, indices, self.train, self.seed, self._frozen_features, views,
            self.epochs_of(number), self.stream.updates_per_batch,
        )  # fmt: skip

    @torch.no_grad()
    def _frozen_features(self, indices: Tensor) -> Tensor:
        """Training samples' features that never change, from the cache."""
        strategy = self.strategy
        if self._train_cache is None:
            self._train_cache = self.evaluator.cache_of(strategy, self.train, "train")
        training = strategy.net.training
        strategy.train_mode(False)
        features = self._train_cache.at(indices.cpu().numpy())
        strategy.train_mode(training)
        return features

    def _train_base(self, view: View) -> None:
        """Train the network of a base session, or take it from where it was kept.

        It is frozen where the strategy says that its features never change. The session counts as
        served: its classes are exposed, its samples seen.
        """
        progress, strategy = self.progress, self.strategy
        test = torch.from_numpy(self.plan.experiences[0].test_indices).to(self.device)
        judged = Samples(self.evaluator.test, test)
        progress.base = establish_base(strategy, view, judged, self.hear_fit)
        self.evaluator.forget()
        self._train_cache = None
        if strategy.frozen:  # one pass, which ends the base: sessions only read
            view.embeddings(strategy)
            strategy.train_mode(False)
            with torch.no_grad():
                self.evaluator.frozen(strategy, np.arange(len(self.evaluator.candidates)))
            strategy.train_mode(True)
            self.keep_features()
        self._expose(self.plan.experiences[0].indices)
        progress.samples_seen = progress.used = self.bounds[1]

    def _start_experiences(self, up_to: int) -> None:
        progress = self.progress
        while progress.started < len(self.plan.experiences) and self.bounds[progress.started] < up_to:
            self.emit(events.ExperienceStarted(progress.started, progress.samples_seen))
            progress.started += 1

    def exposed_classes(self) -> NDArray[np.bool_]:
        """(classes,) those exposed so far, as the strategy has them on its device."""
        exposed = np.ones(self.plan.num_classes, np.bool_)
        exposed[list(self._unexposed)] = False
        return exposed

    def _expose(self, indices: NDArray[np.int64], seen: bool = True) -> None:
        """The first samples of classes, which are judged from now on; seen: the strategy knows them."""
        fresh = sorted(self._unexposed.intersection(labels_at(self.true_labels, indices).tolist()))
        known = self._unknown.intersection(labels_at(self.host_labels, indices).tolist())
        if known and seen:
            self._unknown -= known
            self.strategy.exposed[torch.tensor(sorted(known), device=self.train.device)] = True
        if fresh:
            self._unexposed.difference_update(fresh)
            self.progress.exposed += fresh
            self.emit(events.ClassesArrived(tuple(fresh), self.progress.samples_seen))

    def _take_predictions(self, task_ends: tuple[int, ...], regular: bool) -> Evaluation:
        """Consolidate, predict, and keep what was predicted."""
        progress, strategy = self.progress, self.strategy
        with self.training():
            strategy.consolidate()
        self.measure_memory(at_rest=True)
        with self._predicting("evaluation", progress.samples_seen):
            evaluation = self.evaluator.evaluate(
                strategy,
                self.arrived,
                task_ends,
                regular,
                progress.started,
                self.exposed_classes(),
                self.neighbours,
            )
        if self.arrivals is not None:
            evaluation = replace(evaluation, arrivals=taken(progress.incoming))
        self.evaluations.append(evaluation)
        self.only_here()
        if self.folder:
            path = self.folder.evaluation_path(progress.evaluations)
            progress.seals.append(save_evaluation(evaluation, path))
        progress.evaluations += 1
        return evaluation

    @contextmanager
    def _predicting(self, *name: str | int) -> Iterator[None]:
        """The strategy as it predicts, with global draws of this name; timed as evaluation."""
        self.wait_for_device()
        began = time.perf_counter()
        self.strategy.train_mode(False)
        with global_randomness(self.seed, *name):
            yield
        self.strategy.train_mode(True)
        self.progress.evaluation_seconds += time.perf_counter() - began

    def neighbours(self) -> Tensor:
        """Images of at most 1,000 training samples of the experiences begun, drawn by name."""
        begun = [e.indices for e in self.plan.experiences[: self.progress.started]]
        samples = np.concatenate(begun)
        draws = Draws(self.seed, "neighbours", self.progress.samples_seen)
        chosen = samples[draws.permutation(len(samples))[:_NEIGHBOURS]]
        return self.train.images_at(self.order(chosen).device)

    def _evaluate(self, task_ends: tuple[int, ...], regular: bool) -> None:
        progress = self.progress
        self.flush_numbers()
        evaluation = self._take_predictions(task_ends, regular)
        progress.evaluated_at = self.arrived
        self.evaluated(task_ends, evaluation.accuracy, measure(self.record(), LIVE)[0])
