"""What a run must leave in its process as it found it: settings that other runs compute by, and functions.

A plugin that changes one of them would change the bits of whatever runs after it. The change is named, and
put back.
"""

from __future__ import annotations

import math
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

_TORCH = os.path.dirname(torch.__file__) + os.sep
Setting = tuple[Callable[[], Any], Callable[[Any], Any]]
_torch: Any = torch
_COMPUTED_BY = (
    "STREAMLAB_", "OMP_", "MKL_", "OPENBLAS_", "CUDA_VISIBLE_", "CUDA_LAUNCH_", "CUBLAS_", "PYTORCH_",
    "TORCH_",
)  # fmt: skip


class _Environment(dict[str, str]):
    """The environment's variables, equal to one that has some more (importing a library may add its own), but
    for those by which others compute.
    """

    def __ne__(self, before: object) -> bool:
        assert isinstance(before, _Environment)
        added = {name for name in self if name not in before and name.startswith(_COMPUTED_BY)}
        return bool(added) or any(self.get(name) != text for name, text in before.items())


def _put_environment(value: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(value):
        if name.startswith(_COMPUTED_BY):
            del os.environ[name]
    os.environ.update(value)


def _put_handlers(value: Mapping[int, Any]) -> None:
    for number, handler in value.items():
        if handler is not None and signal.getsignal(number) is not handler:  # None: not Python's own
            signal.signal(number, handler)


def _handlers() -> dict[int, Any]:
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


def _deterministic() -> tuple[bool, bool]:
    return (
        _torch.are_deterministic_algorithms_enabled(),
        _torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _switches() -> dict[str, Any]:
    return {f"{name}.{flag}": getattr(part, flag) for name, part, flag in _FLAGS if hasattr(part, flag)}


def _put_switches(value: Mapping[str, Any]) -> None:
    for name, part, flag in _FLAGS:
        if f"{name}.{flag}" in value:
            setattr(part, flag, value[f"{name}.{flag}"])


_FLAGS: tuple[tuple[str, Any, str], ...] = (
    ("cudnn", torch.backends.cudnn, "enabled"),
    ("cudnn", torch.backends.cudnn, "benchmark"),
    ("cudnn", torch.backends.cudnn, "deterministic"),
    ("cudnn", torch.backends.cudnn, "allow_tf32"),
    ("cuda.matmul", torch.backends.cuda.matmul, "allow_tf32"),
    ("mkldnn", torch.backends.mkldnn, "enabled"),
)


def _hooks() -> dict[str, tuple[Any, ...]]:
    return {name: tuple(getattr(_module, name)) for name in _GLOBAL_HOOKS}


def _put_hooks(value: Mapping[str, tuple[Any, ...]]) -> None:
    for name, before in value.items():
        held = getattr(_module, name)
        for key in [key for key in held if key not in before]:
            del held[key]


_module: Any = torch.nn.modules.module
_GLOBAL_HOOKS = tuple(
    name for name in vars(_module) if name.startswith("_global_") and isinstance(getattr(_module, name), dict)
)


def _flushes_denormals() -> bool:
    return bool(np.float32(1e-39) * np.float32(1.0) == 0.0)


SETTINGS: Mapping[str, Setting] = {
    "whether gradients are taken": (torch.is_grad_enabled, _torch.set_grad_enabled),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (
        lambda: str(torch.get_default_device()),
        lambda value: _torch.set_default_device(None if value == "cpu" else value),
    ),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's deterministic algorithms": (
        _deterministic,
        lambda value: _torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    ),
    "the precision of matrix products": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "automatic casting": (
        lambda: _torch.is_autocast_enabled("cpu"),
        lambda value: _torch.set_autocast_enabled("cpu", value),
    ),
    "the flushing of denormal numbers": (_flushes_denormals, torch.set_flush_denormal),
    "torch's backends": (_switches, _put_switches),
    "the hooks of all modules": (_hooks, _put_hooks),
    "the search for anomalies": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "numpy's handling of errors": (np.geterr, lambda value: np.seterr(**value)),
    "the working directory": (os.getcwd, os.chdir),
    "the environment": (lambda: _Environment(os.environ), _put_environment),
    "the handlers of signals": (_handlers, _put_handlers),
    "the limit of recursion": (sys.getrecursionlimit, sys.setrecursionlimit),
}  # what a setting is called, how it is read, and how it is set
_OWNERS = (torch, torch.Tensor, torch.nn.functional, torch.autograd, torch.linalg, torch.nn.Module,
           torch.optim.Optimizer, np, np.random, random, math)  # fmt: skip


class Surroundings:
    """The process as it is now: settings, and the functions of torch, numpy and streamlab by their names."""

    def __init__(self) -> None:
        self.settings = {name: read() for name, (read, _) in SETTINGS.items()}
        self.functions = [(owner, name, one) for owner in _owners() for name, one in _functions(owner)]

    def changed(self) -> list[str]:
        """What is otherwise now, by name."""
        settings = [name for name, (read, _) in SETTINGS.items() if read() != self.settings[name]]
        others = [(owner, name) for owner, name, one in self.functions if not _is(_now(owner, name), one)]
        return [*settings, *(_called(owner, name) for owner, name in others)]

    def put_back(self) -> None:
        """Make it again as it was."""
        for name, (read, put) in SETTINGS.items():
            if read() != self.settings[name]:
                put(self.settings[name])
        for owner, name, one in self.functions:
            if not _is(_now(owner, name), one):
                _put_function(owner, name, one)


@contextmanager
def put_back_after(changed: list[str]) -> Iterator[None]:
    """Fills the list with what was changed inside, and puts it back."""
    before = Surroundings()
    try:
        yield
    finally:
        changed += before.changed()
        before.put_back()


def _owners() -> Iterator[Any]:
    """Modules and classes whose functions are looked at."""
    yield from _OWNERS
    for room in (torch.nn, torch.optim):
        for one in vars(room).values():
            if isinstance(one, type) and one not in _OWNERS:
                yield one
    for name, module in list(sys.modules.items()):
        if name == "streamlab" or name.startswith("streamlab."):
            yield module
            for one in list(vars(module).values()):
                if isinstance(one, type) and one.__module__ == name:
                    yield one


def _functions(owner: Any) -> Iterator[tuple[str, Any]]:
    """What can be called in it, by name; of torch's classes also what they inherit."""
    inherited = isinstance(owner, type) and owner in _OWNERS
    for name in {name for one in owner.__mro__ for name in vars(one)} if inherited else list(vars(owner)):
        one = _now(owner, name)
        if callable(one) or isinstance(one, staticmethod | classmethod | property):
            yield name, one


def _now(owner: Any, name: str) -> Any:
    """What a name means there, unbound."""
    places = owner.__mro__ if isinstance(owner, type) else (owner,)
    return next((vars(place)[name] for place in places if name in vars(place)), None)


def _is(now: Any, before: Any) -> bool:
    """Whether it is the same, or what torch itself has put around it (torch._dynamo does, when imported)."""
    if now is before:
        return True
    code = getattr(now, "__code__", None)
    return getattr(now, "__wrapped__", None) is before and code is not None and _TORCH in code.co_filename


def _put_function(owner: Any, name: str, one: Any) -> None:
    """Give a name its meaning again: of one that was inherited, by taking away what hides it."""
    if isinstance(owner, type) and any(vars(base).get(name) is one for base in owner.__mro__[1:]):
        delattr(owner, name)
    else:
        setattr(owner, name, one)


def _called(owner: Any, name: str) -> str:
    if isinstance(owner, ModuleType):
        return f"{owner.__name__}.{name}"
    return f"{owner.__module__}.{owner.__qualname__}.{name}"
