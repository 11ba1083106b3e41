"""Supervised training on a fixed set of images: what `pretrain` and base sessions share.

for each epoch, for each batch (shuffled, the epoch's own order):
    augment, cross-entropy, step            the schedule sets the rate; the average follows
    a checkpoint                            by the clock
  held-out loss and accuracy, of the average where there is one; Fitted
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augmentation.protocol import Operation
from ..augmentation.views import view
from ..config import at_least, within
from ..data.split import Split
from ..errors import StreamlabError
from ..memory.state import StateWriter
from ..memory.state_reader import StateReader
from ..nets.network import Network
from ..nets.optimizer import Optimizer, build_optimizer, parameters_of, scale_rate
from ..randomness import Draws, global_randomness, key, seed_torch
from ..runs.checkpoints import Checkpoint, load_checkpoint, patience, save_checkpoint
from ..schedules import Moment, check_room, rate_factor
from ..training import OptimizerConfig


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a split, by number (n,) on its device; a batch of them is read when it is asked for."""

    split: Split
    indices: Tensor

    @staticmethod
    def of(images: Tensor, labels: Tensor) -> Samples:
        """Held images (n, C, H, W) uint8 and their labels (n,) int64."""
        return Samples(Split(images, labels), torch.arange(len(labels), device=labels.device))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> Tensor:
        """(n,) int64."""
        return self.split.labels_at(self.indices)

    def parts(self, size: int) -> Iterator[Tensor]:
        """Their images (at most `size`, C, H, W) uint8, in order."""
        return (self.split.images_at(part) for part in torch.split(self.indices, size))


@dataclass(frozen=True)
class FitConfig:
    """How long and how; the rate's schedule is the optimizer's. smoothing: of the labels; average: how much
    of the weights' moving average each step keeps (0: none); keep: the last epoch's weights, or those of
    the epoch that was best on held-out images.
    """

    epochs: int = 30
    batch_size: int = 128
    smoothing: float = 0.1
    average: float = 0.999
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        at_least("fit", "epochs", self.epochs, 1)
        at_least("fit", "batch_size", self.batch_size, 1)
        for name in ("smoothing", "average"):
            within("fit", name, getattr(self, name), 0, 1)


@dataclass(frozen=True)
class Fitted:
    """Training has come this far. Accuracy in percent, of held-out images, as after the last epoch."""

    epoch: int
    step: int
    steps: int
    loss: float
    epoch_ended: bool
    held_out_loss: float | None = None
    held_out_accuracy: float | None = None


@dataclass
class _State:
    network: Network
    average: Network | None
    best: Network | None
    optimizer: Optimizer
    total: Tensor
    step: int = 0
    best_accuracy: float = -1.0
    history: list[tuple[float, float, float]] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class FitData:
    """What is learned from, and how it is judged.

    loss_of: the loss of a batch by network, images and labels (None: cross-entropy). among: (classes,) bool,
    those that compete on held-out images (None: all). operations: how images are augmented. views: of each
    image in a batch, one batch after another.
    """

    train: Samples
    held_out: Samples | None = None
    loss_of: Callable[[Network, Tensor, Tensor], Tensor] | None = None
    among: Tensor | None = None
    operations: Sequence[Operation] = ()
    views: int = 1


def fit(
    network: Network,
    data: FitData,
    config: FitConfig,
    optimizer: OptimizerConfig,
    seed: int,
    folder: Path | None = None,
    hear: Callable[[Fitted], None] = lambda fitted: None,
) -> tuple[Network, list[tuple[float, float, float]]]:
    """The trained network, and of each epoch (training loss, held-out loss, held-out accuracy in percent).

    folder: where checkpoints are written, and gone on from; killed and called again, it ends with the
    same bits. Raises StreamlabError where the loss is no number, and for a milestone past the end.
    """
    state = _begin(network, config, optimizer, folder)
    steps = data_steps(data, config)
    check_room(optimizer, Moment(0, steps, 0, config.epochs), "training")
    per_epoch = steps // config.epochs
    due = time.perf_counter() + patience()
    with global_randomness(seed, "fit"):
        while state.step < steps:
            epoch = state.step // per_epoch
            for number in _steps(state, data, config, optimizer, seed):
                if time.perf_counter() > due and number < per_epoch:  # an epoch is saved with its figures
                    mean = _mean_loss(state, number)
                    began = time.perf_counter()
                    if folder is not None:
                        _save(folder, state)
                    due = time.perf_counter() + patience(time.perf_counter() - began)
                    last = state.history[-1][1:] if state.history and data.held_out else (None, None)
                    hear(Fitted(epoch, state.step, steps, mean, False, *last))
            mean, figures = _end_epoch(state, data, config, per_epoch)
            if folder is not None:
                _save(folder, state)
            hear(Fitted(epoch, state.step, steps, mean, True, *figures))
    return state.best or state.average or state.network, state.history


def data_steps(data: FitData, config: FitConfig) -> int:
    """Steps of a whole fit: whole batches alone."""
    count = len(data.train)
    return count // min(config.batch_size, count) * config.epochs


def _steps(
    state: _State,
    data: FitData,
    config: FitConfig,
    optimizer: OptimizerConfig,
    seed: int,
) -> Iterator[int]:
    """The steps of an epoch that are left; yields after each how many of the epoch's were taken."""
    split, count = data.train.split, len(data.train)
    loss_of = data.loss_of or partial(_cross_entropy, config.smoothing)
    batch, steps = min(config.batch_size, count), data_steps(data, config)
    per_epoch = steps // config.epochs
    epoch, first = divmod(state.step, per_epoch)
    drawn = torch.from_numpy(Draws(seed, "fit", epoch).permutation(count)).to(split.device)
    order = data.train.indices[drawn]
    state.network.train()
    for number in range(first, per_epoch):
        rows = order[number * batch : (number + 1) * batch]
        seed_torch(key(seed, "fit", "step", state.step))
        moment = Moment(state.step, steps, epoch, config.epochs)
        scale_rate(state.optimizer, rate_factor(optimizer, moment))
        images, wholes = split.images_at(rows), split.wholes_at(rows) if data.operations else None
        if number + 1 < per_epoch:
            split.ahead(order[(number + 1) * batch : (number + 2) * batch])
        names = [key(seed, "fit", "view", *([again] if again else [])) for again in range(data.views)]
        views = [view(images, data.operations, name, state.step * batch, wholes) for name in names]
        shown = views[0] if data.views == 1 else torch.cat(views)
        loss = loss_of(state.network, shown, split.labels_at(rows))
        state.optimizer.zero_grad()
        torch.autograd.backward(loss)
        if optimizer.clip:
            nn.utils.clip_grad_norm_(parameters_of(state.optimizer), optimizer.clip)
        state.optimizer.step()
        state.total += loss.detach()
        state.step += 1
        _follow(state.average, state.network, config.average, state.step)
        yield number + 1


def _end_epoch(
    state: _State, data: FitData, config: FitConfig, per_epoch: int
) -> tuple[float, tuple[float, float] | tuple[None, None]]:
    """Judge the network, and keep it where it is the best; returns the epoch's mean loss and its figures."""
    mean = _mean_loss(state, per_epoch)
    state.total.zero_()
    shown = state.average or state.network
    held_loss, accuracy = math.nan, math.nan
    if data.held_out:
        held_loss, accuracy = _held_out(shown, data.held_out, data.among)
    state.history.append((mean, held_loss, accuracy))
    if config.keep == "best" and accuracy > state.best_accuracy:
        state.best, state.best_accuracy = copy.deepcopy(shown), accuracy
    return mean, (held_loss, accuracy) if data.held_out else (None, None)


def _cross_entropy(smoothing: float, network: Network, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(network(images), labels, label_smoothing=smoothing)


def _mean_loss(state: _State, steps: int) -> float:
    """Of the epoch's steps so far; raises StreamlabError where it is no number."""
    mean = float(state.total) / steps
    if not math.isfinite(mean):
        raise StreamlabError(f"the loss is {mean} at step {state.step}; training has diverged")
    return mean


def _begin(network: Network, config: FitConfig, optimizer: OptimizerConfig, folder: Path | None) -> _State:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    average = copy.deepcopy(network) if config.average else None
    best = copy.deepcopy(network) if config.keep == "best" else None
    zero = torch.zeros((), device=next(network.parameters()).device)
    made = build_optimizer(optimizer, trained, network.backbone.parameters())
    state = _State(network, average, best, made, zero)
    checkpoint = load_checkpoint(folder) if folder is not None else None
    if checkpoint is not None:
        reader = StateReader(checkpoint.tensors)
        for name, value in checkpoint.state.items():
            setattr(state, name, reader.value(value, getattr(state, name)))
    return state


def _save(folder: Path, state: _State) -> None:
    writer = StateWriter()
    plain = {name: writer.plain(value, name) for name, value in vars(state).items()}
    save_checkpoint(folder, Checkpoint(plain, {}, writer.tensors))


@torch.no_grad()
def _follow(average: nn.Module | None, network: nn.Module, keep: float, step: int) -> None:
    """Move the average; in the first steps faster, so that it forgets where training began."""
    if average is None:
        return
    followers: list[Tensor] = list(average.parameters())
    other: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(followers, other, 1 - min(keep, (1 + step) / (10 + step)))
    for mine, its in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(its)


@torch.no_grad()
def _held_out(network: Network, samples: Samples, among: Tensor | None) -> tuple[float, float]:
    network.eval()
    size = network.images_at_once(samples.split.rows.shape)
    logits, labels = torch.cat([network(part) for part in samples.parts(size)]), samples.labels
    if among is not None:
        logits = logits.masked_fill(~among, float("-inf"))
    accuracy = float((logits.argmax(1) == labels).double().mean()) * 100
    return float(F.cross_entropy(logits, labels)), accuracy
