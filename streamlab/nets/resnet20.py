"""ResNet-20 for 32 pixels, with 1x1 shortcuts: that of the few-shot codes CEC, FACT and TEEN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..preprocess import ImageShape
from .network import Backbone, check_widths
from .residual import CITATION, Norm, ResidualNetwork

__all__ = ["CITATION", "ResNet20"]


@dataclass(frozen=True)
class ResNet20:
    """width: channels of the first stage; norm: group or batch (the codes')."""

    width: int = 16
    norm: Norm = "batch"
    standardise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths("backbone resnet20", (self.width,))

    def build(self, image_shape: ImageShape) -> Backbone:
        return ResidualNetwork(image_shape[0], self.width, (3, 3, 3), self.norm, "projected")
