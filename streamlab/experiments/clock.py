"""A comparison's clock: from what a person asked for to operations a sample, and what it cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..config import ClockConfig, StreamConfig
from ..errors import StreamlabError
from ..nets.network import PixelStatistics, build_network
from ..plans.clock import Clock, batch_ends
from ..plans.stream import StreamPlan
from ..preprocess import PreprocessConfig
from ..randomness import global_randomness
from ..runs.spec import settled_backbone
from ..simulator.pace import BATCH_SIZE
from ..simulator.resources import flops_of

if TYPE_CHECKING:
    from ..plans.stream import Plan


def plain_operations(
    backbone: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    num_classes: int,
    preprocess: PreprocessConfig,
) -> float:
    """Operations that plain fine-tuning of a network takes a sample: one pass there and one back.

    backbone: the comparison's section (empty: the mlp). Raises StreamlabError where it cannot be built.
    """
    options = settled_backbone(backbone or {"name": "mlp"})
    images = torch.zeros((2, *image_shape), dtype=torch.uint8)  # two: one alone has no batch statistics
    with global_randomness(0, "trial"):
        network = build_network(
            options, image_shape, num_classes, PixelStatistics(0.5, 0.25), preprocess=preprocess
        )
        _, found = flops_of(lambda: network(images))
    return found / len(images)


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
