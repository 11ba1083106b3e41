"""Whole pictures beside a source's images, each of its own size, one after the other in a file.

An image is the square in a picture's middle, which is what is judged and what a buffer keeps. An augmentation
that begins by cutting a part (resized-crop, crop) cuts it from the whole picture.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..augmentation.views import Parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHOLES, _PLACES = "wholes.bin", "wholes.npy"


@dataclass(frozen=True, eq=False)
class Wholes:
    """The pictures of a source, the training split's first. path: the file of their pixels; places: (N, 3)
    int64, of each its first byte, height and width.
    """

    path: Path
    channels: int
    places: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes of all pictures."""
        return int(self.channels * self.places[:, 1:].prod(1).sum())

    def of(self, chosen: NDArray[Any]) -> Wholes:
        """These of them, by number (n,), in this order."""
        return replace(self, places=self.places[chosen])

    def at(self, rows: NDArray[np.int64]) -> Parts:
        """(n,) -> (C, H, W) uint8 of each, read from the file: they take the memory of the batch."""
        return tuple(torch.from_numpy(self.pixels(row)) for row in rows.tolist())

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """(C, H, W) of one picture; raises OSError where the file ends before it does."""
        begin, height, width = self.places[row].tolist()
        count = self.channels * height * width
        found = np.fromfile(self.path, np.uint8, count, offset=begin)
        if len(found) < count:
            raise OSError(f"{self.path} ends within picture {row}")
        return found.reshape(self.channels, height, width)

    def put(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Write one picture (C, H, W) to its place in the file."""
        with self.path.open("r+b") as file:
            file.seek(int(self.places[row, 0]))
            file.write(np.ascontiguousarray(pixels).data)

    def kept_in(self, folder: Path) -> bool:
        """Whether a folder has these very pictures."""
        there = wholes_in(folder, self.channels)
        return (
            there is not None
            and np.array_equal(there.places, self.places)
            and (os.path.samefile(there.path, self.path) or filecmp.cmp(there.path, self.path, shallow=False))
        )

    def keep_in(self, folder: Path) -> None:
        """Put them into a folder, without a copy where its disk is the same."""
        np.save(folder / _PLACES, self.places)
        link_or_copy(self.path, folder / _WHOLES)


def wholes_in(folder: Path, channels: int) -> Wholes | None:
    """The whole pictures that a folder has, if it has any."""
    if not (folder / _PLACES).exists():
        return None
    return Wholes(folder / _WHOLES, channels, np.load(folder / _PLACES))


def made_in(folder: Path, channels: int, sizes: NDArray[np.int64]) -> Wholes:
    """An empty file for pictures of these (N, 2) heights and widths, and their places in it."""
    counts = channels * sizes.prod(1)
    places = np.column_stack([np.cumsum(counts) - counts, sizes])
    np.save(folder / _PLACES, places)
    (folder / _WHOLES).touch()
    return Wholes(folder / _WHOLES, channels, places)


def link_or_copy(file: Path, path: Path) -> None:
    """One file under a second name, or copied to another disk."""
    try:
        os.link(file, path)
    except OSError:
        shutil.copyfile(file, path)
