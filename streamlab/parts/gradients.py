"""Gradients as flat vectors, for methods that compare, project or rehearse a step (GEM, A-GEM, MIR)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def flat_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """(P,) the gradient of a scalar by all parameters together; zeros where it has none."""
    parts = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(parameter).flatten() if part is None else part.flatten()
            for part, parameter in zip(parts, parameters, strict=True)
        ]
    )


def set_gradient(parameters: Sequence[Tensor], flat: Tensor) -> None:
    """Give each parameter its part of a flat gradient (P,)."""
    for parameter, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


@contextmanager
def after_a_step(parameters: Sequence[Tensor], gradients: Sequence[Tensor], lr: float) -> Iterator[None]:
    """Within the block the parameters stand where a plain gradient step would put them."""
    with torch.no_grad():
        kept = [parameter.detach().clone() for parameter in parameters]
        torch._foreach_add_(list(parameters), list(gradients), alpha=-lr)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), kept)
