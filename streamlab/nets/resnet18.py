"""ResNet-18 for 28 and 32 pixel images: a 3x3 stem, no first pooling (He et al., CVPR 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..preprocess import ImageShape
from .network import Backbone, check_widths
from .residual import CITATION, Norm, ResidualNetwork

__all__ = ["CITATION", "ResNet18"]


@dataclass(frozen=True)
class ResNet18:
    """width: channels of the first stage (20 is the field's slim one); norm: group or batch; last_relu:
    whether its last block ends with one.
    """

    width: int = 64
    norm: Norm = "group"
    last_relu: bool = True
    standardise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths("backbone resnet18", (self.width,))

    def build(self, image_shape: ImageShape) -> Backbone:
        channels, stages = image_shape[0], (2, 2, 2, 2)
        return ResidualNetwork(channels, self.width, stages, self.norm, "projected", self.last_relu)
