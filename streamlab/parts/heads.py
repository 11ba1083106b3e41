"""Which classes compete while an experience is learned: the multi-head and the single-head setting."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Heads = Literal["shared", "own"]


def competing(current_classes: Tensor, heads: Heads) -> Tensor | None:
    """(K,) bool: the current experience's classes where each has a head of its own; None means all."""
    return current_classes if heads == "own" else None
