"""A small ConvNet: blocks of 3x3 convolution, normalisation, ReLU and 2x2 pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from torch import Tensor, nn

from ..errors import StreamlabError
from ..preprocess import ImageShape
from .network import Backbone, Pooled, check_widths, normalisation


@dataclass(frozen=True)
class ConvNet:
    """width: channels of every block; blocks: how many; norm: group or batch; pooling: `mean` over what is
    left of the picture, or `none`: features are all of it.
    """

    width: int = 32
    blocks: int = 4
    norm: Literal["group", "batch"] = "group"
    pooling: Literal["none", "mean"] = "none"
    standardise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths("backbone convnet", (self.width, self.blocks))

    def build(self, image_shape: ImageShape) -> Backbone:
        smallest = min(image_shape[1:])
        if smallest < 2**self.blocks:
            raise StreamlabError(
                f"backbone convnet: {self.blocks} blocks halve the image {self.blocks} times, "
                f"and it is {smallest} pixels wide; use at most {smallest.bit_length() - 1} blocks"
            )
        return _ConvNet(self, image_shape)


class _ConvNet(Backbone):
    def __init__(self, options: ConvNet, image_shape: ImageShape) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for _ in range(options.blocks):
            layers += [
                nn.Conv2d(channels, options.width, 3, padding=1, bias=False),
                normalisation(options.norm, options.width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            channels, height, width = options.width, height // 2, width // 2
        pooled = options.pooling == "mean"
        self.layers = nn.Sequential(*layers, Pooled() if pooled else nn.Flatten())
        self.feature_size = channels if pooled else channels * height * width

    def split(self) -> tuple[nn.Module, nn.Module]:
        return self.layers[:-5], self.layers[-5:]  # the last block, and the flattening or pooling

    def staged(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps, current = [], images
        for first in range(0, len(self.layers) - 1, 4):
            current = self.layers[first : first + 4](current)
            maps.append(current)
        return self.layers[-1](current), maps

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.layers(images))
