"""Which classes compete, and which rows of a classifier move, while an experience is learned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

Heads = Literal["shared", "own"]


def competing(current_classes: Tensor, heads: Heads) -> Tensor | None:
    """(K,) bool: the current experience's classes where each has a head of its own; None means all."""
    return current_classes if heads == "own" else None


@contextmanager
def rows_kept(head: nn.Module, kept: Tensor) -> Iterator[None]:
    """Whatever happens meanwhile to a classifier, its rows of these classes (K,) bool stay as they are.

    A step of an optimizer decays and moves rows that have no gradient, too.
    """
    tables = list(head.parameters())
    before = [table.detach().clone() for table in tables]
    yield
    with torch.no_grad():
        for table, old in zip(tables, before, strict=True):
            table.copy_(torch.where(kept.view(-1, *[1] * (table.dim() - 1)), old, table))
