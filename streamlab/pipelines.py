"""How training images are augmented, as a section of a recipe: operations by name, and pipelines of them.

What an operation does to images is in augment.py. Importing this file imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .config import at_least, configure, within
from .errors import StreamlabError, unknown


@dataclass(frozen=True)
class Crop:
    """The image in a border of `padding` black pixels, cut to its own size at a random place."""

    padding: int = 4
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        at_least("augment", "crop's padding", self.padding, 1)


@dataclass(frozen=True)
class Flip:
    """Left for right, with this chance."""

    chance: float = 0.5
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        within("augment", "flip's chance", self.chance, 0, 1)


@dataclass(frozen=True)
class ResizedCrop:
    """A part of `scale` of the area and `ratio` of width to height, brought to the image's size.

    Drawn as torchvision's RandomResizedCrop: ten tries, then the largest part in the middle.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    draws: ClassVar[int] = 40

    def __post_init__(self) -> None:
        _check_parts("resized-crop", self.scale, self.ratio)


@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast and saturation times factors from 1 - x (or 0) to 1 + x, and hue turned by up to
    `hue` of the circle either way, in a drawn order.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    draws: ClassVar[int] = 8

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            at_least("augment", f"jitter's {name}", getattr(self, name), 0)
        within("augment", "jitter's hue", self.hue, 0, 0.5)


@dataclass(frozen=True)
class Grey:
    """All colours as their luminance, with this chance."""

    chance: float = 0.1
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        within("augment", "grey's chance", self.chance, 0, 1)


@dataclass(frozen=True)
class Erasing:
    """A part of `scale` of the area and `ratio` of height to width filled with `level`, with this chance.

    Drawn as torchvision's RandomErasing: ten tries, then nothing is erased. Levels are pixels', before an
    image is normalised.
    """

    chance: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    level: int = 0
    draws: ClassVar[int] = 41

    def __post_init__(self) -> None:
        within("augment", "erasing's chance", self.chance, 0, 1)
        within("augment", "erasing's level", self.level, 0, 255)
        _check_parts("erasing", self.scale, self.ratio)


def _check_parts(operation: str, scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Raise StreamlabError where shares of an area, or ratios of sides, are none."""
    for name, (low, high) in (("scale", scale), ("ratio", ratio)):
        if not 0 < low <= high:
            raise StreamlabError(f"augment: {operation}'s {name} is {low}, {high}; give two, in order")
    within("augment", f"{operation}'s largest scale", scale[1], 0, 1)


Operation = Crop | Flip | ResizedCrop | Jitter | Grey | Erasing
OPERATIONS: Mapping[str, type[Operation]] = {
    "crop": Crop, "flip": Flip, "resized-crop": ResizedCrop, "jitter": Jitter, "grey": Grey,
    "erasing": Erasing,
}  # fmt: skip

# none: as the images lie. crop-flip: Mammoth's and most others' for 32 pixels. cifar, imagenet: PyCIL's.
# pretrained: PILOT's, for backbones that were pretrained.
PIPELINES: Mapping[str, tuple[Operation, ...]] = {
    "none": (),
    "crop-flip": (Crop(), Flip()),
    "cifar": (Crop(), Flip(), Jitter(brightness=63 / 255)),
    "imagenet": (ResizedCrop(), Flip(), Jitter(brightness=63 / 255)),
    "pretrained": (ResizedCrop(scale=(0.05, 1.0)), Flip()),
}


@dataclass(frozen=True)
class AugmentConfig:
    """How a training sample is augmented whenever it is served (section `augment`).

    pipeline: none, crop-flip, cifar, imagenet or pretrained. operations: or one's own, in this order, each a
    table of its name and its options: `[{name = "crop", padding = 4}, {name = "flip"}]`.
    """

    pipeline: str = "none"
    operations: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.pipeline not in PIPELINES:
            raise unknown("augmentation", self.pipeline, PIPELINES)
        if self.operations and self.pipeline != "none":
            raise StreamlabError("augment: it has a pipeline and operations; give one of them")
        settled = tuple(_settled(one) for one in self.operations)
        object.__setattr__(self, "operations", settled)

    @property
    def steps(self) -> tuple[Operation, ...]:
        """The operations in their order."""
        if not self.operations:
            return PIPELINES[self.pipeline]
        return tuple(
            OPERATIONS[one["name"]](**{key: value for key, value in one.items() if key != "name"})
            for one in self.operations
        )

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise StreamlabError for what images of this shape (C, H, W) cannot bear."""
        channels = shape[0]
        for step in self.steps:
            jitters = [f"jitter's {name}" for name in ("saturation", "hue") if getattr(step, name, 0)]
            if channels == 1 and (isinstance(step, Grey) or jitters):
                name = "grey" if isinstance(step, Grey) else jitters[0]
                raise StreamlabError(f"augment: {name} needs colour, and the images are grey")


def _settled(given: Mapping[str, Any]) -> dict[str, Any]:
    """An operation's name and all its options, typed."""
    name = str(given.get("name", ""))
    if name not in OPERATIONS:
        raise unknown("operation of augment", name, OPERATIONS)
    options = {key: value for key, value in given.items() if key != "name"}
    made: Any = configure(OPERATIONS[name], options, f"augment {name}")
    return {"name": name, **dataclasses.asdict(made)}
