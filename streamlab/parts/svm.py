"""The multi-class support vector machine of Crammer and Singer (JMLR 2001), solved so that gradients pass.

For few samples and classes, many problems side by side. Alternating directions (Boyd et al. 2011) find which
bounds hold; then the solution is that of a linear system, through which gradients pass as the implicit
function theorem has them (Amos and Kolter, ICML 2017: OptNet).
"""

from __future__ import annotations

import torch
from torch import Tensor

_NEAR = 1e-9


def crammer_singer(kernel: Tensor, members: Tensor, cost: float, iterations: int = 150) -> Tensor:
    """(E, S, S) kernels, (E, S, W) one-hot labels -> (E, S, W) dual variables a.

    They minimise sum_w a_w' (K + I) a_w / 2 - sum_i a_{i, y_i}, where a_i sums to 0, a_{i, y_i} <= cost, and
    the others are at most 0.
    """
    kernel = kernel + torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    with torch.no_grad():
        at_bound = _bounds_that_hold(kernel.double(), members.double(), cost, iterations)
    return _at_bounds(kernel, members, cost * members, at_bound)


def _bounds_that_hold(kernel: Tensor, members: Tensor, cost: float, iterations: int) -> Tensor:
    """(E, S, W) bool, by alternating directions: the quadratic part and the constraints, each exactly."""
    penalty = kernel.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]  # of the size of what it stands beside
    unit = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    inverse = torch.linalg.inv(kernel + penalty * unit)
    kept = multiplier = torch.zeros_like(members)
    for _ in range(iterations):
        free = inverse @ (members + penalty * (kept - multiplier))
        kept = _feasible(free + multiplier, members, cost)
        multiplier = multiplier + free - kept
    return cost * members - kept <= _NEAR * cost


def _feasible(points: Tensor, members: Tensor, cost: float) -> Tensor:
    """The nearest points that keep a sample's constraints: cost · members less a point of a simplex."""
    room = cost * members - points
    ordered = room.sort(dim=-1, descending=True).values
    counts = torch.arange(1, room.shape[-1] + 1, dtype=room.dtype, device=room.device)
    shifts = (ordered.cumsum(-1) - cost) / counts
    shift = torch.where(ordered > shifts, shifts, -float("inf")).amax(-1, keepdim=True)
    return cost * members - (room - shift).clamp(min=0)


def _at_bounds(kernel: Tensor, members: Tensor, bounds: Tensor, at_bound: Tensor) -> Tensor:
    """The solution where these bounds hold: stationary elsewhere, each sample's variables adding up to 0."""
    problems, samples, way = members.shape
    ones = torch.eye(way, dtype=kernel.dtype, device=kernel.device)
    quadratic = torch.einsum("eij,vw->eivjw", kernel, ones).reshape(problems, samples * way, samples * way)
    adding = torch.eye(samples, dtype=kernel.dtype, device=kernel.device).repeat_interleave(way, 1)
    adding = adding.expand(problems, -1, -1)
    held = at_bound.reshape(problems, -1, 1)
    unit = torch.eye(samples * way, dtype=kernel.dtype, device=kernel.device)
    stationary = torch.cat([quadratic, adding.mT], 2)
    fixed = torch.cat([unit, torch.zeros_like(adding[0].mT)], 1)
    rows = torch.where(held, fixed, stationary)
    below = torch.cat([adding, adding.new_zeros(problems, samples, samples)], 2)
    wanted = torch.where(at_bound, bounds, members).reshape(problems, -1)
    wanted = torch.cat([wanted, wanted.new_zeros(problems, samples)], 1)
    found = torch.linalg.solve(torch.cat([rows, below], 1), wanted)
    dual: Tensor = found[:, : samples * way].view_as(members)
    return dual
