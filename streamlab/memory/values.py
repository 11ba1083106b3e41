"""What else a state may hold, beside plain values, containers, tensors and objects: each kind kept exactly.

What is here by its exact class alone comes back as it was; of a class derived from one, or of any other that
keeps its content where Python cannot see it, a state says by name that it cannot be kept (state.py).
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_FACTORIES: dict[str, Any] = {
    cls.__name__: cls for cls in (int, float, list, dict, set, tuple, str, bool, Counter, deque)
}


@dataclass(frozen=True)
class Kept:
    """A kind of value. take: to what a state can hold; make: back again."""

    cls: type
    take: Callable[[Any], Any]
    make: Callable[[Any], Any]


def _factory(value: defaultdict[Any, Any]) -> str:
    """The name of a defaultdict's factory; raises ValueError for one that is no builtin class."""
    factory = value.default_factory
    name = getattr(factory, "__name__", "")
    if factory is None:
        return ""
    if _FACTORIES.get(name) is not factory:
        raise ValueError("its factory is a function; use a builtin class, as defaultdict(list)")
    return name


def _random(state: Any) -> random.Random:
    made = random.Random()
    made.setstate(state)
    return made


def _random_state(state: Any) -> np.random.RandomState:
    made = np.random.RandomState()
    made.set_state(state)
    return made


_KINDS = (
    Kept(deque, lambda v: (list(v), v.maxlen), lambda h: deque(*h)),
    Kept(Counter, lambda v: list(v.items()), lambda h: Counter(dict(h))),
    Kept(
        defaultdict,
        lambda v: (_factory(v), list(v.items())),
        lambda h: defaultdict(_FACTORIES.get(h[0]), h[1]),
    ),
    Kept(OrderedDict, lambda v: list(v.items()), OrderedDict),
    Kept(random.Random, lambda v: v.getstate(), _random),
    Kept(np.random.RandomState, lambda v: v.get_state(legacy=False), _random_state),
    Kept(complex, lambda v: (v.real, v.imag), lambda h: complex(*h)),
    Kept(bytes, lambda v: np.frombuffer(v, np.uint8), lambda h: h.tobytes()),
    Kept(bytearray, lambda v: np.frombuffer(v, np.uint8), lambda h: bytearray(h.tobytes())),
    Kept(range, lambda v: (v.start, v.stop, v.step), lambda h: range(*h)),
    Kept(slice, lambda v: (v.start, v.stop, v.step), lambda h: slice(*h)),
)
KEPT = {kind.cls: kind for kind in _KINDS}
BY_NAME = {kind.cls.__name__: kind for kind in _KINDS}
CONTAINERS = (list, tuple, dict, set, frozenset, deque, str, int, float, bytes, bytearray)
ARRAYS = "biufc"  # the kinds of numpy's numbers
