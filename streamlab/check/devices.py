"""Finds, without a GPU, operations that would mix one with the host.

A tensor that is made without a device lives on the host; one that comes from the kernel lives on the
compute device. On a CPU both are the same memory, so here they are told apart by a mark.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_FACTORIES = frozenset(
    """zeros ones empty full arange linspace eye rand randn randint randperm tensor as_tensor from_numpy
    tril_indices triu_indices""".split()
)
_MOVES = frozenset({"to", "cuda", "cpu", "copy_", "index_copy_", "tolist", "item", "numpy", "__get__"})
_INDEXING = frozenset({"__getitem__", "__setitem__"})


class DeviceWatch(TorchFunctionMode):
    """Marks tensors born on the host, and keeps the first line of `file` that mixes one with others."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file, self.found = file, 0
        self._host: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        if name in _FACTORIES:
            if kwargs.get("device") is None and isinstance(result, Tensor) and result.dim():
                self._host[id(result)] = result
            return result
        if name in _MOVES:
            self._host.pop(
                id(result), None
            )  # .to() the device of a tensor that is there is the tensor itself
            return result
        tensors = [tensor for tensor in _tensors([*args, *kwargs.values()]) if tensor.dim()]
        if name in _INDEXING:  # a host index into a device tensor is allowed
            tensors = tensors[:1]
        born_here = [id(tensor) in self._host for tensor in tensors]
        if any(born_here):
            if not all(born_here) and not self.found:
                self.found = self._line()
            elif all(born_here):
                for made in _tensors([result]):
                    self._host[id(made)] = made
        return result

    def is_on_host(self, tensor: Tensor) -> bool:
        """Whether this tensor was made without a device."""
        return id(tensor) in self._host

    def _line(self) -> int:
        lines = [frame.lineno for frame in traceback.extract_stack() if frame.filename == self.file]
        return lines[-1] or 0 if lines else 0


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
