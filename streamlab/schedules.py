"""How the learning rate moves: each schedule is a factor of the configured rate, by position.

A position counts from 0 in epochs, steps, or shares of the whole, and the schedule begins anew with each
experience or runs through the stream: `OptimizerConfig` says which. A schedule of one's own is a function
like those below, in the entry-point group streamlab.schedules. Importing this file imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import plugins
from .errors import StreamlabError

if TYPE_CHECKING:
    from .training import OptimizerConfig


@dataclass(frozen=True)
class Moment:
    """When a step is taken. step of steps, and epoch of epochs, each from 0: of the experience that is being
    learned, or, where a schedule runs through the stream, of all of it.
    """

    step: int
    steps: int
    epoch: int
    epochs: int


def rate_factor(config: OptimizerConfig, moment: Moment) -> float:
    """The share of the configured rate that a step at this moment has.

    Over the warm-up the rate rises in a line: step n of w has (n + 1) / w. What follows moves over the
    positions that are left, but for milestones, which count from the beginning.
    """
    if config.unit == "epoch":
        position, length = float(moment.epoch), float(moment.epochs)
    elif config.unit == "step":
        position, length = float(moment.step), float(moment.steps)
    else:
        position, length = moment.step / moment.steps, 1.0
    if position < config.warmup:
        least = 1 / moment.steps if config.unit == "share" else 1.0
        return min(1.0, (position + least) / config.warmup)
    factor: float = plugins.load("schedules", config.schedule)(config, position, length)
    return factor


def check_room(config: OptimizerConfig, moment: Moment, what: str) -> None:
    """Raise StreamlabError for a milestone or a warm-up past the end of what the moment is in."""
    if not config.moves:
        return
    end = {"epoch": moment.epochs, "step": moment.steps, "share": 1}[config.unit]
    counts = {"epoch": "epochs", "step": "steps", "share": "as a share"}[config.unit]
    for name, places in (("milestone", config.milestones), ("warmup", (config.warmup,))):
        past = [place for place in places if place and place >= end]
        if past:
            raise StreamlabError(
                f"optimizer: {name} {past[0]:g} lies past the end: {what} has {end:g} {counts}"
            )


def constant(config: OptimizerConfig, position: float, length: float) -> float:
    """The configured rate."""
    return 1.0


def step(config: OptimizerConfig, position: float, length: float) -> float:
    """torch's StepLR: times gamma at every so many."""
    return float(config.gamma ** math.floor((position - config.warmup) / config.every + 1e-9))


def multistep(config: OptimizerConfig, position: float, length: float) -> float:
    """torch's MultiStepLR: times gamma at each milestone."""
    return config.gamma ** sum(position >= milestone for milestone in config.milestones)


def exponential(config: OptimizerConfig, position: float, length: float) -> float:
    """torch's ExponentialLR: times gamma at each."""
    return float(max(config.floor, config.gamma ** (position - config.warmup)))


def cosine(config: OptimizerConfig, position: float, length: float) -> float:
    """torch's CosineAnnealingLR (Loshchilov and Hutter 2017, eq. 5, without restarts)."""
    return config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * _gone(config, position, length)))


def quarter_cosine(config: OptimizerConfig, position: float, length: float) -> float:
    """CODA-Prompt's and InfLoRA's: cos(0.99 · π / 2 · the way to the last position).

    Of epochs or steps the first two have the whole rate, as their scheduler begins to count once it was
    called: the last has what the last but one would have.
    """
    gone, last = position - config.warmup, length - config.warmup
    if config.unit != "share":
        gone, last = max(0.0, gone - 1), last - 1
    return math.cos(0.99 * math.pi / 2 * min(1.0, gone / max(last, 1e-9)))


def linear(config: OptimizerConfig, position: float, length: float) -> float:
    """In a line to the floor."""
    return 1 - (1 - config.floor) * _gone(config, position, length)


def one_cycle(config: OptimizerConfig, position: float, length: float) -> float:
    """torch's OneCycleLR (Smith and Topin 2018), without its momentum.

    By cosines up from 1/25 over the first 30 %, then down to 1/250,000.
    """
    last = max(1.0, length - 1)
    peak = 0.3 * length - 1
    if position <= peak:
        return _between(1 / 25, 1.0, position / max(peak, 1e-9))
    return _between(1.0, 1 / 250_000, (position - peak) / (last - peak))


def _gone(config: OptimizerConfig, position: float, length: float) -> float:
    """The share of what follows the warm-up that is over."""
    return min(1.0, (position - config.warmup) / max(length - config.warmup, 1e-9))


def _between(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))
