"""Rows of images, wherever they lie: in memory, or in files that are read a batch at a time.

What is read from a file takes the memory of the batch, not of the set; the next batch is read, into pinned
memory where there is a GPU, while the one before is learned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


Read = TypeVar("Read")


class Ahead(Generic[Read]):
    """Reads rows in a thread of its own, before they are asked for."""

    def __init__(self) -> None:
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="streamlab-ahead")
        self._next: tuple[NDArray[np.int64], Future[Read]] | None = None

    def at(self, rows: NDArray[np.int64], read: Callable[[NDArray[np.int64]], Read]) -> Read:
        """What `read` gives for (n,) rows; without waiting where `expect` was told of just them."""
        expected, self._next = self._next, None
        if expected is not None and np.array_equal(expected[0], rows):
            return expected[1].result()
        return read(rows)

    def expect(self, rows: NDArray[np.int64], read: Callable[[NDArray[np.int64]], Read]) -> None:
        """These are likely to be asked for next."""
        if len(rows):
            self._next = rows, self._reader.submit(read, rows)


class Rows(Protocol):
    """(N, C, H, W) uint8, of which some rows are asked for. shape: (C, H, W) of one."""

    shape: tuple[int, int, int]

    def at(self, rows: Tensor) -> Tensor:
        """(n,) int64 on the compute device -> (n, C, H, W) there."""
        ...

    def ahead(self, rows: Tensor) -> None:
        """These (on the host or the device) are likely to be asked for next."""
        ...


class HeldRows:
    """Rows of a tensor on the compute device."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.shape = (images.shape[1], images.shape[2], images.shape[3])

    def at(self, rows: Tensor) -> Tensor:
        return self.images.index_select(0, rows)

    def ahead(self, rows: Tensor) -> None:
        """They are there."""


class FileRows:
    """Rows of mapped array files (`numpy.memmap`, in C order) one after the other, sent to a device."""

    def __init__(self, parts: Sequence[np.memmap[Any, Any]], device: torch.device) -> None:
        channels, height, width = parts[0].shape[1:]
        self.shape = (channels, height, width)
        self.device = device
        self._size = channels * height * width
        self._files = [(os.open(str(part.filename), os.O_RDONLY), part.offset) for part in parts]
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self._ahead = Ahead[Tensor]()

    def at(self, rows: Tensor) -> Tensor:
        return self._ahead.at(rows.cpu().numpy(), self._read)

    def ahead(self, rows: Tensor) -> None:
        self._ahead.expect(rows.cpu().numpy(), self._read)

    def _read(self, rows: NDArray[np.int64]) -> Tensor:
        images = torch.empty(
            (len(rows), *self.shape), dtype=torch.uint8, pin_memory=self.device.type == "cuda"
        )
        space = images.view(-1).numpy().data
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for place, (row, file) in enumerate(zip(rows.tolist(), which.tolist(), strict=True)):
            handle, offset = self._files[file]
            begin = offset + (row - int(self._starts[file])) * self._size
            _fill(handle, space[place * self._size : (place + 1) * self._size], begin)
        return images.to(self.device, non_blocking=True)

    def __del__(self) -> None:
        for handle, _ in getattr(self, "_files", ()):
            os.close(handle)


def _fill(handle: int, space: memoryview, begin: int) -> None:
    """Read exactly so many bytes from a place in a file."""
    done = 0
    while done < len(space):
        count = os.preadv(handle, [space[done:]], begin + done)
        if count == 0:
            raise OSError(f"a file of images ends at byte {begin + done}, before it should")
        done += count
