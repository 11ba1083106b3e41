"""MixUp and CutMix: two images of a batch in one, with the shares of their labels.

MixUp: Zhang et al., ICLR 2018, arXiv 1710.09412; CutMix: Yun et al., ICCV 2019, arXiv 1905.04899. An image
is mixed with the one before it, the first with the last, at one share a batch, as torchvision's do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mixed:
    """images: (B, C, H, W) uint8; labels, others: (B,) int64, of which an image has `share` and the rest."""

    images: Tensor
    labels: Tensor
    others: Tensor
    share: float

    def loss(self, logits: Tensor, of: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> Tensor:
        """A scalar: share · of(logits, labels) + (1 - share) · of(logits, others)."""
        return self.share * of(logits, self.labels) + (1 - self.share) * of(logits, self.others)


def mixup(images: Tensor, labels: Tensor, alpha: float = 1.0) -> Mixed:
    """(B, C, H, W) uint8 images and (B,) labels, mixed pixel by pixel, in whole levels.

    alpha: both numbers of the Beta distribution of the share, drawn from torch's global generator.
    """
    share = _share(alpha)
    made = share * images.float() + (1 - share) * images.roll(1, 0).float()
    return Mixed(made.round_().to(torch.uint8), labels, labels.roll(1, 0), share)


def cutmix(images: Tensor, labels: Tensor, alpha: float = 1.0) -> Mixed:
    """(B, C, H, W) uint8 images and (B,) labels; a box of about 1 - share of the area is the other image's.

    alpha: as in `mixup`. The share is what is left of the image once the box is cut at the border.
    """
    height, width = images.shape[2:]
    drawn = _share(alpha)
    across, down = int(torch.randint(width, (1,))), int(torch.randint(height, (1,)))
    half = 0.5 * (1 - drawn) ** 0.5
    left, right = max(across - int(half * width), 0), min(across + int(half * width), width)
    top, bottom = max(down - int(half * height), 0), min(down + int(half * height), height)
    made = images.clone()
    made[:, :, top:bottom, left:right] = images.roll(1, 0)[:, :, top:bottom, left:right]
    share = 1 - (right - left) * (bottom - top) / (width * height)
    return Mixed(made, labels, labels.roll(1, 0), share)


def _share(alpha: float) -> float:
    """From Beta(alpha, alpha)."""
    return float(torch._sample_dirichlet(torch.tensor([alpha, alpha]))[0])
