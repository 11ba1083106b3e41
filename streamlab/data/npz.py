"""npz:PATH - arrays of your own: train_images, train_labels, test_images, test_labels (or x_train, ...).

Images are (N, H, W), (N, C, H, W), (N, H, W, C) or flat rows of squares; labels are of any kind. Beside
them, class_names and factors (train_factor_NAME, test_factor_NAME) where there are any. What streamlab holds
otherwise is converted where that is unmistakable, and said; else it is refused.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFile, StreamlabError
from ..randomness import Draws
from .held_out import drawn_apart
from .image_folder import in_natural_order
from .source import Source

Arrays = dict[str, NDArray[Any]]
_SPLITS = ("train", "test")
_CHANNELS = (1, 3, 4)


def load(data: Path, what: str) -> Source:
    """The arrays in the file that `what` names; without a test split a fifth of each class is held out.

    Raises StreamlabError for a missing file or array, CorruptFile for a damaged file, arrays of
    Python objects (nothing is unpickled), and what could be meant in two ways.
    """
    path = Path(what).expanduser().resolve()
    if not path.is_file():
        raise StreamlabError(f"source npz:{what}: there is no such file")
    arrays = _read(path)
    read = {"class_names"}
    images, labels = (_pair(path, arrays, *names, read) for names in (("images", "x"), ("labels", "y")))
    notes: list[str] = []
    pixels = _as_bytes(path, {split: _shaped(path, split, images[split], notes) for split in images}, notes)
    numbers, names = _numbered(path, labels, arrays.get("class_names"), notes)
    for split in pixels:
        if len(pixels[split]) != len(numbers[split]):
            raise CorruptFile(f"{path}: {len(pixels[split])} {split} images, {len(numbers[split])} labels")
    factors = {split: _factors(path, arrays, split, len(numbers[split]), read) for split in numbers}
    if unread := sorted(arrays.keys() - read):
        notes.append(f"{', '.join(unread)} in it: not read, as no array of this name is asked for")
    if "test" not in numbers:
        apart = drawn_apart(str(path), numbers["train"], names, Draws(0, "npz"))
        notes.append("it has no test split: a fifth of each class is held out")
        for group in (pixels, numbers):
            whole: Any = group["train"]
            group["train"], group["test"] = whole[~apart], whole[apart]
        every = factors["train"]
        factors = {
            split: {name: values[rows] for name, values in every.items()}
            for split, rows in (("train", ~apart), ("test", apart))
        }
    return Source(
        f"npz:{path}", names, pixels["train"], numbers["train"], pixels["test"], numbers["test"],
        factors["train"], factors["test"], tuple(f"npz:{path}: {note}" for note in notes),
    )  # fmt: skip


def _read(path: Path) -> Arrays:
    if not zipfile.is_zipfile(path):
        raise CorruptFile(f"{path} cannot be read: it is no npz archive, or not whole")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if one.filename.endswith(".npy")]
            room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            needed = sum(one.file_size for one in members)
            if needed > room:
                raise CorruptFile(
                    f"{path} unpacks to {needed / 2**30:.0f} GiB, and the machine has {room / 2**30:.0f}"
                )
            return {one.filename.removesuffix(".npy"): _member(path, archive, one) for one in members}
    except StreamlabError:
        raise
    except Exception as error:  # whatever an archive that is damaged, or made to harm, leads to
        raise CorruptFile(f"{path} cannot be read: {error or type(error).__name__}") from None


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """One array, once its header is seen to say what there is; raises CorruptFile where it does not."""
    if member.flag_bits & 1:
        raise CorruptFile(f"{path} is encrypted, and is not read")
    name = member.filename
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        form = np.lib.format
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise CorruptFile(f"{path} has arrays of Python objects, which are not read")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise CorruptFile(f"{path}: {name} says that it has the shape {shape}, and its size is another")
    with archive.open(member) as file:
        found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return found


def _pair(path: Path, arrays: Arrays, long: str, short: str, read: set[str]) -> Arrays:
    """The images or the labels, by split; of the training split alone where the file has no other.

    read: takes the names of what is read.
    """
    names = {split: [f"{split}_{long}", f"{short}_{split}"] for split in _SPLITS}
    names["train"].append(long)
    there = {split: [name for name in names[split] if name in arrays] for split in _SPLITS}
    tested = arrays.keys() & {"test_images", "x_test", "test_labels", "y_test"}
    for split in _SPLITS if tested else ("train",):
        if not there[split]:
            has = ", ".join(sorted(arrays)) or "none"
            raise StreamlabError(f"{path} has no array {names[split][0]} (it has {has})")
    read |= {found[0] for found in there.values() if found}
    return {split: arrays[found[0]] for split, found in there.items() if found}


def _shaped(path: Path, split: str, images: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """(N, C, H, W), however its axes stand; raises CorruptFile where they could stand in two ways."""
    shape, where = images.shape, f"{path}: {split} images of shape {images.shape}"
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 2:
        side = math.isqrt(shape[1])
        if side * side != shape[1]:
            raise CorruptFile(f"{where} are flat rows of no square; give them as (N, H, W) or (N, C, H, W)")
        notes.append(f"{split} rows of {shape[1]} are taken for {side}x{side}, grey")
        return images.reshape(-1, 1, side, side)
    if images.ndim != 4:
        raise CorruptFile(f"{where} must be (N, H, W), (N, C, H, W) or (N, H, W, C)")
    second, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if last and not second:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if second == last and not (shape[2] == shape[3] != shape[1]):
        raise CorruptFile(f"{where} may have its channels second or last; give them as (N, C, H, W)")
    return images


def _as_bytes(path: Path, images: Arrays, notes: list[str]) -> dict[str, NDArray[np.uint8]]:
    """Levels 0 to 255; raises CorruptFile for a range that may mean several things."""
    if all(array.dtype == np.uint8 for array in images.values()):
        return images
    kinds = sorted({str(array.dtype) for array in images.values()})
    if any(array.dtype.kind not in "biuf" or not array.size for array in images.values()):
        raise CorruptFile(f"{path}: images must be numbers, not {', '.join(kinds)}")
    least = min(float(array.min()) for array in images.values())
    most = max(float(array.max()) for array in images.values())
    floating = [array for array in images.values() if array.dtype.kind == "f"]
    whole = all((array == array.round()).all() for array in floating)
    if least >= 0 and most <= 1 and (floating or kinds == ["bool"]):
        scale, said = 255.0, "from 0 to 1 are scaled to 0 to 255"
    elif least >= 0 and 1 < most <= 255 and whole:
        scale, said = 1.0, "from 0 to 255 are taken as they are"
    elif kinds == ["uint16"]:
        scale, said = 1 / 257, "of 16 bits are scaled to 0 to 255"
    else:
        raise CorruptFile(
            f"{path}: images must be uint8, 0 to 255 in whole numbers, or 0 to 1; these are "
            f"{', '.join(kinds)} from {least:g} to {most:g}"
        )
    notes.append(f"levels ({', '.join(kinds)}) {said}")
    return {
        split: np.floor(array * scale + 0.5).astype(np.uint8) if scale != 1 else array.astype(np.uint8)
        for split, array in images.items()
    }


def _numbered(
    path: Path, labels: Arrays, given: NDArray[Any] | None, notes: list[str]
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Labels from 0 on, and the classes' names: class_names, else the labels themselves in natural order."""
    plain = {split: _plain(path, split, array, notes) for split, array in labels.items()}
    values = np.unique(np.concatenate(list(plain.values())))
    numbers = values.dtype.kind == "i"
    if given is not None:
        names = tuple(np.asarray(given).astype(str).tolist())
        if not numbers:
            classes: list[Any] = list(names)
        else:
            first = 1 if values.min() == 1 and values.max() == len(names) else 0
            classes = list(range(first, first + len(names)))
            if first:
                notes.append("labels begin at 1")
    else:
        classes = values.tolist() if numbers else list(in_natural_order(values.tolist()))
        names = tuple(str(value) for value in classes)
        if classes != list(range(len(classes))):
            shown = classes if len(classes) < 4 else [*classes[:2], "…", classes[-1]]
            become = f"become the classes 0 to {len(classes) - 1}, in this order"
            notes.append(f"its labels {', '.join(map(str, shown))} {become}")
    number_of: Mapping[Any, int] = {value: number for number, value in enumerate(classes)}
    for value in values.tolist():
        if value not in number_of:
            raise CorruptFile(f"{path}: label {value!r} names none of its {len(names)} classes")
    table = np.array([number_of[value] for value in values.tolist()], np.int64)
    return {split: table[np.searchsorted(values, array)] for split, array in plain.items()}, names


def _plain(path: Path, split: str, labels: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """(N,) int64 or text."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all()):
            raise CorruptFile(f"{path}: {split}_labels of shape {labels.shape} are not one-hot")
        notes.append(f"{split} labels are one-hot")
        hot: NDArray[np.int64] = np.asarray(labels.argmax(1), np.int64)
        return hot
    flat = labels.reshape(-1)
    if flat.dtype.kind in "biu":
        return flat.astype(np.int64)
    if flat.dtype.kind == "f" and bool((flat == flat.round()).all()):
        return flat.astype(np.int64)
    if flat.dtype.kind == "S":
        return np.char.decode(flat, "utf-8")
    if flat.dtype.kind == "U":
        return flat
    raise CorruptFile(f"{path}: {split}_labels must be integers, text or one-hot, not {flat.dtype}")


def _factors(path: Path, arrays: Arrays, split: str, count: int, read: set[str]) -> Arrays:
    prefix, found = f"{split}_factor_", {}
    for key, array in arrays.items():
        if key.startswith(prefix):
            if array.shape != (count,):
                raise CorruptFile(f"{path}: {key} has the shape {array.shape}, and {count} images")
            found[key.removeprefix(prefix)] = array.astype(str)
            read.add(key)
    return found
