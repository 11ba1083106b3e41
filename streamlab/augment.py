"""Augmentation of a batch on its device: one random affine map and mirror an image.

No per-sample Python. Draws come from torch's global generator, which the kernel seeds by name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .training import Augmentation


def augmented(images: Tensor, chosen: Augmentation) -> Tensor:
    """(B, C, H, W) uint8 -> the same, each image moved on its own; what comes in from outside is 0."""
    count, device = len(images), images.device
    if chosen.mirror:
        turned = torch.rand(count, device=device) < 0.5
        images = torch.where(turned[:, None, None, None], images.flip(3), images)
    if not chosen.moves:
        return images
    draws = torch.rand(5, count, device=device) * 2 - 1
    angle, slant = torch.deg2rad(draws[0] * chosen.rotate), torch.deg2rad(draws[1] * chosen.shear)
    least, most = chosen.scale
    zoom = 1 / (least + (draws[2] + 1) / 2 * (most - least))
    cosine, sine = angle.cos() * zoom, angle.sin() * zoom
    maps = torch.stack(
        [
            torch.stack([cosine, cosine * slant.tan() - sine, draws[3] * 2 * chosen.shift * zoom], 1),
            torch.stack([sine, sine * slant.tan() + cosine, draws[4] * 2 * chosen.shift * zoom], 1),
        ],
        1,
    )
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", align_corners=False)
    return moved.round_().to(torch.uint8)
