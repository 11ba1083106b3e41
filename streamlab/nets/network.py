"""The network under a strategy: its entry, a backbone, and a linear head over all classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import plugins
from ..batch import images_at_once
from ..config import configure
from ..errors import StreamlabError
from ..plugins import named_backbone
from ..preprocess import ImageShape, PreprocessConfig, Size, resized_size
from .precision import Precision, full, in_precision

M = TypeVar("M", bound=nn.Module)


class Backbone(nn.Module):
    """A module from scaled images (B, C, H, W) to features (B, feature_size).

    side: pixels a side that it brings images to (0: it takes them as they are). precision: what its passes
    are computed in; features are float32 whatever it is. given: it is built with weights that are had
    elsewhere, so that what of them is frozen is in no checkpoint.
    """

    feature_size: int
    side: int = 0
    precision: Precision = "float32"
    given: bool = False

    def expect(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> bool:
        """Normalise pixels (0..1) by these, not as its weights were; False: it normalises none itself."""
        return False

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Its general and its specialised layers, one after the other: backbone(x) = special(general(x)).

        Raises StreamlabError where a network is not cut in two.
        """
        raise StreamlabError(
            f"{type(self).__name__.strip('_').lower()} is not cut into general and special layers; mlp, "
            f"convnet and ResNets are, timm's too"
        )

    def staged(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scaled images -> (B, feature_size) features, and the map (B, C, H, W) at the end of each stage.

        Raises StreamlabError where a network has no maps.
        """
        raise StreamlabError(
            f"{type(self).__name__.strip('_').lower()} has no maps that are told apart; convnet and ResNets "
            f"have"
        )


class BackbonePlugin(Protocol):
    """A backbone plugin: a frozen dataclass of options that builds a module.

    standardise: whether pixels are brought to mean 0 and deviation 1, or only to 0..1. learns, if it has it:
    whether any of its parameters is learned (else: yes). at_hand: whether one can be built and tried before
    the run, in no time and with nothing downloaded (else: yes).
    """

    standardise: bool

    def build(self, image_shape: ImageShape) -> Backbone: ...


@dataclass(frozen=True)
class PixelStatistics:
    """The constants that turn uint8 pixels into what a backbone takes."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Entry:
    """What becomes of uint8 pixels before a backbone: pixels · scale + shift, by one number or one a channel.

    Images of another size than (H, W) `size` are first resized, shorter side to `resize`, and cropped in the
    middle, as torchvision does with a tensor (None: any size comes as it is).
    """

    scale: tuple[float, ...] = (1 / 255,)
    shift: tuple[float, ...] = (0.0,)
    size: Size | None = None
    resize: int = 0
    interpolation: str = "bilinear"

    def of(self, images: Tensor, layout: torch.memory_format) -> Tensor:
        """(B, C, H, W) uint8 -> torch's default type (float32) in this layout."""
        if self.size is not None and images.shape[2:] != self.size:
            images = self._brought(images, self.size)
        scaled = images.to(torch.get_default_dtype(), memory_format=layout, copy=True)
        if len(self.scale) == 1:
            return scaled.mul_(self.scale[0]).add_(self.shift[0])
        scale, shift = (_columns(values, scaled.device, scaled.dtype) for values in (self.scale, self.shift))
        return scaled.mul_(scale).add_(shift)

    def _brought(self, images: Tensor, size: Size) -> Tensor:
        """To this size, in whole levels."""
        here = (images.shape[2], images.shape[3])
        resized = resized_size(here, self.resize)
        if resized != here:
            made = F.interpolate(images.float(), resized, mode=self.interpolation, antialias=True)
            images = made.round_().clamp_(0, 255)
        top, left = (round((have - want) / 2) for have, want in zip(resized, size, strict=True))
        return images[:, :, top : top + size[0], left : left + size[1]]


@cache
def _columns(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """(C, 1, 1), made once for a device."""
    return torch.tensor(values, device=device, dtype=dtype)[:, None, None]


class Network(nn.Module):
    """uint8 images in, logits out: `head(backbone(entry(images)))`.

    A backbone with convolutions runs in channels-last layout (on a CPU 1.6 times faster).
    """

    def __init__(self, backbone: Backbone, num_classes: int, entry: Entry | None = None) -> None:
        super().__init__()
        self.entry = entry or Entry()
        self.backbone = backbone
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(backbone.feature_size, num_classes)
        self.channels_last = any(isinstance(module, nn.Conv2d) for module in backbone.modules())
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def scaled(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> torch's default type (float32) of the same shape: what the backbone takes."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return self.entry.of(images, layout)

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, feature_size)."""
        with in_precision(self.backbone.precision, images.device):
            features = self.backbone(self.scaled(images))
        return full(features)

    def staged(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W) uint8 -> (B, feature_size), and the maps at the end of the backbone's stages."""
        with in_precision(self.backbone.precision, images.device):
            features, maps = self.backbone.staged(self.scaled(images))
        return full(features), [full(one) for one in maps]

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, classes) logits."""
        return cast(Tensor, self.head(self.features(images)))

    def images_at_once(self, shape: Sequence[int]) -> int:
        """batch.images_at_once of (C, H, W), by the largest size that they have on their way through."""
        sizes = (tuple(shape[1:]), self.entry.size or (0, 0), (self.backbone.side, self.backbone.side))
        return images_at_once((shape[0], *max(sizes, key=math.prod)))


def build_network(
    options: Mapping[str, Any],
    image_shape: ImageShape,
    num_classes: int,
    pixels: PixelStatistics,
    precision: Precision = "float32",
    preprocess: PreprocessConfig | None = None,
) -> Network:
    """A network from `{"name": "mlp", …}`, drawn from torch's global generator.

    Raises StreamlabError for an unknown backbone or option.
    """
    asked = preprocess or PreprocessConfig()
    name, others = named_backbone(options)
    plugin: BackbonePlugin = configure(plugins.load("backbones", name), others, f"backbone {name}")
    size = asked.size(image_shape[1:])
    backbone = plugin.build((image_shape[0], *size))
    backbone.precision = precision
    for parameter in backbone.parameters() if backbone.given else ():
        if not parameter.requires_grad:  # no state has it, until it is written to (memory/state.py)
            vars(parameter)["given"] = parameter._version
    mean: tuple[float, ...] = (pixels.mean,)
    deviation: tuple[float, ...] = (pixels.deviation,)
    standardise = plugin.standardise
    if asked.mean:
        mean, deviation = asked.mean, asked.deviation
        standardise = not backbone.expect(mean, deviation)
    if not standardise:
        mean, deviation = (0.0,), (1.0,)
    entry = Entry(
        tuple(1 / (255 * one) for one in deviation),
        tuple(-centre / one for centre, one in zip(mean, deviation, strict=True)),
        size if asked.resize or asked.crop else None,
        asked.resize,
        asked.interpolation,
    )
    return Network(backbone, num_classes, entry)


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
    """scale · cos(feature, class weight): (B, D) -> (B, classes), without bias. learned: whether scale is."""

    def __init__(self, feature_size: int, num_classes: int, scale: float, learned: bool = False) -> None:
        super().__init__()
        self.scale: float | nn.Parameter = nn.Parameter(torch.tensor([scale])) if learned else scale
        self.weight = nn.Parameter(nn.Linear(feature_size, num_classes, bias=False).weight.detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.normalize(features) @ F.normalize(self.weight).T


class Pooled(nn.Module):
    """The mean over the picture: (B, C, H, W) -> (B, C)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


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
