"""Representations that say as much as they can of an image: turned images as classes, and InfoNCE among them.

Guo et al., ICML 2022 (OCM); Wei et al., ICCV 2023 (OnPro) use them too.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augmentation.operations import Flip, Grey, ResizedCrop
from ..augmentation.protocol import Operation
from ..augmentation.views import Views
from ..errors import StreamlabError
from ..nets.network import Network

TURNS = 16
LEAST = 1e-8  # added to what logarithms and quotients are of, as in the authors' code


class ProjectingHead(nn.Module):
    """A classifier, and a projection beside it, no wider than the features."""

    def __init__(self, feature_size: int, classes: int, width: int) -> None:
        super().__init__()
        self.classes = nn.Linear(feature_size, classes)
        self.projection = nn.Linear(feature_size, min(width, feature_size))

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.classes(features))


def passed(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, S, S) uint8 -> projections (N, P) and features (N, D) of a network under a ProjectingHead."""
    features = network.features(images)
    return cast(ProjectingHead, network.head).projection(features), features


def start(head: ProjectingHead) -> int:
    """Where the part of the features begins that projections are compared with, drawn anew."""
    projection = head.projection
    return int(torch.randint(max(1, projection.in_features - projection.out_features), (1,)))


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


def similarities(projected: Tensor, features: Tensor, start: int) -> Tensor:
    """(N, P) projections and (N, D) features -> (N, N): of each projection to all, and to a part of features.

    Both brought to length 1; the part are P numbers of the features from `start` on.
    """
    projected = F.normalize(projected)
    part = F.normalize(features)[:, start : start + projected.shape[1]]
    return projected @ projected.T + projected @ part.T


def info_nce(similar: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """(N, N) similarities, (N,) labels -> a scalar >= 0: -log of the share of each of a row's class.

    The mean over the columns of its class, itself too, and over rows.
    """
    return _of_class(_surprise(similar, temperature, itself=True), labels)


def info_nce_of_pairs(similar: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The same twice over and without itself, and that of each row's other view; rows are n views, then n.

    A row's own column, of which its share is 0, counts among those of its class, as in the authors' code: it
    adds a number that nothing changes.
    """
    surprise, half = _surprise(similar, temperature, itself=False), len(similar) // 2
    others = torch.cat([surprise.diagonal(half), surprise.diagonal(-half)])
    return 2 * _of_class(surprise, labels) + others.mean()


def _surprise(similar: Tensor, temperature: float, itself: bool) -> Tensor:
    """(N, N): -log of a column's share in its row."""
    raised = ((similar - similar.amax(1, keepdim=True).detach()) / temperature).exp()
    if not itself:
        raised = raised * ~torch.eye(len(raised), dtype=torch.bool, device=raised.device)
    return -(raised / (raised.sum(1, keepdim=True) + LEAST) + LEAST).log()


def _of_class(surprise: Tensor, labels: Tensor) -> Tensor:
    alike = (labels[:, None] == labels).to(surprise.dtype)
    return (surprise * alike / (alike.sum(1, keepdim=True) + LEAST)).sum(1).mean()
