"""What a strategy is given: the setting that it is built for, and one experience's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from .augmentation.pipelines import AugmentConfig
from .batch import Batch
from .nets.network import PixelStatistics
from .nets.precision import Precision
from .preprocess import PreprocessConfig
from .training import BaseConfig, OptimizerConfig


class Embeds(Protocol):
    """What turns images into embeddings: a strategy. frozen: they are always the same of an image."""

    frozen: ClassVar[bool]

    def embeddings_of(self, images: Tensor) -> Tensor:
        """(n, C, H, W) uint8 -> (n, D)."""
        ...


@dataclass(frozen=True)
class NoOptions:
    """The options of a strategy that has none."""


@dataclass(frozen=True)
class Problem:
    """What a plan on a source asks of a strategy, whatever the strategy; the fields are the setting's."""

    num_classes: int
    image_shape: tuple[int, int, int]
    pixels: PixelStatistics
    way: int = 0
    kind: str = "online"
    shows_boundaries: bool = False


@dataclass(frozen=True)
class Setting:
    """What a strategy is built for; the same for every strategy of a run except its options.

    way: classes of a training episode (0: there are no episodes). kind: of the plan's experiences;
    shows_boundaries: whether a strategy is told where they begin and end.
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    seed: int
    device: torch.device
    pixels: PixelStatistics
    backbone: Mapping[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: Precision = "float32"
    base: BaseConfig = field(default_factory=BaseConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    way: int = 0
    kind: str = "online"
    shows_boundaries: bool = False


class ExperienceView(Protocol):
    """One experience's training data, never an older one's."""

    @property
    def number(self) -> int:
        """Its place in the plan, from 0."""
        ...

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that belong to it."""
        ...

    @property
    def labels(self) -> Tensor:
        """(n,) int64, in stream order."""
        ...

    @property
    def epochs(self) -> int:
        """How often it is served."""
        ...

    @property
    def updates(self) -> int:
        """How often each batch is learned when it is served."""
        ...

    def __len__(self) -> int: ...

    def of_class(self, label: int) -> Batch:
        """All its samples of one class, as they lie."""
        ...

    def batches(self, epochs: int, size: int) -> Iterator[Batch]:
        """Shuffled batches to learn from, every epoch in an order and in views of its own."""
        ...

    def embeddings(self, strategy: Embeds) -> Tensor:
        """(n, D) its samples' embeddings as at an evaluation, computed once where they are frozen."""
        ...
