"""What every run in progress has: a strategy, counters, a log, checkpoints, and memory that is watched.

Streams and sessions (simulation.py) and episodes (episodic.py) are runs of their own kinds.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..config import Budget, StreamConfig
from ..errors import CorruptFile, StreamlabError
from ..evaluation.evaluator import CACHE_BYTES
from ..memory.ledger import check_budget
from ..randomness import key, put_host_state, seed_torch, take_host_state
from ..runs.checkpoints import Checkpoint, checkpoints, patience, save_checkpoint
from ..runs.folder import RunFolder
from ..strategy import Strategy
from ..training import FirstConfig, OptimizerConfig
from . import events
from .fit import Fitted
from .outside import changed, outside
from .pace import Pace
from .resources import FlopCounter, flops_of
from .single import told

_FLUSH_EVERY = 64
_FLOPS_STEPS = (1, 20)
_STEP_STRIDE = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Served:
    """How a plan is served and judged: the same for every strategy of a comparison.

    eval_every: samples between regular evaluations; record: what is kept beside predictions
    (config.RECORDABLE); cache_bytes: the most kept of test images' features; evaluation_batch:
    test images predicted at a time (None: by their size, Network.images_at_once).
    """

    stream: StreamConfig
    eval_every: int
    budget: Budget
    first: FirstConfig = field(default_factory=FirstConfig)
    record: frozenset[str] = frozenset()
    cache_bytes: int = CACHE_BYTES
    evaluation_batch: int | None = None


@dataclass
class Progress:
    """Where a run is, and what it has counted: plain values that a checkpoint can hold.

    samples_seen: training samples, or episodes. flops: of training so far (base sessions left out), where a
    step counts as the last that was measured of so many samples (step_flops), and an offer to buffers as the
    last. held: the most that was held, by kind; survey_bytes: the most in the survey's accounting.
    log_length, log_seal: of the event log; seals: of each evaluation's file. granted: operations that the
    stream's clock has granted; used: samples that an update was taken on. exposed: classes that have come.
    incoming: what was predicted of arriving samples. best: of episodes, the state that was best on
    meta-validation, its tensors beside.
    """

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
    step_flops: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0
    flops_per_offer: float = 0.0
    offers: int = 0
    measured_from: int = 0
    peak_memory: int = 0
    held: dict[str, int] = field(default_factory=dict)
    survey_bytes: int = 0
    exemplars: int = 0
    log_length: int = 0
    log_seal: str = ""
    seals: list[str] = field(default_factory=list)
    losses: dict[str, list[float]] = field(default_factory=dict)
    host_random: Any = None
    base: dict[str, Any] | None = None
    granted: float = 0.0
    used: int = 0
    exposed: list[int] = field(default_factory=list)
    incoming: dict[str, list[int]] = field(default_factory=dict)
    best: dict[str, Any] | None = None

    @property
    def flops_per_step(self) -> float:
        """Of a step on a whole batch."""
        return self.step_flops[max(self.step_flops, key=int)] if self.step_flops else 0.0


class Simulation:
    """A strategy's run: emits events, times, counts, writes checkpoints.

    folder is None for a run that leaves nothing on disk. device: where it is computed.
    """

    def __init__(
        self,
        strategy: Strategy,
        served: Served,
        pace: Pace,
        device: torch.device,
        emit: events.Listener,
        folder: RunFolder | None,
    ) -> None:
        self.strategy, self.budget, self.device, self.folder = strategy, served.budget, device, folder
        self.stream, self.first, self.eval_every = served.stream, served.first, served.eval_every
        self.later, self.pace = strategy.setting.optimizer, pace
        self.seed = strategy.setting.seed
        self.progress = Progress()
        self.best_tensors: dict[str, Tensor] = {}
        self._listener = emit
        self._pending: list[dict[str, Tensor]] = []
        self._random_base = key(self.seed, "step")
        self._sign_of_life = self._next_checkpoint = 0.0
        self._process = os.getpid()
        self._outside = self._held_outside()

    def restore(self) -> None:
        """Take up the newest whole checkpoint, if there is one."""
        checkpoint = self._newest() if self.folder else None
        if checkpoint is not None:
            tensors = checkpoint.tensors
            self.best_tensors = {
                name.removeprefix("best."): tensors.pop(name) for name in list(tensors) if name[:5] == "best."
            }
            self.progress = Progress(**checkpoint.progress)
            self.strategy.tune(self.optimizer_of(self.begun))
            self.strategy.account.put_state(checkpoint.state, tensors)
            put_host_state(self.progress.host_random)
        if self.folder:
            self.folder.open_log(self.progress.log_length)
        self._next_checkpoint = time.perf_counter() + patience()

    def _newest(self) -> Checkpoint | None:
        """The newest checkpoint whose evaluations and log are as they were; None where there is none at all.

        Raises CorruptFile where there are checkpoints, and what was written before each of them is damaged.
        """
        assert self.folder is not None
        damaged = None
        for checkpoint in checkpoints(self.folder.path):
            progress = Progress(**checkpoint.progress)
            found = self.folder.differs(progress.seals, progress.log_length, progress.log_seal)
            if found is None:
                return checkpoint
            damaged = damaged or found
        if damaged is not None:
            raise CorruptFile(
                f"{damaged} is damaged, and no checkpoint is from before it; remove {self.folder.path}, and "
                f"the run begins anew"
            )
        return None

    @property
    def begun(self) -> int:
        """The experience that began last; between two, the earlier one."""
        progress = self.progress
        between = progress.segment > 0 and progress.epoch == 0 and progress.offset == 0
        return progress.segment - between

    @property
    def arrived(self) -> int:
        """Samples, or episodes, that have come by now."""
        return self.progress.samples_seen

    @property
    def lost(self) -> int:
        """Samples that have come by now and were not learned from; none without a clock."""
        return 0

    def optimizer_of(self, number: int) -> OptimizerConfig:
        """How the network is trained in an experience: in the first it may be otherwise."""
        return self.first.of(self.later) if number == 0 else self.later

    def update(self, batch: int, number: int, size: int, learn: Callable[[], Mapping[str, Tensor]]) -> None:
        """One of several updates of a batch of this size, its rate where the schedule is."""
        progress, config = self.progress, self.strategy.setting.optimizer
        if config.moves:
            place = (progress.segment, progress.epoch, batch, number)
            self.strategy.schedule_rate(self.pace.factor(config, *place))
        self.observe(learn, size)

    def observe(self, learn: Callable[[], Mapping[str, Tensor]], size: int) -> None:
        """One update of the strategy, its global draws named by the step, its numbers kept for the log."""
        progress = self.progress
        progress.steps += 1
        seed_torch(self._random_base + progress.steps * _STEP_STRIDE)
        try:
            flops = progress.step_flops.get(str(size))
            if flops is None or progress.steps - progress.measured_from in _FLOPS_STEPS:
                numbers, flops = flops_of(learn)
                progress.step_flops[str(size)] = flops
            else:
                numbers = learn()
        except ValueError as error:
            raise told(error) from error
        progress.flops += flops
        self._pending.append({name: value.detach() for name, value in numbers.items()})

    def offer(self, remember: Callable[[], None]) -> None:
        """A batch is offered to the strategy's buffers; what it computes there counts as operations too."""
        progress = self.progress
        progress.offers += 1
        if progress.offers in _FLOPS_STEPS:
            _, progress.flops_per_offer = flops_of(remember)
        else:
            remember()
        progress.flops += progress.flops_per_offer

    def count(self, samples: int, began: float) -> None:
        """So many samples were served since this moment; a sign of life now and then."""
        now = time.perf_counter()
        self.progress.train_seconds += now - began
        self.progress.samples_seen += samples
        if len(self._pending) >= _FLUSH_EVERY:
            self.flush_numbers()
        if now - self._sign_of_life > 0.1:
            self._sign_of_life = now
            self.emit(events.Progressed(self.arrived, self.progress.train_seconds))

    def checkpoint_if_due(self) -> None:
        """Write a checkpoint by the clock: at most every second, at most 3 % of the time."""
        if (
            self.folder is None
            or time.perf_counter() < self._next_checkpoint
            or self.strategy.account.begins_anew
        ):
            return
        began = time.perf_counter()
        self.write_checkpoint()
        cost = time.perf_counter() - began
        self.emit(events.CheckpointWritten(self.progress.samples_seen, cost))
        self._next_checkpoint = time.perf_counter() + patience(cost)

    def write_checkpoint(self) -> None:
        """Write the state that a killed run goes on from."""
        assert self.folder is not None
        self.only_here()
        self._check_outside()
        self.flush_numbers()
        self.progress.log_length, self.progress.log_seal = self.folder.log_length(), self.folder.log_seal()
        self.progress.host_random = take_host_state()
        plain, tensors = self.strategy.account.take_state()
        tensors = {**tensors, **{f"best.{name}": tensor for name, tensor in self.best_tensors.items()}}
        save_checkpoint(self.folder.path, Checkpoint(plain, dataclasses.asdict(self.progress), tensors))

    def only_here(self) -> None:
        """Where a plugin has forked, its second process ends before it writes or tells anything."""
        if os.getpid() != self._process:
            os._exit(0)

    def _check_outside(self) -> None:
        """Raise StreamlabError where what no checkpoint keeps has changed since the run began."""
        name = changed(self._outside, self._held_outside())
        if name is not None:
            raise StreamlabError(
                f"{name} has changed since the run began, and no checkpoint keeps it; make it an attribute "
                f"of the instance (self.…)"
            )

    def _held_outside(self) -> dict[str, str]:
        held = self.strategy.account.attributes(everything=True)
        return outside(type(self.strategy), Strategy, held)

    def emit(self, event: events.Event) -> None:
        """Log an event, and tell it."""
        self.only_here()
        if self.folder and not isinstance(event, (*events.BY_THE_CLOCK, events.RunStarted)):
            self.folder.log(events.to_plain(event))
        self._listener(event)

    def training(self, counted: bool = True) -> _Training:
        """Times what belongs to training between steps, and counts its operations unless told not to."""
        return _Training(self, counted)

    def hear_fit(self, fitted: Fitted) -> None:
        """Tell how far base training is."""
        self.emit(
            events.BaseTrained(
                fitted.step, fitted.steps, fitted.loss, fitted.held_out_loss, fitted.held_out_accuracy
            )
        )

    def measure_memory(self, at_rest: bool = False) -> None:
        """Keep the most that was held; raises BudgetExceeded where that is too much.

        at_rest: nothing is being learned, which is when the survey's accounting looks.
        """
        ledger = self.strategy.account.ledger()
        survey = Budget(accounting="survey")
        if at_rest:
            self.progress.survey_bytes = max(self.progress.survey_bytes, ledger.counted(survey))
        if ledger.total > sum(self.progress.held.values()):
            self.progress.held = dict(ledger.bytes_by_kind)
        self.progress.exemplars = max(self.progress.exemplars, ledger.exemplars_held)
        if not self.strategy.learns_jointly and (at_rest or self.budget.accounting == "held"):
            check_budget(ledger, self.budget)

    def evaluated(
        self,
        task_ends: tuple[int, ...],
        accuracy: float,
        metrics: Mapping[str, float],
        half_width: float | None = None,
    ) -> None:
        """Tell of an evaluation, and begin new means of the named numbers."""
        ledger, progress = self.strategy.account.ledger(), self.progress
        self.emit(
            events.Evaluated(
                self.arrived,
                task_ends,
                accuracy,
                metrics,
                {name: math.fsum(values) / len(values) for name, values in progress.losses.items()},
                dict(ledger.bytes_by_kind),
                ledger.exemplars_held,
                progress.train_seconds,
                progress.evaluation_seconds,
                half_width,
                self.lost,
            )
        )
        progress.losses.clear()

    def flush_numbers(self) -> None:
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
                    tuned = ", ".join(self.strategy.search_space) or "optimizer.lr"
                    raise StreamlabError(
                        f"{name} is {value} at step {step}; the run has diverged; it is tuned by {tuned}"
                    )
            self.progress.losses.setdefault(name, []).extend(values)
        self._pending.clear()

    def wait_for_device(self) -> None:
        """Wait for the device, as training: what was only asked of it is not an evaluation's time."""
        if self.device.type == "cuda":
            began = time.perf_counter()
            torch.cuda.synchronize(self.device)
            self.progress.train_seconds += time.perf_counter() - began


class _Training:
    """Times what belongs to training outside `learn`, with global draws named by the step."""

    def __init__(self, running: Simulation, counted: bool) -> None:
        self._running = running
        self._counter = FlopCounter() if counted else None
        self._open = ExitStack()

    def __enter__(self) -> None:
        self._began = time.perf_counter()
        seed_torch(key(self._running.seed, "between", self._running.progress.steps))
        if self._counter is not None:
            self._open.enter_context(self._counter)

    def __exit__(self, *error: Any) -> None:
        progress = self._running.progress
        self._open.close()
        progress.flops += self._counter.total if self._counter is not None else 0
        progress.train_seconds += time.perf_counter() - self._began
