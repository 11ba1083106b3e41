"""ResNet-10 for 28 and 32 pixel images: ResNet-18 with one block a stage (He et al., CVPR 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..preprocess import ImageShape
from .network import Backbone, check_widths
from .residual import CITATION, Norm, ResidualNetwork

__all__ = ["CITATION", "ResNet10"]


@dataclass(frozen=True)
class ResNet10:
    """width: channels of the first stage; norm: group or batch."""

    width: int = 64
    norm: Norm = "group"
    standardise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths("backbone resnet10", (self.width,))

    def build(self, image_shape: ImageShape) -> Backbone:
        return ResidualNetwork(image_shape[0], self.width, (1, 1, 1, 1), self.norm, "projected")
