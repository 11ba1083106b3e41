"""The network under a strategy: preprocessing, a backbone, and a linear head over all classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import plugins
from ..config import configure
from ..errors import StreamlabError
from .precision import Precision, full, in_precision

ImageShape = tuple[int, int, int]
M = TypeVar("M", bound=nn.Module)


class Backbone(nn.Module):
    """A module from scaled images (B, C, H, W) to features (B, feature_size).

    precision: what its passes are computed in; features are float32 whatever it is.
    """

    feature_size: int
    precision: Precision = "float32"

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Its general and its specialised layers, one after the other: backbone(x) = special(general(x)).

        Raises StreamlabError where a network is not cut in two (only mlp, convnet and resnets are).
        """
        raise StreamlabError(
            f"{type(self).__name__.strip('_').lower()} is not cut into general and special layers"
        )


class BackbonePlugin(Protocol):
    """A backbone plugin: a frozen dataclass of options that builds a module.

    standardise: whether pixels are brought to mean 0 and deviation 1, or only to 0..1.
    """

    standardise: bool

    def build(self, image_shape: ImageShape) -> Backbone: ...


@dataclass(frozen=True)
class PixelStatistics:
    """The constants that turn uint8 pixels into what a backbone takes."""

    mean: float
    deviation: float


class Network(nn.Module):
    """uint8 images in, logits out: `head(backbone(pixels · scale + shift))`.

    A backbone with convolutions runs in channels-last layout (on a CPU 1.6 times faster).
    """

    def __init__(self, backbone: Backbone, num_classes: int, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift
        self.backbone = backbone
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(backbone.feature_size, num_classes)
        self.channels_last = any(isinstance(module, nn.Conv2d) for module in backbone.modules())
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def scaled(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> torch's default type (float32) of the same shape: what the backbone takes."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(torch.get_default_dtype(), memory_format=layout).mul_(self.scale).add_(self.shift)

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, feature_size)."""
        with in_precision(self.backbone.precision, images.device):
            features = self.backbone(self.scaled(images))
        return full(features)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, classes) logits."""
        return cast(Tensor, self.head(self.features(images)))


def build_network(
    options: Mapping[str, Any],
    image_shape: ImageShape,
    num_classes: int,
    pixels: PixelStatistics,
    precision: Precision = "float32",
) -> Network:
    """A network from `{"name": "mlp", …}`, drawn from torch's global generator.

    Raises StreamlabError for an unknown backbone or option.
    """
    name = str(options.get("name", "mlp"))
    others = {key: value for key, value in options.items() if key != "name"}
    plugin: BackbonePlugin = configure(plugins.load("backbones", name), others, f"backbone {name}")
    scale, shift = 1 / 255, 0.0
    if plugin.standardise:
        scale, shift = 1 / (255 * pixels.deviation), -pixels.mean / pixels.deviation
    backbone = plugin.build(image_shape)
    backbone.precision = precision
    return Network(backbone, num_classes, scale, shift)


@contextmanager
def samples_alone(net: nn.Module) -> Iterator[None]:
    """Around `torch.func.vmap` over samples: a layout is asked of whole batches, and a sample is none."""
    asking = [part for part in net.modules() if isinstance(part, Network) and part.channels_last]
    for part in asking:
        part.channels_last = False
    try:
        yield
    finally:
        for part in asking:
            part.channels_last = True


class CosineHead(nn.Module):
    """scale · cos(feature, class weight): (B, D) -> (B, classes), without bias."""

    def __init__(self, feature_size: int, num_classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(nn.Linear(feature_size, num_classes, bias=False).weight.detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.normalize(features) @ F.normalize(self.weight).T


def normalisation(kind: Literal["group", "batch"], channels: int) -> nn.Module:
    """GroupNorm of at most 8 channels a group (our choice), or BatchNorm."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    groups = next(count for count in range(max(1, channels // 8), 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


def frozen_copy(module: M) -> M:
    """A copy in evaluation mode that no gradient reaches: a teacher."""
    import copy

    teacher = copy.deepcopy(module).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return teacher


def check_widths(where: str, widths: tuple[int, ...]) -> None:
    """Refuse widths that no layer can have."""
    if any(width < 1 for width in widths):
        raise StreamlabError(f"{where}: widths are {widths}, and each must be at least 1")
