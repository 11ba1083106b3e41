"""No network: the flattened pixels, in 0..1, as features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..preprocess import ImageShape
from .network import Backbone


@dataclass(frozen=True)
class Pixels:
    """No options."""

    standardise: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    def build(self, image_shape: ImageShape) -> Backbone:
        return _Flatten(math.prod(image_shape))


class _Flatten(Backbone):
    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.feature_size = feature_size

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)
