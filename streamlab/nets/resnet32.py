"""ResNet-32 for CIFAR, 463,504 parameters on colour images (He et al., CVPR 2016, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..preprocess import ImageShape
from .network import Backbone, check_widths
from .residual import CITATION, Norm, ResidualNetwork

__all__ = ["CITATION", "ResNet32"]


@dataclass(frozen=True)
class ResNet32:
    """width: channels of the first stage; norm: group or batch (the paper's); last_relu: whether its last
    block ends with one.
    """

    width: int = 16
    norm: Norm = "batch"
    last_relu: bool = True
    standardise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths("backbone resnet32", (self.width,))

    def build(self, image_shape: ImageShape) -> Backbone:
        return ResidualNetwork(image_shape[0], self.width, (5, 5, 5), self.norm, "padded", self.last_relu)
