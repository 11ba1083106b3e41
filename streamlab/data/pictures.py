"""Picture files as a source: decoded once into array files in the user's cache, and mapped from there.

A decoding that was cut goes on where it was.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cached import touch
from ..errors import StreamlabError
from ..files import cache_folder, locked, write_json
from .progress import listener
from .reading import Picture, Rule, header, pixels
from .source import Known, Source
from .wholes import made_in, wholes_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_CHUNK = 256  # pictures between two notes of how far the decoding has come
_FORM = 2  # of what lies in the cache
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Pictures:
    """The files of a split and their classes, in the order of their arrays; of factors, a text a file."""

    files: list[Picture] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    factors: dict[str, list[str]] = field(default_factory=dict)

    def add(self, files: Sequence[Picture], label: int, **factors: str) -> None:
        """More files of a class."""
        self.files.extend(files)
        self.labels.extend([label] * len(files))
        for name, text in factors.items():
            self.factors.setdefault(name, []).extend([text] * len(files))


def decoded(
    name: str,
    root: Path | None,
    class_names: tuple[str, ...],
    splits: Mapping[str, Pictures],
    rule: Rule,
    notes: tuple[str, ...] = (),
) -> Source:
    """The source of these files: grey where every picture is, else colour; factor: file, the path
    below root, where there is one.

    What was converted is among its notes. Raises StreamlabError for pictures of several sizes and no rule,
    and for a disk without room; CorruptFile, naming it, for a picture that cannot be read.
    """
    folder = _decoded(name, root, splits, rule)
    arrays = {split: np.load(folder / f"{split}.npy", mmap_mode="r") for split in SPLITS}
    labels = {split: np.array(splits[split].labels, np.int64) for split in SPLITS}
    converted: dict[str, int] = json.loads((folder / "progress.json").read_text())["converted"]
    said = tuple(f"{name}: {count} pictures: {what}" for what, count in sorted(converted.items()))

    def factors(split: Pictures) -> dict[str, NDArray[Any]]:
        files = {"file": [_place(file, root) for file in split.files]} if root else {}
        return {key: np.array(values) for key, values in {**files, **split.factors}.items()}

    made = Source(
        name,
        class_names,
        arrays["train"],
        labels["train"],
        arrays["test"],
        labels["test"],
        factors(splits["train"]),
        factors(splits["test"]),
        (*notes, *said),
        wholes=wholes_in(folder, arrays["train"].shape[1]),
    )
    return dataclasses.replace(made, known=_known(folder, made))


def _known(folder: Path, made: Source) -> Known:
    """What is known of the arrays in a folder under these labels: read from beside them, or computed once."""
    labels = hashlib.sha256(made.train_labels.tobytes() + b"/" + made.test_labels.tobytes()).hexdigest()
    path = folder / f"known-{labels[:24]}.json"
    if path.exists():
        return Known(**json.loads(path.read_text()))
    known = Known(made.digest, *made.mean_and_deviation)
    write_json(path, dataclasses.asdict(known))
    return known


def pictures_in(folder: Path) -> list[Path]:
    """The picture files below a folder, sorted, but for hidden ones; none where there is no such folder.

    Raises StreamlabError for a folder that may not be read.
    """
    if not folder.is_dir():
        return []
    if not os.access(folder, os.R_OK | os.X_OK):
        raise StreamlabError(f"{folder} may not be read")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _ENDINGS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _decoded(name: str, root: Path | None, splits: Mapping[str, Pictures], rule: Rule) -> Path:
    """The folder with train.npy and test.npy, each (N, C, H, W) uint8; made where it is not there.

    By a rule of whole pictures also a file of those, and an array of their places.
    """
    files = [path for split in SPLITS for path in splits[split].files]
    listing = [(_place(file, root), *_stamp(file)) for file in files]
    ends = len(splits["train"].files)
    key = hashlib.sha256(json.dumps([_FORM, str(root), str(rule), ends, listing]).encode()).hexdigest()[:24]
    target = cache_folder() / "decoded" / key
    if target.is_dir():
        touch(target)
        return target
    part = target.with_name(f"{key}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StreamlabError(
            f"source {name}: its decoded pictures would lie in {part.parent}, which cannot be written "
            f"({error.strerror}); XDG_CACHE_HOME names another folder"
        ) from None
    with locked(part, wait=True):
        if target.is_dir():  # another process was faster
            return target
        _decode(name, part, splits, rule)
        (part / ".lock").unlink(missing_ok=True)
        part.rename(target)
    return target


def _place(file: Picture, root: Path | None) -> str:
    return file.relative_to(root).as_posix() if isinstance(file, Path) and root else str(file)


def _stamp(file: Picture) -> tuple[int, int] | tuple[str]:
    """What changes with the picture."""
    if not isinstance(file, Path):
        return (file.stamp,)
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _decode(name: str, folder: Path, splits: Mapping[str, Pictures], rule: Rule) -> None:
    """Fill the array files of a folder, from where they were left."""
    progress = folder / "progress.json"
    hear = listener()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and scales without Python's lock
        if progress.exists():
            state = json.loads(progress.read_text())
        else:
            files = [path for split in SPLITS for path in splits[split].files]
            shape, sizes = _shape(name, files, rule, pool)
            state = {"shape": shape, "train": 0, "test": 0, "converted": {}}
            for split in SPLITS:
                path = folder / f"{split}.npy"
                count = len(splits[split].files)
                np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *shape)).flush()
                _make_room(name, path, path.stat().st_size)
            if rule.whole:
                whole = made_in(folder, shape[0], sizes)
                _make_room(name, whole.path, whole.nbytes)
            write_json(progress, state)
        converted = Counter(state["converted"])
        grey = state["shape"][0] == 1
        count = sum(len(splits[split].files) for split in SPLITS)
        wholes = wholes_in(folder, state["shape"][0])
        for split, first in zip(SPLITS, (0, len(splits["train"].files)), strict=True):
            array = np.load(folder / f"{split}.npy", mmap_mode="r+")
            files = splits[split].files
            for start in range(state[split], len(files), _CHUNK):
                chunk = files[start : start + _CHUNK]
                for row, made in enumerate(pool.map(lambda path: pixels(path, rule, grey), chunk)):
                    array[start + row] = made.middle
                    converted.update(made.converted)
                    if wholes is not None:
                        wholes.put(first + start + row, made.whole)
                array.flush()
                state = {**state, split: start + len(chunk), "converted": converted}
                write_json(progress, state)
                hear(f"decoding {name}", state["train"] + state["test"], count)


def _make_room(name: str, path: Path, size: int) -> None:
    """Take a file's room on the disk; raises StreamlabError where there is none."""
    try:
        with path.open("r+b") as file:  # a mapped file that outgrows its disk would kill the process
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        path.unlink()
        raise StreamlabError(
            f"source {name}: its decoded pictures take {size / 2**30:.1f} GiB in {path.parent.parent}, and "
            f"{shutil.disk_usage(path.parent).free / 2**30:.1f} GiB are free"
        ) from None


def _shape(
    name: str, files: Sequence[Picture], rule: Rule, pool: ThreadPoolExecutor
) -> tuple[tuple[int, int, int], NDArray[np.int64]]:
    """(C, H, W) of all images, and (N, 2) heights and widths of the whole pictures, from their headers."""
    sizes, channels, wholes = dict[tuple[int, int], Picture](), 1, list[tuple[int, int]]()
    for path, found in zip(files, pool.map(header, files), strict=True):
        sizes.setdefault(rule.size(found.size), path)
        wholes.append(rule.resized(found.size))
        channels = channels if found.grey else 3
    if len(sizes) > 1:
        (one, path), (other, another) = list(sizes.items())[:2]
        raise StreamlabError(
            f"source {name}: pictures differ in size ({path.name} {one[1]}x{one[0]}, {another.name} "
            f"{other[1]}x{other[0]}); a size brings them to one: @32, or @256,224, after the source's name"
        )
    height, width = next(iter(sizes))
    return (channels, height, width), np.array(wholes, np.int64)
