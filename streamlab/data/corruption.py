"""Corrupts images: each of six conditions in five severities (streamlab.plans.environments).

After the conditions of the robust few-shot study RD-FSL; the strengths are ours. Batched on the device;
a sample is corrupted the same way whenever it is looked at, in every run. (Across devices a
pixel may differ by one level: sums are rounded.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..plans.environments import parse_environment
from ..randomness import hashed, key

_STROKES = (3, 6, 9, 13, 18)
_SCALE = (0.8, 0.65, 0.5, 0.4, 0.3)
_LIGHT = (0.5, 0.35, 0.25, 0.17, 0.1)
_BLUR = (0.02, 0.035, 0.05, 0.07, 0.1)
_COVERED = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST = (0.5, 0.35, 0.22, 0.14, 0.08)


class _Noise:
    """Numbers in [0, 1) of each sample, the same whenever it is asked for: by the sample and a name."""

    def __init__(self, name: str, samples: Tensor) -> None:
        self.name, self.samples = name, samples

    def __call__(self, what: str, count: int) -> Tensor:
        """(B, count) float32."""
        counters = self.samples[:, None] * (1 << 24) + torch.arange(count, device=self.samples.device)
        bits: Tensor = hashed(key(0, "environment", self.name, what), counters) >> 39
        return bits.float() / (1 << 24)


def corrupt(images: Tensor, samples: Tensor, environment: str) -> Tensor:
    """(B, C, H, W) uint8 -> the same images in this environment; samples: (B,) int64, which they are."""
    condition, severity = parse_environment(environment)
    corrupted = _CONDITIONS[condition](images.float() / 255, severity - 1, _Noise(environment, samples))
    return (corrupted.clamp(0, 1) * 255).round().to(torch.uint8)


def _clutter(images: Tensor, level: int, noise: _Noise) -> Tensor:
    """Strokes of any brightness, about one pixel in 28 wide, anywhere."""
    count, _, height, width = images.shape
    strokes = _STROKES[level]
    ends = noise("ends", 4 * strokes).view(count, strokes, 2, 2)
    shades = noise("shades", strokes)
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    points = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).view(1, -1, 2)
    corrupted = images.flatten(2)
    for number in range(strokes):
        begin, end = ends[:, number, 0, None], ends[:, number, 1, None]
        along = 0.5 * (end - begin)  # half as long as the distance of two random points
        share = ((points - begin) * along).sum(-1) / along.square().sum(-1).clamp(min=1e-6)
        gap = (points - begin - share.clamp(0, 1)[..., None] * along).norm(dim=-1)
        corrupted = torch.where((gap < 0.025)[:, None], shades[:, number, None, None], corrupted)
    return corrupted.view_as(images)


def _small_target(images: Tensor, level: int, noise: _Noise) -> Tensor:
    """The whole image shrunk, at a random place on a ground of its border's median."""
    count, channels, _, _ = images.shape
    scale = _SCALE[level]
    edges = [images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]]
    border = torch.cat(edges, -1).sort(-1).values  # torch.median has no deterministic kernel on a GPU
    ground = border[..., (border.shape[-1] - 1) // 2].view(count, channels, 1, 1)
    place = (noise("place", 2) * 2 - 1) * (1 / scale - 1)
    maps = torch.zeros(count, 2, 3, device=images.device)
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / scale
    maps[:, :, 2] = place
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    small = F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)
    return F.grid_sample(small - ground, grid, padding_mode="zeros", align_corners=False) + ground


def _low_light(images: Tensor, level: int, noise: _Noise) -> Tensor:
    """Less light, and its shot and read noise."""
    dark = images * _LIGHT[level]
    spread = (dark / 200 + 0.015**2).sqrt()
    return dark + spread * _normal(images, noise)


def _blur(images: Tensor, level: int, noise: _Noise) -> Tensor:
    """A Gaussian blur; its deviation is a share of the width."""
    deviation = _BLUR[level] * images.shape[-1]
    reach = min(int(3 * deviation + 0.5), min(images.shape[2:]) - 1)
    offsets = torch.arange(-reach, reach + 1, device=images.device).float()
    weights = torch.exp(-0.5 * (offsets / deviation) ** 2)
    weights = weights / weights.sum()
    flat = images.flatten(0, 1)[:, None]
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), weights.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), weights.view(1, 1, -1, 1))
    return flat.view_as(images)


def _occlusion(images: Tensor, level: int, noise: _Noise) -> Tensor:
    """A square of one shade over a share of the area, at a random place."""
    count, _, height, width = images.shape
    side = _COVERED[level] ** 0.5
    corner = noise("corner", 2) * (1 - side)
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    down = (rows >= corner[:, :1]) & (rows < corner[:, :1] + side)
    across = (columns >= corner[:, 1:]) & (columns < corner[:, 1:] + side)
    shade = noise("shade", 1).view(count, 1, 1, 1)
    return torch.where((down[:, :, None] & across[:, None])[:, None], shade, images)


def _low_contrast(images: Tensor, level: int, noise: _Noise) -> Tensor:
    """Shades drawn together around the image's mean, with a sensor's noise."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * _CONTRAST[level] + 0.015 * _normal(images, noise)


def _normal(images: Tensor, noise: _Noise) -> Tensor:
    """Standard normal numbers of the images' shape (Box and Muller 1958)."""
    size = images[0].numel()
    radius = (-2 * (1 - noise("radius", size)).log()).sqrt()
    return (radius * (2 * torch.pi * noise("angle", size)).cos()).view_as(images)


_CONDITIONS: dict[str, Callable[[Tensor, int, _Noise], Tensor]] = {
    "clutter": _clutter,
    "small-target": _small_target,
    "low-light": _low_light,
    "blur": _blur,
    "occlusion": _occlusion,
    "low-contrast": _low_contrast,
}
