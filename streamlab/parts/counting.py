"""Counts that a GPU need not wait for."""

from __future__ import annotations

import torch
from torch import Tensor


def occurrences(values: Tensor, number: int) -> Tensor:
    """(n,) int64 in [0, number) -> (number,) int64, how often each is there (bincount waits)."""
    return (values[:, None] == torch.arange(number, device=values.device)).sum(0)
