"""ResNet-32 for CIFAR, 463,504 parameters on colour images (He et al., CVPR 2016, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from .network import Backbone, ImageShape, check_widths, normalisation

Norm = Literal["group", "batch"]


@dataclass(frozen=True)
class ResNet32:
    """width: channels of the first stage; norm: group or batch (the paper's)."""

    width: int = 16
    norm: Norm = "batch"
    standardise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths("backbone resnet32", (self.width,))

    def build(self, image_shape: ImageShape) -> Backbone:
        return _ResNet32(image_shape[0], self.width, self.norm)


class _ResNet32(Backbone):
    def __init__(self, channels: int, width: int, norm: Norm) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        current = width
        for stage in range(3):
            for number in range(5):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(_Block(current, width * 2**stage, stride, norm))
                current = width * 2**stage
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), normalisation(norm, width), nn.ReLU()
        )
        self.blocks = nn.Sequential(*blocks)
        self.feature_size = current

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.blocks(self.stem(images))).mean((2, 3))


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A: subsampled, padded)."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            normalisation(norm, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            normalisation(norm, outputs),
        )
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, images: Tensor) -> Tensor:
        shortcut = images[:, :, :: self.stride, :: self.stride]
        if self.padding:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(self.body(images) + shortcut)
