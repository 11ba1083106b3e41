"""What a strategy may change that no checkpoint keeps: its classes' attributes, and its module's globals."""

from __future__ import annotations

import hashlib
import random
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_NESTED = (list, tuple, set, frozenset, dict)


def outside(cls: type, base: type) -> dict[str, str]:
    """A mark of every value outside an instance, by name: of the classes below `base` and their modules."""
    found: dict[str, Any] = {}
    for one in cls.__mro__:
        if one is base or one.__module__ == "builtins":
            break
        module = vars(sys.modules[one.__module__]) if one.__module__ in sys.modules else {}
        for said, names in ((f"{one.__name__}.{{}}", vars(one)), ("{} of its module", module)):
            found |= {said.format(name): value for name, value in names.items() if name[:2] != "__"}
    marks = {name: _mark(value) for name, value in found.items()}
    return {name: mark for name, mark in marks.items() if mark}


def changed(before: dict[str, str], now: dict[str, str]) -> str | None:
    """The first name whose value is another, if there is one."""
    return next((name for name in {**before, **now} if before.get(name) != now.get(name)), None)


def _mark(value: Any) -> str:
    """What changes with a value: of numbers, text, arrays, tensors, generators and containers of them."""
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        return _digest(f"{value.dtype}{tuple(value.shape)}", content.numpy().tobytes())
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _digest(f"{value.dtype}{value.shape}", value.tobytes())
    if isinstance(value, random.Random):
        return _digest("random", repr(value.getstate()).encode())
    if isinstance(value, np.random.Generator):
        return _digest("generator", repr(value.bit_generator.state).encode())
    if isinstance(value, torch.Generator):
        return _mark(value.get_state())
    if isinstance(value, _NESTED):
        parts = [part for item in value.items() for part in item] if isinstance(value, dict) else list(value)
        marks = [_mark(part) for part in parts]
        marks = sorted(marks) if isinstance(value, set | frozenset) else marks
        return _digest(type(value).__name__, "\n".join(marks).encode())
    return _digest(type(value).__name__, repr(value).encode()) if isinstance(value, _PLAIN) else ""


def _digest(kind: str, content: bytes) -> str:
    return hashlib.sha256(kind.encode() + content).hexdigest()
