"""Images turned in sixteen ways, each of which makes classes of its own (OCM, Guo et al., ICML 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..augmentation.operations import Flip, Grey, ResizedCrop
from ..augmentation.protocol import Operation
from ..augmentation.views import Views
from ..errors import StreamlabError

TURNS = 16


def check_square(strategy: str, image_shape: tuple[int, int, int]) -> None:
    """Raise StreamlabError for images that cannot be turned by a quarter."""
    _, height, width = image_shape
    if height != width:
        raise StreamlabError(f"{strategy} turns images, and these are {height}x{width}; they must be square")


def turning_views(seed: int, channels: int) -> Views:
    """A flip, greys (0.25; of images that have colours), and a part of 30 to 100 %."""
    grey: tuple[Operation, ...] = (Grey(0.25),) if channels == 3 else ()
    return Views((Flip(), *grey, ResizedCrop(scale=(0.3, 1.0))), seed, "turning", "view")


def twice(images: Tensor, second: Views) -> Tensor:
    """(n, C, S, S) -> (32 n, C, S, S): turned, then a second view of each."""
    turned = half_turned(images)
    return torch.cat([turned, second.of(turned)])


def half_turned(images: Tensor) -> Tensor:
    """(n, C, S, S) -> (16 n, C, S, S): each way of turning halves and wholes, all images one after another.

    The left half, both halves, or the right half of an image are turned by 180 degrees; each of these and the
    image itself by 0, 180, 90 and 270.
    """
    middle = images.shape[3] // 2
    left, right = images[..., :middle], images[..., middle:]
    left_turned, right_turned = (half.rot90(2, (2, 3)) for half in (left, right))
    inner = torch.cat(
        [
            images,
            torch.cat([left_turned, right], 3),
            torch.cat([left_turned, right_turned], 3),
            torch.cat([left, right_turned], 3),
        ]
    )
    return torch.cat([inner, *(inner.rot90(quarter, (2, 3)) for quarter in (2, 1, 3))])


def turned_labels(labels: Tensor, classes: int) -> Tensor:
    """(n,) -> (16 n,): each way of turning makes other classes."""
    return torch.cat([labels + classes * turn for turn in range(TURNS)])
