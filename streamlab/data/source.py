"""What a source is, how it is checked, and how processes share its bytes."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ..cached import touch
from ..errors import CorruptFile, StreamlabError
from ..files import cache_folder
from ..plans.stream import Labels
from .wholes import Wholes, link_or_copy, wholes_in

if TYPE_CHECKING:
    from numpy.typing import NDArray


_CHUNK = 1 << 24  # bytes of pixels counted at a time


@dataclass(frozen=True)
class Known:
    """What takes a reading of all pixels: a source's digest, and the training pixels' mean and deviation."""

    digest: str
    mean: float
    deviation: float


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled images. Checked when made; raises CorruptFile where something does not fit.

    train_images: (N, C, H, W) uint8; train_labels: (N,) int64 in [0, classes); the test split
    alike. Factors map a name (font, style) to one text a sample. notes: what was converted or left out as it
    was read, a sentence each. known: what was computed of these arrays before. wholes: the pictures that the
    images are the middle of, the training split's first, where those are kept.
    """

    name: str
    class_names: tuple[str, ...]
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    train_factors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    test_factors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    known: Known | None = None
    wholes: Wholes | None = None

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            where = f"source {self.name}, {split} split"
            if images.ndim != 4 or images.dtype != np.uint8:
                raise CorruptFile(
                    f"{where}: images must be uint8 of shape (N, C, H, W), "
                    f"not {images.dtype} of shape {images.shape}"
                )
            if len(images) == 0:
                raise CorruptFile(f"{where}: it is empty")
            if images.size == 0:
                raise CorruptFile(f"{where}: its images of shape {images.shape[1:]} have no pixel")
            if labels.shape != (len(images),):
                raise CorruptFile(f"{where}: {len(images)} images, but labels of shape {labels.shape}")
            if labels.min() < 0 or labels.max() >= len(self.class_names):
                wrong = int(np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))[0])
                raise CorruptFile(
                    f"{where}: label {labels[wrong]} of image {wrong} names none of the "
                    f"{len(self.class_names)} classes"
                )
        if len(set(self.class_names)) < len(self.class_names):
            twice = next(name for name in self.class_names if self.class_names.count(name) > 1)
            raise CorruptFile(f"source {self.name}: two classes are named {twice!r}")
        for label in np.flatnonzero(np.bincount(self.train_labels, minlength=len(self.class_names)) == 0):
            raise CorruptFile(
                f"source {self.name}: class {self.class_names[label]} (label {label}) has no training image"
            )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise CorruptFile(f"source {self.name}: train and test images differ in shape")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def labels(self) -> Labels:
        """What a scenario may know of this source."""
        return Labels(
            self.train_labels, self.test_labels, self.class_names, self.train_factors, self.test_factors
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the pixels and labels of both splits, and of whole pictures."""
        if self.known is not None:
            return self.known.digest
        digest = hashlib.sha256(json.dumps([self.train_images.shape, self.test_images.shape]).encode())
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            for part in _chunks(array):
                digest.update(np.ascontiguousarray(part).data)
        if self.wholes is not None:
            digest.update(self.wholes.places[:, 1:].tobytes())
            for row in range(len(self.wholes.places)):
                digest.update(self.wholes.pixels(row).data)
        return digest.hexdigest()

    @cached_property
    def mean_and_deviation(self) -> tuple[float, float]:
        """Mean and standard deviation of the training pixels, in 0..1, over all channels."""
        if self.known is not None:
            return self.known.mean, self.known.deviation
        counts = np.zeros(256)
        for part in _chunks(self.train_images):
            counts += np.bincount(part.reshape(-1), minlength=256)
        values = np.arange(256) / 255
        mean = float((counts * values).sum() / counts.sum())
        variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
        return mean, max(variance, 1e-12) ** 0.5


def _chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Its rows, some megabytes at a time; of a mapped file they are read, so that none of it stays held."""
    count = max(1, _CHUNK // max(1, array[0].nbytes))
    if not is_whole_file(array):
        yield from (array[start : start + count] for start in range(0, len(array), count))
        return
    with open(str(array.filename), "rb") as file:
        file.seek(array.offset)
        for start in range(0, len(array), count):
            shape = (min(count, len(array) - start), *array.shape[1:])
            yield np.fromfile(file, array.dtype, math.prod(shape)).reshape(shape)


def is_whole_file(array: NDArray[Any]) -> TypeGuard[np.memmap[Any, Any]]:
    """Whether an array is the whole of an array file, mapped."""
    return (
        isinstance(array, np.memmap)
        and isinstance(array.base, mmap.mmap)
        and array.flags.c_contiguous
        and Path(str(array.filename)).suffix == ".npy"
    )


_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def share(source: Source) -> Path:
    """Put the source's arrays where worker processes map them: one copy in memory for all.

    Returns a folder named by the digest in the user's cache (a temporary one where that cannot
    be written). What lies there already is compared with the source, and replaced if it differs.
    """
    root = cache_folder() / "shared"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        root = Path(tempfile.gettempdir()) / f"streamlab-{os.getuid()}"
        root.mkdir(exist_ok=True)
    folder = root / source.digest[:24]
    if folder.is_dir() and _same(source, folder):
        touch(folder)
        return folder
    fresh = Path(tempfile.mkdtemp(dir=root))
    try:
        for name in _ARRAYS:
            _put(getattr(source, name), fresh / f"{name}.npy")
        if source.wholes is not None:
            source.wholes.keep_in(fresh)
        mean, deviation = source.mean_and_deviation
        about = {"name": source.name, "class_names": source.class_names, "mean": mean}
        about |= {"deviation": deviation, "digest": source.digest}
        (fresh / "about.json").write_text(json.dumps(about), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if folder.is_dir() and _same(source, folder):  # another process was faster
            return folder
        raise StreamlabError(f"cannot write the shared source to {root}: {error.strerror}") from None
    return folder


def _put(array: NDArray[Any], path: Path) -> None:
    """Write an array file; one that is mapped from an array file already is linked, not copied."""
    if is_whole_file(array):
        link_or_copy(Path(str(array.filename)), path)
    else:
        np.save(path, np.ascontiguousarray(array))


def _same(source: Source, folder: Path) -> bool:
    try:
        return (
            json.loads((folder / "about.json").read_text())["digest"] == source.digest
            and all(_holds(folder / f"{name}.npy", getattr(source, name)) for name in _ARRAYS)
            and (source.wholes is None or source.wholes.kept_in(folder))
        )
    except (OSError, ValueError, KeyError):
        return False


def _holds(path: Path, array: NDArray[Any]) -> bool:
    """Whether a file has this array: it is its own file under another name, or has the same values."""
    if is_whole_file(array) and os.path.samefile(path, str(array.filename)):
        return True
    there = np.load(path, mmap_mode="r")
    return there.shape == array.shape and all(
        np.array_equal(mine, other) for mine, other in zip(_chunks(there), _chunks(array), strict=True)
    )


@dataclass(frozen=True)
class SharedSource:
    """A shared source as a worker sees it: mapped arrays and the constants of its pixels."""

    name: str
    class_names: tuple[str, ...]
    digest: str
    mean: float
    deviation: float
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    wholes: Wholes | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


def open_shared(folder: Path) -> SharedSource:
    """Map what `share` wrote. Pages are shared by all processes until one writes to them."""
    touch(folder)
    about = json.loads((folder / "about.json").read_text())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in _ARRAYS}
    wholes = wholes_in(folder, arrays["train_images"].shape[1])
    return SharedSource(**{**about, "class_names": tuple(about["class_names"])}, **arrays, wholes=wholes)
