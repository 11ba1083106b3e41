"""A pretended accelerator: a device of torch's whose tensors hold a host tensor's values.

A whole run computes on it, with real numbers, and every operation is seen. As CUDA does, it refuses a host
tensor beside a device tensor; it counts launches, copies and waits by phase and by line, and keeps which
operations have no deterministic kernel on CUDA, or only one that sorts. Importing this file makes the device
for the whole process, so that it is imported in a process of its own (accelerator.py).
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as tree
from torch import Tensor
from torch.optim import optimizer as optimizers
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

NAME = "gpu"

_FREE = frozenset(
    """empty empty_like empty_strided new_empty new_empty_strided detach alias lift_fresh lift view
    _unsafe_view reshape _reshape_alias _reshape_copy set_ sym_size is_pinned
    _has_compatible_shallow_copy_type _fused_sdp_choice real resolve_conj""".split()
)
"""Operations that launch nothing: views, and memory that is not written."""

_WAITS = {
    **dict.fromkeys(
        """_local_scalar_dense equal nonzero masked_select _unique2 unique_dim unique_consecutive
        linalg_solve_ex _linalg_solve_ex linalg_inv_ex linalg_cholesky_ex _linalg_eigh linalg_eig is_nonzero
        repeat_interleave _linalg_svd""".split(), 1,
    ), "bincount": 2,
}  # fmt: skip
"""Operations whose result's shape or value the host needs: how often it waits."""

_UNSTABLE = {
    **dict.fromkeys(
        """histc put_ scatter_reduce kthvalue _adaptive_avg_pool2d_backward upsample_bilinear2d_backward
        grid_sampler_2d_backward _upsample_bilinear2d_aa_backward nll_loss2d_forward reflection_pad2d_backward
        median""".split(), "none",
    ),
    **dict.fromkeys(
        """index_put_ index_put _index_put_impl_ index_add index_add_ index_copy index_copy_ scatter_add
        scatter_add_ scatter scatter_ embedding_dense_backward""".split(), "slow",
    ),
}  # fmt: skip
"""What torch says of CUDA's deterministic kernels: there is none, or one that sorts (some 13 launches)."""

_MIXED = frozenset(
    """copy_ _copy_from _copy_from_and_resize _to_copy index index_put index_put_ _index_put_impl_
    _has_compatible_shallow_copy_type""".split()
)
"""Operations that take a host tensor beside a device tensor."""

_INDEXED = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})


class Mixed(RuntimeError):
    """A host tensor met a device tensor."""


class Tally:
    """What was asked of the device: by phase, by kind (launch, slow, to device, to host, wait), by line."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.phase = "outside"
        self.calls: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.lines: dict[str, Counter[str]] = defaultdict(Counter)
        self.unstable: dict[str, set[str]] = defaultdict(set)

    def add(self, kind: str, operation: str = "", times: int = 1) -> None:
        """One more of a kind; copies and waits keep the line that asked for them."""
        self.counts[self.phase][kind] += times
        if kind not in ("launch", "slow"):
            self.lines[self.phase][f"{kind}: {operation} at {_line()}"] += times


tally = Tally()


def _line() -> str:
    """folder/file.py:line of the innermost frame that is streamlab's or a plugin's."""
    frame: Any = sys._getframe(2)
    library = (str(Path(torch.__file__).parent), __file__)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((*library, "<")) and "/resources.py" not in name and "lib/python" not in name:
            return f"{Path(name).parent.name}/{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


class _Module(torch.utils.backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def current_device(self) -> int:
        return 0

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.default_generator.get_state()


torch.utils.backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
torch.__future__.set_overwrite_module_params_on_conversion(True)
DEVICE = torch.device(f"{NAME}:0")


class OnDevice(Tensor):
    """A tensor on the pretended device; `held` has its values."""

    held: Tensor
    kept_as, transient = Tensor, ("held",)  # in a checkpoint

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        made: Any = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=DEVICE,
        )  # fmt: skip
        made.held = held.detach()
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({self.held})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            made: Any = OnDevice(self.held.clone()).requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                made._is_param = True
            memo[id(self)] = made
        return memo[id(self)]

    def untyped_storage(self) -> Any:
        """Of the values, so that a ledger counts each memory once."""
        return self.held.untyped_storage()

    def __getitem__(self, at: Any) -> Any:
        """A list or a host tensor among the indices goes to the device first, as on CUDA."""
        parts = [_sent(part) for part in (at if isinstance(at, tuple) else (at,))]
        return Tensor.__getitem__(self, tuple(parts) if isinstance(at, tuple) else parts[0])

    def __setitem__(self, at: Any, value: Any) -> None:
        """A number goes in by a fill; beside an index, as a host scalar that is copied."""
        parts = at if isinstance(at, tuple) else (at,)
        if not any(isinstance(part, (Tensor, list)) for part in parts):
            if isinstance(value, Tensor):
                self[at].copy_(value)
            else:
                self[at].fill_(value)
            return
        if not isinstance(value, Tensor):
            value = _tensor(value, dtype=self.dtype)
        where = [_sent(part) for part in parts]
        if all(isinstance(part, Tensor) or part == slice(None) for part in where):
            indices = [None if isinstance(part, slice) else part for part in where]
            torch.ops.aten.index_put_(self, indices, value)
        else:  # beside numbers or parts of a dimension, which torch would turn into views first
            tally.add("launch")
            tally.add("slow")
            self.held[tuple(_held(part) for part in where)] = _held(value)

    def new_tensor(self, data: Any, **about: Any) -> Tensor:
        """Made on the host, and copied."""
        return _made(data, **{"dtype": self.dtype, "device": DEVICE, **about})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **about: Any) -> Any:
        raise TypeError("can't convert gpu:0 device type tensor to numpy")

    def __array__(self, *about: Any) -> Any:
        raise TypeError("can't convert gpu:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _handle(func, args, kwargs or {})


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnDevice) else value


def _sent(part: Any) -> Any:
    """An index of the host's as one of the device's."""
    if isinstance(part, list):
        part = _tensor(part, dtype=None if part else torch.int64)
    return (
        part.to(DEVICE)
        if isinstance(part, Tensor) and part.dim() and not isinstance(part, OnDevice)
        else part
    )


def _handle(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Any operation: on the host as it is; on the device counted, and computed with what its tensors hold."""
    name = func._schema.name.split("::")[1]
    tensors = [leaf for leaf in tree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    target = kwargs.get("device")
    target = None if target is None else torch.device(target)
    here = any(isinstance(one, OnDevice) for one in tensors)
    if not here and (target is None or target.type == "cpu"):
        return func(*args, **kwargs)
    if here and name not in _MIXED and any(not isinstance(one, OnDevice) and one.dim() for one in tensors):
        raise Mixed(f"{name} takes a tensor of the device and one of the host (at {_line()})")
    stays = here if target is None else target.type == NAME
    _count(func, name, args, tensors, stays)
    own = dict(kwargs)
    if target is not None:
        own["device"] = torch.device("cpu")
    if name == "_to_copy":
        own.pop("non_blocking", None)
    out = func(*tree.tree_map(_held, args), **tree.tree_map(_held, own))
    if stays:
        out = tree.tree_map(_on_device, out)
    return return_and_correct_aliasing(func, args, kwargs, out)


def _on_device(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, Tensor) and not isinstance(value, OnDevice) else value


def _count(func: Any, name: str, args: Any, tensors: list[Tensor], stays: bool) -> None:
    if name in _INDEXED:
        _count_index(name, args)
    if name in ("_to_copy", "copy_", "_copy_from"):
        source = args[1] if name == "copy_" else args[0]
        goes = isinstance(args[0], OnDevice) if name == "copy_" else stays
        if isinstance(source, OnDevice) != goes:
            tally.add("to device" if goes else "to host", name)
        else:
            tally.add("launch")
    elif name in _WAITS:
        tally.add("wait", name, _WAITS[name])
        tally.add("launch")
    elif not (func.is_view or name in _FREE):
        tally.add("launch")
    known = _UNSTABLE.get(name)
    if known == "none" and not (name == "median" and len(args) < 2):  # of all values it is stable
        tally.unstable[name].add(_line())
    if known == "slow" and tensors[-1].numel() > 1:  # one value goes the ordinary way
        tally.add("slow")


def _count_index(name: str, args: Any) -> None:
    if not isinstance(args[0], OnDevice):
        raise Mixed(f"{name} takes a tensor of the host, and indices of the device (at {_line()})")
    for at in args[1]:
        masks = at is not None and at.dtype in (torch.bool, torch.uint8)
        if masks and (name == "index" or isinstance(args[2], OnDevice)):
            tally.add("wait", "a mask as an index")
        if at is not None and not isinstance(at, OnDevice) and at.dim():
            tally.add("to device", "an index of the host")
    if name != "index" and not isinstance(args[2], OnDevice):
        by_mask = any(at is not None and at.dtype == torch.bool for at in args[1])
        if not by_mask:
            tally.add("to device", "a number")


class Pretended(TorchDispatchMode):
    """While it is entered, what is made on the device is seen too."""

    def __init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _handle(func, args, kwargs or {})


_tensor = torch.tensor


def _made(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **about: Any
) -> Tensor:
    """torch.tensor makes a list on the host and copies it: a blocking copy, as on CUDA."""
    made = _tensor(data, dtype=dtype, **about)
    return (made if device is None else made.to(device)).requires_grad_(requires_grad)


_attention = torch.nn.functional.scaled_dot_product_attention


def _fused(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **about: Any) -> Tensor:
    """One operation, as CUDA's kernels are; torch would take it apart for a device that it does not know."""
    if not isinstance(query, OnDevice) or rest or about:
        return _attention(query, key, value, *rest, **about)
    made: Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[0]
    return made


torch.tensor = _made
torch.nn.functional.scaled_dot_product_attention = _fused
optimizers._foreach_supported_types.append(OnDevice)  # real CUDA tensors take these paths, so do these
