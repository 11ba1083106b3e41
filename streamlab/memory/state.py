"""One walk over an object's attributes: it finds what is held, and takes it down.

`walk` yields every tensor and every buffer for the ledger; StateWriter turns state into plain values plus
named tensors for a checkpoint; what rebuilds it is in state_reader.py. Nothing is pickled: an object is its
class's name (already imported) and its attributes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import StreamlabError
from .values import ARRAYS, CONTAINERS, KEPT

Plain = Any
PLAIN = (type(None), bool, int, float, str)
LEAVES = (Tensor, np.ndarray, bytes, bytearray)
_CLOSED = (type, torch.optim.Optimizer, np.random.Generator, torch.Generator)  # the walk goes past these
_MODULE_BOOKKEEPING = frozenset(name for name in vars(nn.Module()) if "hook" in name) | {
    "_compiled_call_impl",
    "_non_persistent_buffers_set",
}
_TENSORS_OWN = {
    "given",
    "_is_param",
    "_is_buffer",
    "persistent",
}  # what the kernel and torch write on a tensor
_MODULE_DICTS = ("_modules", "_parameters", "_buffers")


@dataclass(frozen=True)
class Held:
    """One thing found by the walk: where, and the ledger kind claimed by its holder."""

    path: str
    value: Any
    kind: str | None


def attributes_of(thing: object) -> dict[str, Any]:
    """What an object holds under names, less what its class calls transient (it can be made anew)
    and, for modules, less torch's own bookkeeping."""
    held = dict(vars(thing)) if hasattr(thing, "__dict__") else {}
    for cls in type(thing).__mro__:
        for slot in getattr(cls, "__slots__", ()):
            if hasattr(thing, slot) and not slot.startswith("__"):
                held[slot] = getattr(thing, slot)
    for name in getattr(type(thing), "transient", ()):
        held.pop(name, None)
    if isinstance(thing, nn.Module):
        held = {name: value for name, value in held.items() if name not in _MODULE_BOOKKEEPING}
    return held


def walk(value: Any, path: str = "", kind: str | None = None, seen: set[int] | None = None) -> Iterator[Held]:
    """Every tensor, array and bytes reachable from `value`, each object once, in order; and before its
    own tensors every object whose class claims a kind for itself (`ledger_kind`: a buffer does).

    seen: ids of what was found before and is not found again, filled by the walk. Optimizers are not
    entered: what they hold is reported beside the ledger.
    """
    seen = set() if seen is None else seen
    if isinstance(value, PLAIN) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, LEAVES):
        yield Held(path, value, kind)
    elif not isinstance(value, _CLOSED):
        claimed = getattr(type(value), "ledger_kind", None)
        if claimed:
            kind = claimed
            yield Held(path, value, kind)
        for name, child in _children(value):
            if not isinstance(child, PLAIN):
                yield from walk(child, f"{path}.{name}" if path else name, kind, seen)


def modules_in(value: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, nn.Module]]:
    """Every module reachable from `value`, each once, with its path as a state dict would call it."""
    seen = set() if seen is None else seen
    if isinstance(value, (*PLAIN, *LEAVES, *_CLOSED)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield path, value
    for name, child in _children(value):
        yield from modules_in(child, _inside(path, name), seen)


def _inside(path: str, name: str) -> str:
    """Where an attribute is, a module's parts as its `state_dict` calls them."""
    return path if name in _MODULE_DICTS else f"{path}.{name}" if path else name


def hooks_of(module: nn.Module) -> list[str]:
    """The hooks that were registered with a module, each by its kind, number and function."""
    return [
        f"{kind} {number} {getattr(hook, '__qualname__', type(hook).__qualname__)}"
        for kind in sorted(_MODULE_BOOKKEEPING)
        if isinstance(held := vars(module).get(kind), dict)
        for number, hook in held.items()
    ]


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(str(name), child) for name, child in value.items()]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [(str(number), child) for number, child in enumerate(value)]
    return list(attributes_of(value).items())


def _is_given(value: Any) -> bool:
    """Whether a parameter is as the weights that its network is built with have it (nets/network.py)."""
    return isinstance(value, nn.Parameter) and getattr(value, "given", None) == value._version


class StateWriter:
    """Takes state down: `plain(value)` is JSON, tensors go to `tensors` by their path (net.head.weight).

    A tensor reachable twice (a parameter and its optimizer's) is stored once and comes back as
    one; a view of a bigger tensor is stored as what it shows, and two tensors of one memory are refused.
    Gradients that tensors hold are state too (`Strategy.step` leaves none).
    leave_out: objects of these classes are not taken down, and stay as they are where the state is put.
    """

    def __init__(self, leave_out: tuple[type, ...] = ()) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._leave_out = leave_out
        self._known: dict[int, int] = {}
        self._objects: list[Any] = []  # keeps ids valid while taking
        self._memory: dict[int, str] = {}  # whose it is

    def _number(self, value: Any) -> tuple[int, bool]:
        if id(value) in self._known:
            return self._known[id(value)], True
        self._known[id(value)] = len(self._known)
        self._objects.append(value)
        return self._known[id(value)], False

    def plain(self, value: Any, path: str) -> Plain:
        """The JSON form of `value`; raises StreamlabError, by `path`, for what has none."""
        if type(value) in PLAIN:
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            return {"type": "number", "dtype": value.dtype.str, "value": value.item()}
        if type(value) in (tuple, frozenset):
            return {"type": type(value).__name__, "items": self._items(value, path)}
        if isinstance(value, Enum):
            return {"type": "enum", "class": _name(value), "member": value.name}
        if isinstance(value, (torch.dtype, torch.device, torch.Size)):
            return {
                "type": type(value).__name__,
                "value": list(value) if isinstance(value, torch.Size) else str(value),
            }
        number, again = self._number(value)
        if again:
            return {"type": "again", "id": number}
        if isinstance(value, self._leave_out) or _is_given(value):
            return {"type": "left out", "id": number}
        return {"id": number, **self._new(value, path)}

    def _items(self, value: Any, path: str) -> list[Plain]:
        """The members of a sequence in order, of a set in one that does not depend on hashes."""
        members = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [self.plain(item, f"{path}.{number}") for number, item in enumerate(members)]

    def _new(self, value: Any, path: str) -> dict[str, Plain]:
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if type(value) in (list, set):
            return {"type": type(value).__name__, "items": self._items(value, path)}
        if type(value) in KEPT:
            try:
                held = KEPT[type(value)].take(value)
            except ValueError as error:
                raise StreamlabError(f"{path} cannot be kept in a checkpoint: {error}") from None
            return {"type": "kept", "kind": type(value).__name__, "held": self.plain(held, path)}
        if type(value) is np.ndarray:
            return self._array(value, path)
        if type(value) is dict:
            pairs = [
                [self.plain(key, f"{path} key"), self.plain(child, f"{path}.{key}")]
                for key, child in value.items()
            ]
            return {"type": "dict", "pairs": pairs}
        if isinstance(value, np.random.Generator):
            return {"type": "numpy generator", "state": self.plain(value.bit_generator.state, path)}
        if isinstance(value, torch.Generator):
            name = self._keep(value.get_state(), path)
            return {"type": "torch generator", "device": str(value.device), "tensor": name}
        if isinstance(value, torch.optim.Optimizer):
            groups = self.plain(value.param_groups, f"{path}.param_groups")
            state = [[self.plain(p, path), self.plain(s, path)] for p, s in value.state.items()]
            defaults = self.plain(value.defaults, path)
            return {
                "type": "optimizer",
                "class": _name(value),
                "groups": groups,
                "state": state,
                "defaults": defaults,
            }
        if callable(value) and not isinstance(value, nn.Module):
            raise StreamlabError(f"{path} is a function, which no checkpoint can hold; make it a method")
        self._refuse(value, path)
        attributes = {
            name: self.plain(child, _inside(path, name))
            for name, child in attributes_of(value).items()
            if not (isinstance(value, nn.Module) and is_function(child))
        }
        return {"type": "object", "class": _name(value), "attributes": attributes}

    def _refuse(self, value: Any, path: str) -> None:
        """Raise StreamlabError for an object whose content is not in its attributes, or not there alone."""
        name = type(value).__name__
        for base in (*CONTAINERS, np.ndarray):
            if isinstance(value, base):
                raise StreamlabError(
                    f"{path} is a {name}, a {base.__name__} of a class of its own, which no checkpoint can "
                    f"hold; use a plain {base.__name__}"
                )
        slots = any(getattr(cls, "__slots__", ()) for cls in type(value).__mro__)
        if type(value).__module__ == "builtins" or not (hasattr(value, "__dict__") or slots):
            raise StreamlabError(
                f"{path} is a {name}, which no checkpoint can hold; use numbers, text, tensors or arrays"
            )

    def _array(self, value: NDArray[Any], path: str) -> dict[str, Plain]:
        if value.dtype.hasobject:
            raise StreamlabError(f"{path} is an array of Python objects, which no checkpoint can hold")
        if value.dtype.kind not in ARRAYS or value.dtype.char in "gG" or not value.dtype.isnative:
            raise StreamlabError(
                f"{path} is an array of {value.dtype.str}, which no checkpoint can hold; use one of numbers"
            )
        if any(size > 1 and step == 0 for size, step in zip(value.shape, value.strides, strict=True)):
            raise _refused_expanded(path, "array", ".copy()")
        owner = value
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        self._claim(owner.__array_interface__["data"][0] if value.size else 0, path)
        name = self._keep(torch.from_numpy(np.array(value, order="C")), path)
        strides = None if value.flags.c_contiguous else list(value.strides)
        return {"type": "array", "tensor": name, "shape": list(value.shape), "strides": strides}

    def _tensor(self, value: Tensor, path: str) -> dict[str, Plain]:
        dense = value.detach()
        if getattr(type(value), "kept_as", type(value)) not in (Tensor, nn.Parameter):
            raise StreamlabError(
                f"{path} is a {type(value).__name__}, a tensor of a class of its own, which no checkpoint "
                f"can hold; use a plain tensor"
            )
        if value._backward_hooks or getattr(value, "_post_accumulate_grad_hooks", None):
            raise StreamlabError(
                f"{path} has a hook, which no checkpoint can hold; do in a method what the hook does"
            )
        if own := sorted(attributes_of(value).keys() - _TENSORS_OWN):
            raise StreamlabError(
                f"{path} is a tensor with an attribute of its own ({own[0]}), which no checkpoint can hold; "
                f"make it one of the instance (self.…)"
            )
        if value.is_quantized or value.layout != torch.strided:
            what = str(value.dtype if value.is_quantized else value.layout).removeprefix("torch.")
            raise StreamlabError(
                f"{path} is a tensor of {what}, which no checkpoint can hold; keep it plain, and make the "
                f"other of it"
            )
        if _shares_elements(dense):
            raise _refused_expanded(path, "tensor", ".clone()")
        self._claim(dense.untyped_storage().data_ptr() if dense.numel() else 0, path)
        name = self._keep(dense, path)
        strides = None if dense.is_contiguous() else list(dense.stride())
        held = value.grad if value.is_leaf else None
        return {
            **({} if held is None else {"gradient": self._keep(held.detach(), f"{path}.grad")}),
            "type": "parameter" if isinstance(value, nn.Parameter) else "tensor",
            "tensor": name,
            "strides": strides,
            "requires_grad": value.requires_grad,
            "device": str(value.device),
        }

    def _claim(self, memory: int, path: str) -> None:
        """Raise StreamlabError where something else lies in this memory (0: none)."""
        if memory and memory in self._memory:
            raise StreamlabError(
                f"{path} and {self._memory[memory]} are views of the same values, which would come back from "
                f"a checkpoint apart; keep one of them, or a copy (.clone())"
            )
        self._memory[memory] = path

    def _keep(self, value: Tensor, path: str) -> str:
        """Under its path; a number follows where two have one."""
        name = wanted = path
        while name in self.tensors:
            name = f"{wanted}~{len(self.tensors)}"
        self.tensors[name] = value.cpu().clone(memory_format=torch.contiguous_format)
        return name


def _shares_elements(value: Tensor) -> bool:
    """Whether some of its elements lie at one place, as an expanded tensor's do, or a sliding window's."""
    reach = 0
    for step, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size > 1 and step <= reach:
            return bool(value.numel())
        reach += step * (size - 1)
    return False


def _refused_expanded(path: str, what: str, copy: str) -> StreamlabError:
    return StreamlabError(
        f"{path} is an expanded {what}, whose elements share their values, and would come back from a "
        f"checkpoint apart; keep a copy ({copy})"
    )


def is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (nn.Module, Tensor, type))


def _name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"
