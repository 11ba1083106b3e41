"""Puts a run together: the strategy of a spec, before its plan, with the images on their device."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..config import configure
from ..data.rows import FileRows
from ..data.source import SharedSource
from ..data.split import Split
from ..data.wholes import Wholes
from ..device import device_here
from ..errors import StreamlabError
from ..evaluation.episode_evaluator import EpisodeEvaluator
from ..evaluation.evaluator import Evaluator
from ..nets.network import PixelStatistics
from ..plans.episodes import EpisodePlan
from ..plans.stream import Plan, StreamPlan
from ..runs.folder import RunFolder
from ..runs.spec import RunSpec, load_strategy
from ..setting import Problem
from ..strategy import Setting, Strategy
from ..training import FirstConfig
from . import events
from .episode_simulation import EpisodeSimulation
from .pace import jointly
from .simulation import Served
from .single import refuse_single_samples
from .stream_simulation import StreamSimulation

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAPPED_BYTES = 1 << 30
"""On a CPU, images up to this size are mapped, and so shared by all workers; larger sets are read."""


def build(
    spec: RunSpec,
    plan: Plan,
    source: SharedSource,
    emit: events.Listener,
    folder: RunFolder | None,
    strategy: type[Strategy] | None = None,
) -> StreamSimulation | EpisodeSimulation:
    """The simulation of a spec, ready to be driven; raises StreamlabError."""
    if plan.fingerprint != spec.plan_fingerprint or source.digest != spec.source_digest:
        raise StreamlabError("its plan or its source is not the one that it was made for")
    pixels = PixelStatistics(source.mean, source.deviation)
    made = make_strategy(spec, problem_of(plan, source.image_shape, pixels), strategy)
    served = Served(
        spec.stream,
        spec.eval_every,
        spec.budget,
        spec.first,
        record=frozenset(spec.record),
        cache_bytes=spec.compute.cache_bytes,
    )
    if isinstance(plan, EpisodePlan):
        return assemble_episodes(made, plan, source, served, emit, folder)
    return assemble(made, plan, source, served, emit, folder)


def problem_of(plan: Plan, image_shape: tuple[int, int, int], pixels: PixelStatistics) -> Problem:
    """What a plan on images of this shape (C, H, W) asks of a strategy."""
    return Problem(
        num_classes=plan.num_classes,
        image_shape=image_shape,
        pixels=pixels,
        way=plan.train.way if isinstance(plan, EpisodePlan) else 0,
        kind=plan.kind,
        shows_boundaries=isinstance(plan, EpisodePlan) or plan.shows_boundaries,
    )


def make_strategy(spec: RunSpec, problem: Problem, strategy: type[Strategy] | None = None) -> Strategy:
    """The strategy of a spec as it is before anything was learned; raises StreamlabError."""
    cls = strategy or load_strategy(spec.strategy)
    setting = Setting(
        **vars(problem),
        seed=spec.seed,
        device=device_here(spec.device),
        backbone=spec.backbone,
        optimizer=spec.optimizer,
        augment=spec.augment,
        preprocess=spec.preprocess,
        precision=spec.compute.precision,
        base=spec.base,
    )
    return cls(setting, configure(cls.options_type(), spec.strategy_options, spec.strategy))


def assemble(
    strategy: Strategy,
    plan: StreamPlan,
    source: SharedSource,
    served: Served,
    emit: events.Listener,
    folder: RunFolder | None,
    kind: type[StreamSimulation] = StreamSimulation,
) -> StreamSimulation:
    """A strategy as it was made, its budget allotted, put before a plan; raises StreamlabError."""
    device = strategy.setting.device
    if strategy.learns_jointly:
        plan, stream = plan.merged(), jointly(strategy.options)
        served = dataclasses.replace(served, stream=stream, first=FirstConfig())
    else:
        strategy.account.allot(served.budget)
    refuse_single_samples(strategy, plan, served.stream, source.image_shape)
    given = plan.given(source.train_labels)
    train = _split([source.train_images], given, plan, device, source.wholes)
    test = _split([source.test_images], source.test_labels, plan, device)
    size = served.evaluation_batch or strategy.net.images_at_once(source.image_shape)
    evaluator = Evaluator(plan, test, served.record, size, served.cache_bytes, source.digest)
    return kind(plan, strategy, train, evaluator, served, emit, folder)


def assemble_episodes(
    strategy: Strategy,
    plan: EpisodePlan,
    source: SharedSource,
    served: Served,
    emit: events.Listener,
    folder: RunFolder | None,
    kind: type[EpisodeSimulation] = EpisodeSimulation,
) -> EpisodeSimulation:
    """A strategy as it was made, put before a plan of episodes; raises StreamlabError."""
    strategy.account.allot(served.budget)
    labels = np.concatenate([source.train_labels, source.test_labels])
    parts = [source.train_images, source.test_images]
    split = _split(parts, labels, plan, strategy.setting.device, source.wholes)
    size = served.evaluation_batch or strategy.net.images_at_once(source.image_shape)
    evaluator = EpisodeEvaluator(plan, split, served.record, size, served.cache_bytes, source.digest)
    return kind(plan, strategy, split, evaluator, served, emit, folder)


def _split(
    parts: list[NDArray[np.uint8]],
    labels: NDArray[np.int64],
    plan: Plan,
    device: torch.device,
    wholes: Wholes | None = None,
) -> Split:
    """On the device, where it has room; what has not is read from its files, a batch at a time."""
    size = sum(part.nbytes for part in parts)
    room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else MAPPED_BYTES
    mapped = [part for part in parts if isinstance(part, np.memmap)]
    held: Tensor | FileRows
    if size > room and len(mapped) == len(parts):
        held = FileRows(mapped, device)
    else:
        held = torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts)).to(device)
    return Split(held, torch.from_numpy(labels).to(device), plan.transforms, wholes)
