"""Pipelines of augmentation by name, and the section of a recipe that asks for one. Without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import plugins
from ..config import configure
from ..errors import StreamlabError, unknown
from .operations import OPERATIONS, AutoAugment, Crop, Flip, Jitter, Resize, ResizedCrop
from .protocol import Operation

Pipeline = tuple[Operation, ...]
# The pipelines that streamlab ships, each an entry point (group streamlab.augmentations).
NONE: Pipeline = ()
"""Images as they lie."""
CROP_FLIP: Pipeline = (Crop(), Flip())
"""A border of 4 pixels cut at random, and a flip: Mammoth's, FACT's and TEEN's at 32 pixels."""
CIFAR: Pipeline = (Crop(), Flip(), Jitter(brightness=63 / 255))
"""The same, and brightness by 63/255: PyCIL's at 32 pixels."""
IMAGENET: Pipeline = (ResizedCrop(), Flip(), Jitter(brightness=63 / 255))
"""A resized crop, a flip, brightness by 63/255: PyCIL's of ImageNet."""
PRETRAINED: Pipeline = (ResizedCrop(scale=(0.05, 1.0), size=224), Flip())
"""A resized crop of 5 to 100 % to 224 pixels, and a flip: PILOT's."""
SI_BLURRY: Pipeline = (AutoAugment("cifar-10"), Resize(224), Crop(), Flip())
"""AutoAugment, 224 pixels, a crop by 4 and a flip: Si-Blurry's of CIFAR-100 (one draw a batch there)."""
FSCIL: Pipeline = (ResizedCrop(), Flip())
"""A resized crop of 8 to 100 % and a flip: FACT's and TEEN's of miniImageNet and CUB."""


@dataclass(frozen=True)
class AugmentConfig:
    """How a training sample is augmented whenever it is served (section `augment`).

    pipeline: one by name (`streamlab list augmentations`). operations: or one's own, in this order, each a
    table of its name and its options: `[{name = "crop", padding = 4}, {name = "flip"}]`.
    """

    pipeline: str = "none"
    operations: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.operations and self.pipeline != "none":
            raise StreamlabError("augment: it has a pipeline and operations; give one of them")
        if not self.operations:
            plugins.find("augmentations", self.pipeline)
        settled = tuple(_settled(one) for one in self.operations)
        object.__setattr__(self, "operations", settled)

    @property
    def steps(self) -> Pipeline:
        """The operations in their order."""
        if not self.operations:
            return tuple(plugins.load("augmentations", self.pipeline))
        return tuple(
            OPERATIONS[one["name"]](**{key: value for key, value in one.items() if key != "name"})
            for one in self.operations
        )

    def check(self, shape: tuple[int, int, int]) -> tuple[int, int]:
        """(H', W') of views of images of (C, H, W); raises StreamlabError for what those cannot bear."""
        size = shape[1:]
        for step in self.steps:
            if step.coloured and shape[0] != 3:
                are = "are grey" if shape[0] == 1 else f"have {shape[0]} channels"
                raise StreamlabError(f"augment: {step.coloured} needs colour, and the images {are}")
            size = step.check(size)
        return size


def _settled(given: Mapping[str, Any]) -> dict[str, Any]:
    """An operation's name and all its options, typed."""
    name = str(given.get("name", ""))
    if name not in OPERATIONS:
        raise unknown("operation of augment", name, OPERATIONS)
    options = {key: value for key, value in given.items() if key != "name"}
    made = configure(OPERATIONS[name], options, f"augment {name}")
    return {"name": name, **dataclasses.asdict(made)}
