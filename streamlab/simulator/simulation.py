"""One run in progress: what the drivers do at each step, and the state they can resume from.

Knows no strategy by name and no terminal. A driver (online.py, sessions.py) is the loop; this is
what the loop's words mean.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..config import StreamConfig
from ..data.split import Split
from ..errors import StreamlabError
from ..evaluation.evaluator import Evaluator
from ..evaluation.metrics import LIVE, measure
from ..evaluation.record import Evaluation, Record, save_evaluation
from ..memory.ledger import check_budget
from ..parts.features import FeatureCache
from ..randomness import (
    Draws,
    global_randomness,
    key,
    put_host_state,
    seed_torch,
    take_host_state,
)
from ..runs.checkpoints import Checkpoint, load_checkpoint, patience, save_checkpoint
from ..runs.folder import RunFolder
from ..strategy import Strategy
from ..stream import Experience, StreamPlan, labels_at
from . import events
from .base_session import train_base
from .fit import Fitted
from .resources import flops_of
from .served import Order, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..config import Budget

_FLUSH_EVERY = 64
_FLOPS_STEP = 20
_STEP_STRIDE = 0x9E3779B97F4A7C15
_NEIGHBOURS = 1000


@dataclass
class Progress:
    """Where a run is, and what it has counted: plain values that a checkpoint can hold."""

    segment: int = 0
    epoch: int = 0
    offset: int = 0
    samples_seen: int = 0
    steps: int = 0
    started: int = 0
    ended: int = 0
    evaluations: int = 0
    evaluated_at: int = -1
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    flops_per_step: float = 0.0
    peak_memory: int = 0
    held: dict[str, int] = field(default_factory=dict)
    exemplars: int = 0
    log_length: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)
    host_random: Any = None
    base: dict[str, Any] | None = None


class Simulation:
    """A plan, a strategy and their progress; emits events, evaluates, writes checkpoints.

    folder is None for a run that leaves nothing on disk.
    """

    def __init__(
        self,
        plan: StreamPlan,
        strategy: Strategy,
        train: Split,
        evaluator: Evaluator,
        stream: StreamConfig,
        eval_every: int,
        budget: Budget,
        emit: events.Listener,
        folder: RunFolder | None = None,
    ) -> None:
        self.plan, self.strategy, self.evaluator = plan, strategy, evaluator
        self.train = train
        self.stream, self.eval_every, self.budget = stream, eval_every, budget
        self.folder, self._listener = folder, emit
        self.seed = strategy.setting.seed
        self.progress = Progress()
        self.evaluations: list[Evaluation] = []
        self.host_labels = train.labels.cpu().numpy()
        self.epochs = 1 if plan.kind == "online" else stream.epochs
        self.bounds = list(accumulate((len(e.indices) * self.epochs for e in plan.experiences), initial=0))
        self._pending: list[dict[str, Tensor]] = []
        self._train_cache: FeatureCache | None = None
        self._unexposed = set(range(plan.num_classes))
        self._random_base = key(self.seed, "step")
        self._sign_of_life = self._next_checkpoint = 0.0

    @property
    def total_samples(self) -> int:
        """Samples to be served in all, epochs included."""
        return self.bounds[-1]

    # What a driver calls, in its order.

    def start(self) -> None:
        """Restore the newest whole checkpoint, if there is one, and announce the run."""
        checkpoint = load_checkpoint(self.folder.path) if self.folder else None
        if checkpoint is not None:
            self.strategy.put_state(checkpoint.state, checkpoint.tensors)
            self.progress = Progress(**checkpoint.progress)
            put_host_state(self.progress.host_random)
            self._unexposed = set(torch.nonzero(~self.strategy.exposed).flatten().tolist())
        if self.folder:
            self.folder.open_log(self.progress.log_length)
            self.evaluations = list(self.folder.record(self.progress.evaluations).evaluations)
        capacity = sum(buffer.capacity for buffer in self.strategy.buffers)
        seen, limit = self.progress.samples_seen, self.budget.bytes
        experiences = len(self.plan.experiences)
        self._emit(events.RunStarted(self.total_samples, seen, experiences, limit, capacity))
        if "unexposed" in self.evaluator.record and not self.evaluations:
            self._take_predictions((), False)
        self.strategy.train_mode(True)
        self._next_checkpoint = time.perf_counter() + patience()

    def begin(self, number: int) -> None:
        """An experience begins, where boundaries are shown."""
        self._start_experiences(self.progress.samples_seen + 1)
        view, own = self.view(number), self.strategy.own_classes
        if number == 0 and self.strategy.base is not None:
            with self._training():
                self._train_base(view)
        own.zero_()[list(view.classes)] = True
        own[view.labels] = True  # a blurry task shows samples of others' classes
        with self._training():
            self.strategy.begin_experience(view)
        self._measure_memory()

    def order(self, indices: NDArray[np.int64]) -> Order:
        """Training indices as what `learn` takes slices of."""
        host = np.ascontiguousarray(indices)
        return Order(host, torch.from_numpy(host).to(self.train.device))

    def learn(self, served: Order) -> None:
        """Serve one batch of training samples, as often as the stream says."""
        progress, strategy = self.progress, self.strategy
        count = len(served)
        if progress.started < len(self.plan.experiences):
            self._start_experiences(progress.samples_seen + count)
        batch = Batch(self.train.images_at(served.device), self.train.labels_at(served.device))
        if self._unexposed:
            self._expose(served.host)
        began = time.perf_counter()
        for _ in range(self.stream.updates_per_batch):
            progress.steps += 1
            seed_torch(self._random_base + progress.steps * _STEP_STRIDE)
            if progress.steps == _FLOPS_STEP:
                numbers, progress.flops_per_step = flops_of(lambda: strategy.observe(batch))
            else:
                numbers = strategy.observe(batch)
            self._pending.append({name: value.detach() for name, value in numbers.items()})
        strategy.remember(batch)
        now = time.perf_counter()
        progress.train_seconds += now - began
        progress.samples_seen += count
        progress.offset += count
        if len(self._pending) >= _FLUSH_EVERY:
            self._flush_numbers()
        if now - self._sign_of_life > 0.1:
            self._sign_of_life = now
            self._emit(events.Progressed(progress.samples_seen, progress.train_seconds))

    def evaluate_if_due(self) -> None:
        """Evaluate at the first batch end at or past a regular point or the end of a task."""
        progress = self.progress
        seen = progress.samples_seen
        ends: list[int] = []
        while progress.ended + len(ends) < len(self.plan.experiences):
            number = progress.ended + len(ends)
            if self.bounds[number + 1] > seen:
                break
            ends.append(number)
        regular = self.plan.kind == "online" and (
            seen // self.eval_every > max(progress.evaluated_at, 0) // self.eval_every
        )
        if ends or regular:
            self._evaluate(tuple(ends), regular)
        for number in ends:
            self._emit(events.ExperienceEnded(number, seen))
        progress.ended += len(ends)

    def end(self, number: int) -> None:
        """An experience ends, where boundaries are shown."""
        with self._training():
            self.strategy.end_experience(self.view(number))
        self._measure_memory()

    def checkpoint_if_due(self) -> None:
        """Write a checkpoint by the clock: at most every second, at most 3 % of the time."""
        if self.folder is None or time.perf_counter() < self._next_checkpoint:
            return
        began = time.perf_counter()
        self.write_checkpoint()
        cost = time.perf_counter() - began
        self._emit(events.CheckpointWritten(self.progress.samples_seen, cost))
        self._next_checkpoint = time.perf_counter() + patience(cost)

    def write_checkpoint(self) -> None:
        """Write the state that a killed run goes on from."""
        assert self.folder is not None
        self._flush_numbers()
        self.progress.log_length = self.folder.log_length()
        self.progress.host_random = take_host_state()
        plain, tensors = self.strategy.take_state()
        save_checkpoint(self.folder.path, Checkpoint(plain, dataclasses.asdict(self.progress), tensors))

    def keep_features(self) -> None:
        """Keep the features of a frozen network for other runs; not needed for this one."""
        self.evaluator.keep()
        if self._train_cache is not None:
            self._train_cache.keep()

    def record(self) -> Record:
        """The plan and the evaluations so far."""
        return Record(self.plan, tuple(self.evaluations), self.strategy.learns_jointly)

    # Helpers

    def _emit(self, event: events.Event) -> None:
        if self.folder and not isinstance(event, (*events.BY_THE_CLOCK, events.RunStarted)):
            self.folder.log(events.to_plain(event))
        self._listener(event)

    def _training(self) -> _Training:
        return _Training(self)

    def view(self, number: int) -> View:
        experience: Experience = self.plan.experiences[number]
        indices = torch.from_numpy(experience.indices).to(self.train.device)
        return View(number, experience.classes, indices, self.train, self.seed, self._frozen_features)

    @torch.no_grad()
    def _frozen_features(self, strategy: Strategy, indices: Tensor) -> Tensor:
        """Training samples' features that never change, from the cache."""
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
        network, recipe = strategy.net, strategy.setting.base
        assert strategy.base is not None
        learned = any(parameter.requires_grad for parameter in network.backbone.parameters())
        if learned:
            test = torch.from_numpy(self.plan.experiences[0].test_indices).to(self.train.device)
            judged = self.evaluator.test.images_at(test), self.evaluator.test.labels_at(test)
            backbone = dict(strategy.setting.backbone or strategy.backbone)
            progress.base = train_base(
                strategy.base, network, backbone, view, judged, recipe, self.seed, self._hear_fit
            )
        else:
            size = network.backbone.feature_size
            network.head = strategy.base.head(size, self.plan.num_classes, recipe).to(self.train.device)
        if strategy.frozen == "features":
            network.requires_grad_(False)
        strategy.replace_head(network.head)
        self.evaluator.forget()
        self._train_cache = None
        if strategy.frozen == "features":  # one pass, which ends the base: sessions only read
            view.features(strategy)
            strategy.train_mode(False)
            with torch.no_grad():
                self.evaluator.frozen(strategy, np.arange(len(self.evaluator.candidates)))
            strategy.train_mode(True)
            self.keep_features()
        self._expose(self.plan.experiences[0].indices)
        progress.epoch, progress.samples_seen = self.epochs, self.bounds[1]

    def _hear_fit(self, fitted: Fitted) -> None:
        self._emit(
            events.BaseTrained(
                fitted.step, fitted.steps, fitted.loss, fitted.held_out_loss, fitted.held_out_accuracy
            )
        )

    def _start_experiences(self, up_to: int) -> None:
        progress = self.progress
        while progress.started < len(self.plan.experiences) and self.bounds[progress.started] < up_to:
            self._emit(events.ExperienceStarted(progress.started, progress.samples_seen))
            progress.started += 1

    def _expose(self, indices: NDArray[np.int64]) -> None:
        fresh = sorted(self._unexposed.intersection(labels_at(self.host_labels, indices).tolist()))
        if fresh:
            self._unexposed.difference_update(fresh)
            self.strategy.exposed[torch.tensor(fresh, device=self.train.device)] = True
            self._emit(events.ClassesArrived(tuple(fresh), self.progress.samples_seen))

    def _take_predictions(self, task_ends: tuple[int, ...], regular: bool) -> Evaluation:
        """Consolidate, predict, and keep what was predicted."""
        progress, strategy = self.progress, self.strategy
        with self._training():
            strategy.consolidate()
        self._measure_memory()
        began = time.perf_counter()
        strategy.train_mode(False)
        with global_randomness(self.seed, "evaluation", progress.samples_seen):
            evaluation = self.evaluator.evaluate(
                strategy, progress.samples_seen, task_ends, regular, progress.started, self.neighbours
            )
        strategy.train_mode(True)
        progress.evaluation_seconds += time.perf_counter() - began
        self.evaluations.append(evaluation)
        if self.folder:
            save_evaluation(evaluation, self.folder.evaluation_path(progress.evaluations))
        progress.evaluations += 1
        return evaluation

    def neighbours(self) -> Tensor:
        """Images of at most 1,000 training samples of the experiences begun, drawn by name."""
        begun = [e.indices for e in self.plan.experiences[: self.progress.started]]
        samples = np.concatenate(begun)
        draws = Draws(self.seed, "neighbours", self.progress.samples_seen)
        chosen = samples[draws.permutation(len(samples))[:_NEIGHBOURS]]
        return self.train.images_at(self.order(chosen).device)

    def _evaluate(self, task_ends: tuple[int, ...], regular: bool) -> None:
        progress = self.progress
        self._flush_numbers()
        evaluation = self._take_predictions(task_ends, regular)
        seen = progress.evaluated_at = progress.samples_seen
        ledger = self.strategy.ledger()
        self._emit(
            events.Evaluated(
                seen,
                task_ends,
                evaluation.accuracy,
                measure(self.record(), LIVE)[0],
                {name: float(np.mean(values)) for name, values in self.progress.losses.items()},
                dict(ledger.bytes_by_kind),
                ledger.exemplars_held,
                progress.train_seconds,
                progress.evaluation_seconds,
            )
        )
        self.progress.losses.clear()

    def _measure_memory(self) -> None:
        """Keep the most that was held; raises BudgetExceeded where that is too much."""
        ledger = self.strategy.ledger()
        if ledger.total > sum(self.progress.held.values()):
            self.progress.held = dict(ledger.bytes_by_kind)
        self.progress.exemplars = max(self.progress.exemplars, ledger.exemplars_held)
        if not self.strategy.learns_jointly:
            check_budget(ledger, self.budget)

    def _flush_numbers(self) -> None:
        """Fetch the pending named numbers from the device; raises where one is not finite."""
        if not self._pending:
            return
        first = self.progress.steps - len(self._pending) + 1
        for name in {name: None for numbers in self._pending for name in numbers}:
            rows = [
                (first + row, numbers[name]) for row, numbers in enumerate(self._pending) if name in numbers
            ]
            values = torch.stack([value.reshape(()) for _, value in rows]).tolist()
            for (step, _), value in zip(rows, values, strict=True):
                if not math.isfinite(value):
                    raise StreamlabError(f"{name} is {value} at step {step}; the run has diverged")
            self.progress.losses.setdefault(name, []).extend(values)
        self._pending.clear()


class _Training:
    """Times what belongs to training outside `learn`, with global draws named by the step."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def __enter__(self) -> None:
        self._began = time.perf_counter()
        seed_torch(key(self._simulation.seed, "between", self._simulation.progress.steps))

    def __exit__(self, *error: Any) -> None:
        self._simulation.progress.train_seconds += time.perf_counter() - self._began
