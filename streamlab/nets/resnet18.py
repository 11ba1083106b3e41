"""ResNet-18 for 28 and 32 pixel images: a 3x3 stem, no first pooling (He et al., CVPR 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from .network import Backbone, ImageShape, check_widths, normalisation

Norm = Literal["group", "batch"]


@dataclass(frozen=True)
class ResNet18:
    """width: channels of the first stage (20 is the field's slim one); norm: group or batch."""

    width: int = 64
    norm: Norm = "group"
    standardise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths("backbone resnet18", (self.width,))

    def build(self, image_shape: ImageShape) -> Backbone:
        return _ResNet18(image_shape[0], self.width, self.norm)


class _ResNet18(Backbone):
    def __init__(self, channels: int, width: int, norm: Norm) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        current = width
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
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
    """Two 3x3 convolutions and a shortcut, projected by 1x1 where the shape changes (option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            normalisation(norm, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            normalisation(norm, outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), normalisation(norm, outputs)
            )

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.body(images) + self.shortcut(images))
