"""Residual networks for 28 and 32 pixel images (He et al., CVPR 2016): the parts of our ResNets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from .network import Backbone, Pooled, normalisation

CITATION = """
@inproceedings{he2016resnet,
  title = {Deep Residual Learning for Image Recognition},
  author = {He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian},
  booktitle = {CVPR},
  year = {2016},
}
"""

Norm = Literal["group", "batch"]
Shortcut = Literal["padded", "projected"]


class ResidualNetwork(Backbone):
    """A 3x3 stem, stages of blocks (the width doubles and the size halves), and average pooling.

    blocks: how many in each stage. shortcut: where the shape changes, "padded" is the paper's option A
    (subsampled, padded with zeros, no parameters), "projected" its option B (1x1). last_relu: whether the
    last block ends with one, without which features have both signs, as cosine classifiers want them.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        blocks: Sequence[int],
        norm: Norm,
        shortcut: Shortcut,
        last_relu: bool = True,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), normalisation(norm, width), nn.ReLU()
        )
        layers: list[nn.Module] = []
        current = width
        for stage, count in enumerate(blocks):
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                layers.append(_Block(current, width * 2**stage, stride, norm, shortcut))
                current = width * 2**stage
        if not last_relu:
            assert isinstance(layers[-1], _Block)
            layers[-1].ends_with_relu = False
        self.blocks = nn.Sequential(*layers)
        self.stages = tuple(blocks)
        self.last_stage = len(layers) - blocks[-1]
        self.feature_size = current

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.blocks(self.stem(images))).mean((2, 3))

    def staged(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps, current, first = [], self.stem(images), 0
        for count in self.stages:
            current = self.blocks[first : first + count](current)
            maps.append(current)
            first += count
        return current.mean((2, 3)), maps

    def split(self) -> tuple[nn.Module, nn.Module]:
        general = nn.Sequential(self.stem, *self.blocks[: self.last_stage])
        return general, nn.Sequential(*self.blocks[self.last_stage :], Pooled())


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm, shortcut: Shortcut) -> None:
        super().__init__()
        self.ends_with_relu = True
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            normalisation(norm, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            normalisation(norm, outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            if shortcut == "padded":
                self.shortcut = _Padded(stride, (outputs - inputs) // 2)
            else:
                projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut = nn.Sequential(projection, normalisation(norm, outputs))

    def forward(self, images: Tensor) -> Tensor:
        added: Tensor = self.body(images) + self.shortcut(images)
        return F.relu(added) if self.ends_with_relu else added


class _Padded(nn.Module):
    """Subsample the picture and pad the channels with zeros on both sides."""

    def __init__(self, stride: int, padding: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding

    def forward(self, images: Tensor) -> Tensor:
        smaller = images[:, :, :: self.stride, :: self.stride]
        return F.pad(smaller, (0, 0, 0, 0, self.padding, self.padding))
