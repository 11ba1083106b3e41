"""Representations that say as much as they can of an image: turned images as classes, and InfoNCE among them.

Guo et al., ICML 2022 (OCM); Wei et al., ICCV 2023 (OnPro) use them too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TURNS = 16
LEAST = 1e-8  # added to what logarithms and quotients are of, as in the authors' code


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
