"""Balanced classes: the rare drawn more often (Buda et al. 2018), the frequent less, or new ones between."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wanted(counts: Tensor, ratio: float) -> Tensor:
    """(K,) samples of each class -> (K,) at least so many, that the largest has `ratio` times the least.

    ratio: >= 1; 1 is full balance. Classes without any stay so. Source: Buda et al. 2018, section 2.
    """
    least = math.ceil(int(counts.max()) / ratio) if len(counts) else 0
    return torch.where(counts > 0, counts.clamp(min=least), counts)


def oversampled(labels: Tensor, classes: int, ratio: float = 1.0) -> Tensor:
    """(N,) labels -> rows (M,), M >= N: each sample, and of rare classes some again, at random.

    A class's samples come again in turns, so that none comes twice more than another.
    """
    counts = torch.bincount(labels, minlength=classes)
    rows = []
    for label, count in enumerate(wanted(counts, ratio).tolist()):
        members = shuffled(torch.nonzero(labels == label).flatten())
        if len(members):
            rows.append(members.repeat(-(-count // len(members)))[:count])
    return torch.cat(rows) if rows else labels[:0]


def undersampled(labels: Tensor, classes: int, ratio: float = 1.0) -> Tensor:
    """(N,) labels -> rows (M,), M <= N: of frequent classes at random, `ratio` times the rarest at most."""
    counts = torch.bincount(labels, minlength=classes)
    most = math.floor(int(counts[counts > 0].min()) * ratio) if len(labels) else 0
    rows = [shuffled(torch.nonzero(labels == label).flatten())[:most] for label in range(classes)]
    return torch.cat(rows)


def smote(
    features: Tensor, labels: Tensor, classes: int, ratio: float = 1.0, neighbours: int = 5
) -> tuple[Tensor, Tensor]:
    """(N, D), (N,) -> those, and made ones of rare classes after them: (M, D), (M,).

    Each lies between a sample and one of its nearest of the same class, anywhere on the line. A class of few
    has fewer neighbours; one of a single sample has it again. Source: Chawla et al. 2002, SMOTE; in the
    space of features and with those rules, ours.
    """
    counts = torch.bincount(labels, minlength=classes)
    made, of = [features], [labels]
    for label, missing in enumerate((wanted(counts, ratio) - counts).tolist()):
        if missing:
            members = features[labels == label]
            made.append(between(members, missing, neighbours))
            of.append(labels.new_full((missing,), label))
    return torch.cat(made), torch.cat(of)


def between(members: Tensor, count: int, neighbours: int) -> Tensor:
    """(n, D) -> (count, D): on lines from a member to one of its nearest, both drawn evenly."""
    near = min(neighbours, len(members) - 1)
    if not near:
        return members.expand(count, -1)
    apart = torch.cdist(members, members, compute_mode="donot_use_mm_for_euclid_dist")
    apart.fill_diagonal_(float("inf"))
    nearest = apart.topk(near, largest=False).indices
    pairs = torch.randint(len(members) * near, (count,)).to(members.device)
    steps = torch.rand(count, 1).to(members)
    start = members[pairs // near]
    return start + steps * (members[nearest[pairs // near, pairs % near]] - start)


def shuffled(rows: Tensor) -> Tensor:
    """In an order of torch's global generator."""
    return rows[torch.randperm(len(rows)).to(rows.device)]
