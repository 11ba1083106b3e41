"""Which device a run is computed on. Importing this file imports no torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .errors import StreamlabError, unknown

if TYPE_CHECKING:
    import torch

ONE_GPU = "STREAMLAB_ONE_GPU"
"""Set in the environment of a worker that sees one GPU alone, whatever its number elsewhere."""


def chosen_device(name: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:N` as what there is; raises StreamlabError."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown("device", name, ("auto", "cpu", "cuda")) from None
    if device.type not in ("cpu", "cuda"):
        raise unknown("device", name, ("auto", "cpu", "cuda"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise StreamlabError(f"device {name} is asked for, and torch sees no GPU; use --device cpu or auto")
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if count and (device.index or 0) >= count:
        raise StreamlabError(
            f"device {name} is asked for, and torch sees {count} GPU{'s' * (count > 1)}, from cuda:0 on"
        )
    return name


def gpus_of(name: str) -> list[int]:
    """The numbers of the GPUs that runs on this device are spread over: of `cuda`, all that there are."""
    import torch

    device = torch.device(name)
    if device.type != "cuda":
        return []
    return list(range(torch.cuda.device_count())) if device.index is None else [device.index]


def gpu_in_use() -> bool:
    """Whether this process has begun to use a GPU; asking does not begin it."""
    import torch

    cuda: Any = torch.cuda
    return bool(cuda.is_initialized())


def gpu_answers() -> bool:
    """Whether this process can go on with its GPU: after some errors it never can. True without one."""
    import torch

    cuda: Any = torch.cuda
    try:
        if gpu_in_use():
            cuda.synchronize()
    except RuntimeError:
        return False
    return True


def device_here(name: str) -> torch.device:
    """The device of this name in this process, with its number, ready to be used; raises StreamlabError.

    A GPU is made the current one, so that its generators are there when they are seeded.
    """
    import torch

    device = torch.device(name)
    chosen_device(device.type)
    if device.type != "cuda":
        return device
    alone = bool(os.environ.get(ONE_GPU))
    number = 0 if alone or device.index is None else device.index
    cuda: Any = torch.cuda
    cuda.set_device(number)
    cuda.init()
    return torch.device("cuda", number)
