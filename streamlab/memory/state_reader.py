"""Puts state back, as state.py took it down: JSON and tensors into values, in place where that can be."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CorruptFile
from .state import PLAIN, Plain, attributes_of, is_function
from .values import BY_NAME


class StateReader:
    """Puts state back: the inverse of StateWriter, into fresh memory and where possible in place."""

    def __init__(self, tensors: dict[str, Tensor], device: torch.device | None = None) -> None:
        """device: where tensors come to lie (None: where they lay)."""
        self._tensors, self._device = tensors, device
        self._known: dict[int, Any] = {}

    def value(self, plain: Plain, current: Any = None) -> Any:
        """The value that `plain` describes; `current` is filled where it is the same kind of object."""
        if type(plain) in PLAIN:
            return plain
        kind = plain["type"]
        if kind == "left out":
            return self._remember(plain, current)
        if kind == "again":
            return self._known[plain["id"]]
        if kind in ("tuple", "frozenset"):
            return (tuple if kind == "tuple" else frozenset)(self._members(plain, current))
        if kind == "number":
            return np.dtype(plain["dtype"]).type(plain["value"])
        if kind == "enum":
            return _class(plain["class"], Enum)[plain["member"]]
        if kind == "dtype":
            return getattr(torch, plain["value"].removeprefix("torch."))
        if kind == "device":
            return self._device or torch.device(plain["value"])
        if kind == "Size":
            return torch.Size(plain["value"])
        return self._makers()[kind](plain, current)

    def _makers(self) -> dict[str, Callable[[Plain, Any], Any]]:
        return {
            "tensor": self._tensor,
            "parameter": self._tensor,
            "array": self._array,
            "list": self._list,
            "set": self._set,
            "kept": self._kept,
            "dict": self._dict,
            "numpy generator": self._numpy_generator,
            "torch generator": self._torch_generator,
            "optimizer": self._optimizer,
            "object": self._object,
        }

    def _remember(self, plain: Plain, value: Any) -> Any:
        self._known[plain["id"]] = value
        return value

    def _members(self, plain: Plain, current: Any) -> Iterator[Any]:
        items = plain["items"]
        old = (
            current
            if isinstance(current, (list, tuple)) and len(current) == len(items)
            else [None] * len(items)
        )
        return (self.value(item, before) for item, before in zip(items, old, strict=True))

    def _list(self, plain: Plain, current: Any) -> list[Any]:
        made: list[Any] = self._remember(plain, [])
        made.extend(self._members(plain, current))
        return made

    def _set(self, plain: Plain, current: Any) -> set[Any]:
        made: set[Any] = self._remember(plain, set())
        made.update(self._members(plain, None))
        return made

    def _kept(self, plain: Plain, current: Any) -> Any:
        return self._remember(plain, BY_NAME[plain["kind"]].make(self.value(plain["held"])))

    def _tensor(self, plain: Plain, current: Any) -> Tensor:
        stored = self._tensors[plain["tensor"]]
        fresh = torch.empty_strided(
            stored.shape,
            plain["strides"] or stored.stride(),  # the order in memory is part of the bits
            dtype=stored.dtype,
            device=self._device or plain["device"],
        )
        fresh.copy_(stored)
        needs_gradient = plain["requires_grad"]
        is_parameter = plain["type"] == "parameter"
        made = nn.Parameter(fresh, needs_gradient) if is_parameter else fresh.requires_grad_(needs_gradient)
        if "gradient" in plain:
            held = self._tensors[plain["gradient"]]
            made.grad = torch.empty_like(made).copy_(held)
        self._remember(plain, made)
        return made

    def _array(self, plain: Plain, current: Any) -> Any:
        stored = self._tensors[plain["tensor"]].numpy().reshape(plain["shape"])
        if plain["strides"] is None:
            return self._remember(plain, np.array(stored))
        steps = [step * (size - 1) for step, size in zip(plain["strides"], plain["shape"], strict=True)]
        begin = -sum(step for step in steps if step < 0)
        room = np.empty(begin + sum(step for step in steps if step > 0) + stored.itemsize, np.uint8)
        made: Any = np.ndarray(stored.shape, stored.dtype, room, begin, plain["strides"])
        made[...] = stored
        return self._remember(plain, made)

    def _dict(self, plain: Plain, current: Any) -> Any:
        result: dict[Any, Any] = self._remember(plain, {})
        old = current if isinstance(current, dict) else {}
        for key, child in plain["pairs"]:
            name = self.value(key)
            result[name] = self.value(child, old.get(name))
        return result

    def _numpy_generator(self, plain: Plain, current: Any) -> Any:
        state = self.value(plain["state"])
        bits = getattr(np.random, state["bit_generator"])()
        bits.state = state
        return self._remember(plain, np.random.Generator(bits))

    def _torch_generator(self, plain: Plain, current: Any) -> Any:
        result = torch.Generator(plain["device"])
        result.set_state(self._tensors[plain["tensor"]].clone())
        return self._remember(plain, result)

    def _optimizer(self, plain: Plain, current: Any) -> Any:
        groups = self.value(plain["groups"])
        cls = _class(plain["class"], torch.optim.Optimizer)
        taken = inspect.signature(cls.__init__).parameters  # torch's AdamW keeps a default that it refuses
        defaults = self.value(plain["defaults"])
        result = cls(groups, **{name: value for name, value in defaults.items() if name in taken})
        for parameter, state in plain["state"]:
            result.state[self.value(parameter)] = self.value(state)
        return self._remember(plain, result)

    def _object(self, plain: Plain, current: Any) -> Any:
        cls = _class(plain["class"], object)
        if type(current) is cls:
            result = current
        else:
            result = cls.__new__(cls)
            if isinstance(result, nn.Module):
                nn.Module.__init__(result)
        self._remember(plain, result)
        old = attributes_of(result)
        gone = old.keys() - plain["attributes"].keys()
        for name in gone:
            if not is_function(old[name]):
                object.__delattr__(result, name)
        for name, child in plain["attributes"].items():
            # Past any __setattr__: frozen dataclasses and modules are filled as they were taken.
            object.__setattr__(result, name, self.value(child, old.get(name)))
        return result


def _class(name: str, parent: type) -> Any:
    """The class of this name in a module that is imported already; none is imported for it."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, parent)):
        raise CorruptFile(f"the checkpoint names {name}, which is not a class of this run")
    return found
