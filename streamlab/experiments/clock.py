"""A plan under the clock that a person asked for, and what that cannot be."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..config import ClockConfig, StreamConfig
from ..errors import StreamlabError
from ..plans.clock import Clock, batch_ends
from ..plans.stream import StreamPlan
from ..simulator.pace import BATCH_SIZE

if TYPE_CHECKING:
    from ..plans.stream import Plan


def clocked(plan: Plan, config: ClockConfig, stream: StreamConfig, plain: float, eval_every: int) -> Plan:
    """The plan under a clock. plain: operations of plain fine-tuning a sample; eval_every: in samples.

    Raises StreamlabError where nothing could be learned, or labels come too late to be judged by.
    """
    if config == ClockConfig():
        return plan
    if not isinstance(plan, StreamPlan):
        raise StreamlabError(f"clock: {plan.scenario} is episodes, and a clock is of streams")
    size = stream.batch_size or BATCH_SIZE
    clock = Clock(config.granted(plain) if config.operations else 0.0, config.beyond, config.delay)
    if plan.kind == "sessions":
        if clock.delay:
            raise StreamlabError("clock: labels are late in online streams alone; leave out clock.delay")
        if clock.operations and clock.beyond == "unseen":
            raise StreamlabError(
                "clock: sessions wait, so that no sample passes unseen; set clock.beyond=fewer-updates"
            )
    if clock.operations and clock.operations * plan.num_samples < plain * size:
        raise StreamlabError(
            f"clock: operations is {config.operations}; the whole stream grants less than one batch of plain "
            f"fine-tuning takes"
        )
    if clock.delay:
        _check_delay(plan, clock.delay, size, eval_every)
    return dataclasses.replace(plan, clock=clock)


def _check_delay(plan: StreamPlan, delay: int, size: int, eval_every: int) -> None:
    """Raise StreamlabError where boundaries would tell of labels, or they come after what they are for."""
    if plan.shows_boundaries:
        raise StreamlabError(
            f"clock: {plan.scenario} shows where experiences begin before their labels have come; set "
            f"scenario.boundaries=hidden"
        )
    batches = len(batch_ends([len(experience.indices) for experience in plan.experiences], size))
    if delay >= batches:
        raise StreamlabError(
            f"clock: labels come {delay} batches after their images, and the stream has {batches:,}; set "
            f"clock.delay to less"
        )
    if delay * size >= eval_every:
        raise StreamlabError(
            f"clock: labels come {delay * size:,} samples after their images, and the first evaluation is at "
            f"{eval_every:,}; set --eval-every to more"
        )
