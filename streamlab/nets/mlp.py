"""A multilayer perceptron with ReLU, of any widths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, cast

from torch import Tensor, nn

from ..preprocess import ImageShape
from .network import Backbone, check_widths


@dataclass(frozen=True)
class MLP:
    """widths: units of each hidden layer, the last one the feature size; norm: batch, or none."""

    widths: tuple[int, ...] = (256,)
    norm: Literal["none", "batch"] = "none"
    standardise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths("backbone mlp", self.widths)

    def build(self, image_shape: ImageShape) -> Backbone:
        return _Perceptron((math.prod(image_shape), *self.widths), self.norm == "batch")


class _Perceptron(Backbone):
    def __init__(self, sizes: tuple[int, ...], normed: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if normed else []), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.feature_size = sizes[-1]

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Cut before the last hidden layer: of one hidden layer, what comes before is the flat image."""
        last = max(number for number, layer in enumerate(self.layers) if isinstance(layer, nn.Linear))
        return self.layers[:last], self.layers[last:]

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.layers(images))
