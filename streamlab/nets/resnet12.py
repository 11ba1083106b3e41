"""ResNet-12 of the few-shot literature (Lee et al., CVPR 2019: MetaOptNet's), without its DropBlock.

Four blocks of three 3x3 convolutions and a 1x1 shortcut, each ended by 2x2 max pooling; leaky ReLUs (0.1);
channels grow 1 : 2.5 : 5 : 10. Equal to NC-FSCIL's in a test, its initial values too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import StreamlabError
from ..preprocess import ImageShape
from .network import Backbone, Pooled, check_widths, normalisation

CITATION = """
@inproceedings{lee2019metaoptnet,
  title = {Meta-Learning with Differentiable Convex Optimization},
  author = {Lee, Kwonjoon and Maji, Subhransu and Ravichandran, Avinash and Soatto, Stefano},
  booktitle = {CVPR},
  year = {2019},
}
"""
SLOPE = 0.1  # of a leaky ReLU below 0


@dataclass(frozen=True)
class ResNet12:
    """width: channels of the first block, even; norm: batch (the codes') or group."""

    width: int = 64
    norm: Literal["group", "batch"] = "batch"
    standardise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_widths("backbone resnet12", (self.width,))
        if self.width % 2:
            raise StreamlabError(f"backbone resnet12: width is {self.width}, and must be even")

    def build(self, image_shape: ImageShape) -> Backbone:
        if min(image_shape[1:]) < 16:
            side = min(image_shape[1:])
            raise StreamlabError(
                f"backbone resnet12 halves images four times, and these are {side} pixels wide"
            )
        return _ResNet12(self, image_shape[0])


class _ResNet12(Backbone):
    def __init__(self, options: ResNet12, channels: int) -> None:
        super().__init__()
        widths = [options.width * factor // 2 for factor in (2, 5, 10, 20)]
        pairs = zip([channels, *widths], widths, strict=False)
        self.blocks = nn.Sequential(*(_Block(before, after, options.norm) for before, after in pairs))
        self.feature_size = widths[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.blocks(images)).mean((2, 3))

    def staged(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps, current = [], images
        for block in self.blocks:
            current = block(current)
            maps.append(current)
        return current.mean((2, 3)), maps

    def split(self) -> tuple[nn.Module, nn.Module]:
        return self.blocks[:-1], nn.Sequential(self.blocks[-1], Pooled())


class _Block(nn.Module):
    """Three convolutions beside a shortcut, then pooling."""

    def __init__(self, inputs: int, outputs: int, norm: Literal["group", "batch"]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (inputs, outputs, outputs):
            layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), normalisation(norm, outputs)]
            layers.append(nn.LeakyReLU(SLOPE))
        self.body = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), normalisation(norm, outputs))

    def forward(self, images: Tensor) -> Tensor:
        return F.max_pool2d(F.leaky_relu(self.body(images) + self.shortcut(images), SLOPE), 2)
