"""Colours, contrast and sharpness of images: a whole batch in one call, each image by a number of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMINANCE = (0.2989, 0.587, 0.114)  # ITU-R 601, in torchvision's digits


def grey(images: Tensor) -> Tensor:
    """Luminance in every channel, in whole levels."""
    weights = torch.tensor(_LUMINANCE, device=images.device)[:, None, None]
    return (images.float() * weights).sum(1, keepdim=True).to(torch.uint8).expand_as(images)


def jittered(images: Tensor, amounts: Mapping[str, float], uniforms: Tensor) -> Tensor:
    """Each change in a drawn order, in whole levels after each, as torchvision's on uint8 images."""
    order = uniforms[:, 4 : 4 + len(amounts)].argsort(1)
    images = images.clone()
    for place in range(len(amounts)):
        for number, (name, amount) in enumerate(amounts.items()):
            rows = (order[:, place] == number).nonzero().flatten()
            if not len(rows):
                continue
            least, most = (-amount, amount) if name == "hue" else (max(0.0, 1 - amount), 1 + amount)
            factors = least + (most - least) * uniforms[rows, number]
            chosen = images[rows]
            images[rows] = turned(chosen, factors) if name == "hue" else blended(chosen, name, factors)
    return images


def blended(images: Tensor, change: str, factors: Tensor) -> Tensor:
    """(n, C, H, W) uint8, (n,) factors -> the images' brightness, contrast or saturation times its factor.

    A mix of the image and black, its mean luminance, or its greys, cut to whole levels.
    """
    if change == "saturation" and images.shape[1] == 1:
        return images
    if change == "brightness":
        other = torch.zeros((), device=images.device)
    else:
        other = (grey(images)[:, :1] if images.shape[1] == 3 else images).float()
        if change == "contrast":
            other = other.mean((1, 2, 3), keepdim=True)
    return _mixed(images, other, factors)


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """(n, 3, H, W) uint8, (n,) shares of the circle -> the images with their hue turned, by way of HSV."""
    pixels = images.float() / 255
    value, least = pixels.amax(1), pixels.amin(1)
    span = value - least
    some = torch.where(span > 0, span, 1.0)
    red, green, blue = ((value[:, None] - pixels) / some[:, None]).unbind(1)
    is_red, is_green = pixels[:, 0] == value, pixels[:, 1] == value
    sector = torch.where(is_red, blue - green, torch.where(is_green, 2 + red - blue, 4 + green - red))
    hue = (sector / 6 + turns[:, None, None]) % 1 * 6
    saturation = torch.where(span > 0, span / torch.where(span > 0, value, 1.0), 0.0)

    def channel(shift: int) -> Tensor:
        """Full within a third of the circle around its own hue, nothing opposite, lines between."""
        place = (shift + hue) % 6
        return value * (1 - saturation * torch.minimum(place, 4 - place).clamp(0, 1))

    made = torch.stack([channel(5), channel(3), channel(1)], 1)
    return (made * 255.999).to(torch.uint8)


def blurred(images: Tensor, size: int, sigmas: Tensor) -> Tensor:
    """By a Gaussian over `size` pixels a side, of each image's own deviation (n,); the border is mirrored."""
    count, channels, height, _ = images.shape
    half = size // 2
    places = torch.arange(-half, half + 1, device=images.device)
    weights = torch.softmax(-0.5 * (places / sigmas[:, None]).square(), 1)
    kernel = weights.repeat_interleave(channels, 0)[:, None]
    padded = F.pad(images.float(), (half,) * 4, mode="reflect").view(
        1, count * channels, height + 2 * half, -1
    )
    across = F.conv2d(padded, kernel[:, :, None, :], groups=count * channels)
    made = F.conv2d(across, kernel[:, :, :, None], groups=count * channels)
    return made.view(images.shape).round_().to(torch.uint8)


def sharpened(images: Tensor, factors: Tensor) -> Tensor:
    """Mixed with their means over 3 x 3 pixels (the middle counts five times); the border stays."""
    if min(images.shape[2:]) <= 2:  # all border
        return images
    channels = images.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    soft = images.float()
    soft[:, :, 1:-1, 1:-1] = F.conv2d(images.float(), kernel / 13, groups=channels).round_()
    return _mixed(images, soft, factors)


def posterized(images: Tensor, bits: Tensor) -> Tensor:
    """Only the highest bits of each level."""
    masks = (256 - 2 ** (8 - bits.long())).to(torch.uint8)
    return images & masks[:, None, None, None]


def solarized(images: Tensor, thresholds: Tensor) -> Tensor:
    """Levels from a threshold on are inverted."""
    return torch.where(images >= thresholds[:, None, None, None], 255 - images, images)


def stretched(images: Tensor) -> Tensor:
    """Each channel's levels spread over 0 to 255."""
    pixels = images.float()
    least, most = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    flat = most == least
    scale = torch.where(flat, 1.0, 255 / torch.where(flat, 1.0, most - least))
    return ((pixels - torch.where(flat, 0.0, least)) * scale).clamp_(0, 255).to(torch.uint8)


def equalized(images: Tensor) -> Tensor:
    """Each channel's levels moved so that about equally many pixels have each, as Pillow does."""
    levels = images.flatten(2).flatten(0, 1).long()
    counts = torch.zeros(len(levels), 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    of_highest = counts.gather(1, levels.amax(1, keepdim=True))
    step = (levels.shape[1] - of_highest) // 255
    sums = counts.cumsum(1) - counts  # pixels below each level
    table = ((sums + step // 2) // step.clamp(min=1)).clamp(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return table.gather(1, levels).to(torch.uint8).view(images.shape)


def _mixed(images: Tensor, other: Tensor, factors: Tensor) -> Tensor:
    """factor · image + (1 - factor) · other, cut to whole levels."""
    scale = factors[:, None, None, None]
    return (scale * images.float() + (1 - scale) * other).clamp_(0, 255).to(torch.uint8)
