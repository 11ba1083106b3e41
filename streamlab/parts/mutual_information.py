"""InfoNCE among images of a class, on projections and on parts of the features.

Guo et al., ICML 2022 (OCM); Wei et al., ICCV 2023 (OnPro) use them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augmentation.views import Views
from ..nets.network import Network
from .turning import twice

LEAST = 1e-8  # added to what logarithms and quotients are of, as in the authors' code


class ProjectingHead(nn.Module):
    """A classifier, and a projection beside it, no wider than the features."""

    def __init__(self, feature_size: int, classes: int, width: int) -> None:
        super().__init__()
        self.classes = nn.Linear(feature_size, classes)
        self.projection = nn.Linear(feature_size, min(width, feature_size))

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.classes(features))


@dataclass(frozen=True, eq=False)
class Turned:
    """images: (N, C, S, S), turned and then a second view of each; projected: (N, P); similar: (N, N)."""

    images: Tensor
    projected: Tensor
    similar: Tensor


def seen_turned(network: Network, second: Views, *parts: Tensor) -> list[Turned]:
    """Images (n, C, S, S) of each part turned (N is 32 n) and passed, all at once, under a ProjectingHead."""
    shown = [twice(images, second) for images in parts]
    projected, features = passed(network, torch.cat(shown))
    cut = [len(images) for images in shown]
    rows = zip(shown, torch.split(projected, cut), torch.split(features, cut), strict=True)
    return [Turned(images, part, similarities(part, own)) for images, part, own in rows]


def passed(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, S, S) uint8 -> projections (N, P) and features (N, D) of a network under a ProjectingHead."""
    features = network.features(images)
    return cast(ProjectingHead, network.head).projection(features), features


def similarities(projected: Tensor, features: Tensor) -> Tensor:
    """(N, P) projections and (N, D) features -> (N, N): of each projection to all, and to a part of features.

    Both brought to length 1; the part are P numbers of the features, which begin anywhere.
    """
    start = int(torch.randint(max(1, features.shape[1] - projected.shape[1]), (1,)))
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
