"""What is made of an image before a network sees it, as a section of a recipe. Without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .config import at_least
from .errors import StreamlabError

Size = tuple[int, int]
ImageShape = tuple[int, int, int]


@dataclass(frozen=True)
class PreprocessConfig:
    """How images are brought to what the network takes (section `preprocess`).

    resize: pixels of the shorter side (0: as it lies). crop: pixels a side of the square in the middle that
    is seen (0: all). interpolation: bilinear or bicubic, with antialias. A view to which augmentation gave
    the network's size is left as it is. mean, deviation: of pixels from 0 to 1, one number or one a channel
    (none: those of the source's pixels, or what a backbone's weights expect).
    """

    resize: int = 0
    crop: int = 0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        at_least("preprocess", "resize", self.resize, 0)
        at_least("preprocess", "crop", self.crop, 0)
        if len(self.mean) != len(self.deviation):
            raise StreamlabError("preprocess: mean and deviation go together, and are equally many")
        if any(value <= 0 for value in self.deviation):
            raise StreamlabError(f"preprocess: deviation is {self.deviation}, and must be above 0")

    def check(self, shape: ImageShape) -> None:
        """Raise StreamlabError for what images of this shape (C, H, W) cannot bear."""
        channels, height, width = shape
        if len(self.mean) not in (0, 1, channels):
            raise StreamlabError(
                f"preprocess: mean has {len(self.mean)} numbers, and images have {channels} channels"
            )
        resized = resized_size((height, width), self.resize)
        if self.crop > min(resized):
            raise StreamlabError(
                f"preprocess: crop is {self.crop}, and images are {resized[0]} x {resized[1]}; "
                f"resize them first"
            )
        if self.resize and (height, width) == self.size((height, width)) != resized:
            raise StreamlabError(
                f"preprocess: images of {height} x {width} have the network's size already; "
                f"leave out resize and crop"
            )

    def size(self, size: Size) -> Size:
        """(H, W) of what the network takes, for images of (H, W)."""
        return (self.crop, self.crop) if self.crop else resized_size(size, self.resize)


def resized_size(size: Size, shorter: int) -> Size:
    """(H, W) once the shorter side has so many pixels, as torchvision's Resize rounds (0: as it is)."""
    if not shorter:
        return size
    height, width = size
    longer = int(shorter * max(size) / min(size))
    return (shorter, longer) if height <= width else (longer, shorter)
