"""What a strategy may change that no checkpoint keeps: what classes, functions and modules hold, and hooks.

Looked at are the classes below `Strategy` and the modules that define them, of a stranger's package all that
are imported: globals, attributes of classes, what functions close over, their defaults and attributes. What a
cache of functools holds is no state: it is computed again.
"""

from __future__ import annotations

import array
import hashlib
import itertools
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..memory.state import attributes_of, hooks_of, modules_in

_PLAIN = (int, float, complex, str, bytes, bytearray, bool, type(None))
_NESTED = (list, tuple, set, frozenset, dict, deque)
_SHOWN = (itertools.count, array.array)  # whose text is all of them
_OURS = frozenset({"streamlab", "strategies", "scenarios", "cli"})


def outside(cls: type, base: type, held: Mapping[str, Any]) -> dict[str, str]:
    """A mark of every value outside an instance of the class, by name, and of hooks of what it holds.

    base: it and what it is derived from are not looked at. held: the instance's attributes by name.
    """
    classes = [one for one in cls.__mro__ if issubclass(one, base) and one is not base]
    modules = _modules(classes)
    marks = _Marks(frozenset(module.__name__ for module in modules))
    found: dict[str, str] = {}
    for one in classes:
        found |= marks.of_class(one)
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                found |= {} if value in classes else marks.of_class(value)
            elif name[:2] != "__":
                holds = isinstance(value, FunctionType)
                found[f"what {name} holds" if holds else f"{name} of its module"] = marks.of(value)
    for path, network in modules_in(held):
        found[f"what is hooked to {path}"] = ", ".join(hooks_of(network))
    return {name: mark for name, mark in found.items() if mark}


def changed(before: dict[str, str], now: dict[str, str]) -> str | None:
    """The first name whose value is another, if there is one."""
    return next((name for name in {**before, **now} if before.get(name) != now.get(name)), None)


def _modules(classes: list[type]) -> list[ModuleType]:
    """Those of the classes; of a stranger's package all that are imported."""
    names = {one.__module__ for one in classes}
    packages = {name.partition(".")[0] for name in names} - _OURS
    found = list(sys.modules.items())
    return [module for name, module in found if name in names or name.partition(".")[0] in packages]


class _Marks:
    """Marks of values: text that changes with them. modules: whose objects are looked into."""

    def __init__(self, modules: frozenset[str]) -> None:
        self._modules = modules
        self._known: dict[int, tuple[Any, str]] = {}  # the value too, so that its number stays its own

    def of_class(self, one: type) -> dict[str, str]:
        """Of a class's attributes and of what its methods hold, by name."""
        found = {}
        for name, value in list(vars(one).items()):
            method = _function(value)
            if method is not None:
                found[f"what {one.__name__}.{name} holds"] = self.of(method)
            elif name[:2] != "__":
                found[f"{one.__name__}.{name}"] = self.of(value)
        return found

    def of(self, value: Any) -> str:
        """Of values, generators, containers, functions, networks and a plugin's own objects; else ""."""
        if isinstance(value, _PLAIN):
            return _digest(type(value).__name__, repr(value).encode())
        if id(value) not in self._known:
            self._known[id(value)] = (value, "")  # where it holds itself
            self._known[id(value)] = (value, self._of(value))
        return self._known[id(value)][1]

    def _of(self, value: Any) -> str:
        if isinstance(value, Tensor):
            content = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            return _digest(f"{value.dtype}{tuple(value.shape)}", content.numpy().tobytes())
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return _digest(f"{value.dtype}{value.shape}", value.tobytes())
        if isinstance(value, random.Random):
            return _digest("random", repr(value.getstate()).encode())
        if isinstance(value, np.random.RandomState):
            return _digest("state", repr(value.get_state(legacy=False)).encode())
        if isinstance(value, np.random.Generator):
            return _digest("generator", repr(value.bit_generator.state).encode())
        if isinstance(value, torch.Generator):
            return self._of(value.get_state())
        if isinstance(value, _SHOWN):
            return _digest("shown", repr(value).encode())
        return self._of_parts(value)

    def _of_parts(self, value: Any) -> str:
        parts: Any
        if isinstance(value, dict):
            parts = [part for item in value.items() for part in item]
        elif isinstance(value, _NESTED):
            parts = list(value)
        elif isinstance(value, FunctionType):
            parts = [value.__defaults__, value.__kwdefaults__, *_closed_over(value), dict(vars(value))]
            parts = [part for part in parts if part]
        elif isinstance(value, nn.Module) or type(value).__module__ in self._modules:
            parts = list(attributes_of(value).items())
        else:
            return ""
        marks = [self.of(part) for part in parts]
        marks = sorted(marks) if isinstance(value, set | frozenset) else marks
        return _digest(type(value).__name__, "\n".join(marks).encode())


def _function(value: Any) -> FunctionType | None:
    """The function behind an attribute of a class: a method, a static one, a property's."""
    value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return value if isinstance(value, FunctionType) else None


def _closed_over(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # nothing yet
            continue


def _digest(kind: str, content: bytes) -> str:
    return hashlib.sha256(kind.encode() + content).hexdigest()
