"""When a step is taken: its place among all steps of its experience, or of the stream, for schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from ..config import StreamConfig
from ..errors import StreamlabError
from ..plans.episodes import EpisodePlan
from ..plans.stream import Plan
from ..schedules import Moment, check_room, rate_factor
from ..training import FirstConfig, OptimizerConfig

BATCH_SIZE = 10


def jointly(options: Any) -> StreamConfig:
    """How everything at once is served to a strategy that learns jointly, by its options."""
    return StreamConfig(options.batch_size, 1, options.epochs)


@dataclass(frozen=True)
class Pace:
    """How many batches an epoch of each experience has, how many epochs, and how often a batch is learned."""

    batches: Sequence[int]
    epochs: Sequence[int]
    updates: int

    @staticmethod
    def of(plan: Plan, stream: StreamConfig, first: FirstConfig, skips_first: bool = False) -> Pace:
        """That of a plan; skips_first: the first session is trained as a base session, without batches."""
        if isinstance(plan, EpisodePlan):
            return Pace(
                [math.ceil(len(plan.train) / (stream.batch_size or 1))], [1], stream.updates_per_batch
            )
        size = stream.batch_size or BATCH_SIZE
        batches = [math.ceil(len(experience.indices) / size) for experience in plan.experiences]
        epochs = [1 if plan.kind == "online" else stream.epochs] * len(batches)
        if plan.kind != "online" and first.epochs is not None:
            epochs[0] = first.epochs
        if skips_first:
            epochs[0] = 0
        return Pace(batches, epochs, stream.updates_per_batch)

    def steps(self, number: int) -> int:
        """Steps of an experience."""
        return self.batches[number] * self.epochs[number] * self.updates

    @cached_property
    def ends(self) -> list[int]:
        """Steps of the stream before each experience, and in all."""
        return list(accumulate(map(self.steps, range(len(self.batches))), initial=0))

    def moment(self, number: int, epoch: int, batch: int, update: int, over: str) -> Moment:
        """The place of a step in its experience, or over the stream."""
        step = (epoch * self.batches[number] + batch) * self.updates + update
        if over == "experience":
            return Moment(step, self.steps(number), epoch, self.epochs[number])
        ends = self.ends
        return Moment(ends[number] + step, ends[-1], sum(self.epochs[:number]) + epoch, sum(self.epochs))

    def factor(self, config: OptimizerConfig, number: int, epoch: int, batch: int, update: int) -> float:
        """The share of the rate that a step has."""
        return rate_factor(config, self.moment(number, epoch, batch, update, config.over))

    def check(self, config: OptimizerConfig, plan: Plan, first: FirstConfig) -> None:
        """Refuse a schedule that this plan has no room for, in a sentence.

        Raises StreamlabError for epochs of a stream that has one, for milestones and warm-ups past the end,
        and for what begins anew with experiences that are hidden.
        """
        online = plan.kind != "sessions"
        tells = {
            "the section first": first != FirstConfig(),
            "optimizer.restart": config.restart,
            "optimizer.over=experience": config.moves and config.over == "experience",
        }
        if not isinstance(plan, EpisodePlan) and not plan.shows_boundaries and any(tells.values()):
            asked = next(name for name, is_asked in tells.items() if is_asked)
            raise StreamlabError(
                f"{plan.scenario} hides where experiences begin, and {asked} would tell; a schedule can run "
                f"through the stream: optimizer.over=stream"
            )
        configs = [first.of(config), *[config] * (len(self.batches) - 1)]
        for one in configs[:2]:
            if one.milestones and one.schedule != "multistep":
                raise StreamlabError(
                    f"optimizer: milestones are of the schedule multistep, not {one.schedule}"
                )
        if config.unit == "epoch" and online and any(one.moves for one in configs):
            raise StreamlabError(
                f"optimizer: {plan.scenario} is served once, so that a schedule cannot count epochs; "
                f"set optimizer.unit to step or share"
            )
        for number, one in enumerate(configs):
            if self.steps(number):
                what = "the stream" if one.over == "stream" else f"experience {number + 1}"
                check_room(one, self.moment(number, 0, 0, 0, one.over), what)
