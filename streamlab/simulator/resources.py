"""The device, and what a run costs there: operations of a step, and the most memory it took."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

T = TypeVar("T")


def flops_of(step: Callable[[], T]) -> tuple[T, float]:
    """Run `step` and count its matrix products and convolutions (2 operations a multiply-add).

    Counted as they are called, and with them the products that their gradients will take: one
    more for each factor that needs one. torch's own counter agrees, but costs every worker a
    second and 150 MB (it imports a compiler).
    """
    counter = FlopCounter()
    with counter:
        result = step()
    return result, counter.total


class FlopCounter(TorchFunctionMode):
    """Counts while it is entered; `total` is what it counted."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").removeprefix("__").removesuffix("__")
        factors = _factors(name, args, kwargs or {})
        if factors is not None and isinstance(result, Tensor):
            each = _multiply_adds(name, factors, args, result) * 2.0
            gradients = sum(factor.requires_grad for factor in factors[:2]) if result.requires_grad else 0
            self.total += each * (1 + gradients)
        return result


def _factors(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor] | None:
    """What is multiplied in a call, if it is a product."""
    if name in ("linear", "conv1d", "conv2d", "conv3d"):
        return [args[0], args[1] if len(args) > 1 else kwargs["weight"]]
    if name in ("matmul", "mm", "bmm", "mv", "rmatmul"):
        return [*args[:2], *kwargs.values()][:2]
    if name in ("addmm", "baddbmm", "addmv", "addmm_"):
        return [*args[1:3]]
    if name == "einsum":
        tensors = [part for part in args[1:] if isinstance(part, Tensor)]
        return tensors if len(tensors) == 2 else None
    if name == "scaled_dot_product_attention":
        return [*args[:3], *kwargs.values()][:3]
    return None


def _multiply_adds(name: str, factors: list[Tensor], args: Sequence[Any], result: Tensor) -> float:
    if name.startswith("conv"):
        return result.numel() * factors[1][0].numel()
    if name == "einsum":
        places = args[0].split("->")[0].replace(" ", "").split(",")
        sizes = {
            letter: size
            for letters, factor in zip(places, factors, strict=True)
            for letter, size in zip(letters, factor.shape, strict=True)
        }
        return math.prod(sizes.values())
    if name == "scaled_dot_product_attention":
        query, keys, values = factors
        return query.shape[:-1].numel() * keys.shape[-2] * (query.shape[-1] + values.shape[-1])
    return result.numel() * factors[0].shape[-1]


def reset_peak_memory(device: torch.device) -> None:
    """Begin a new measurement of the peak (Linux keeps it a process; elsewhere it is not reset)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory(device: torch.device) -> int:
    """Most bytes in use since the reset: of the device's allocator, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
