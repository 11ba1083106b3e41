"""folder:PATH - your own pictures, one sub-folder a class; folder:PATH@32 scales them to 32x32.

With `train` and `test` below PATH these are the splits; else a fifth of each class, chosen by a
hash of the files' names, is held out for testing. Pictures are decoded once into array files in
the user's cache, and mapped from there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CorruptFile, StreamlabError
from ..files import cache_folder
from .source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class _Pictures:
    """The files of a split with their classes, in the order of their arrays."""

    files: list[Path]
    labels: list[int]


def load(data: Path, what: str) -> Source:
    """The pictures below the folder that `what` names, at the size after `@`.

    Grey where every picture is, else colour. Factor: file, the path below the folder. Raises
    StreamlabError for a folder without classes,
    a class without two pictures, or pictures of several sizes and no `@`; CorruptFile, naming it,
    for a picture that cannot be read.
    """
    text, at, size = what.rpartition("@")
    root = Path(text if at else what).expanduser().resolve()
    if at and not (size.isdigit() and int(size) > 0):
        raise StreamlabError(f"source folder:{what}: after @ stands a size in pixels, as folder:{text}@32")
    side = int(size) if at else None
    names, splits = _find(root)
    cached = _decoded(root, splits, side)
    arrays = {split: np.load(cached / f"{split}.npy", mmap_mode="r") for split in _SPLITS}
    labels = {split: np.array(splits[split].labels, np.int64) for split in _SPLITS}
    name = f"folder:{root}" + (f"@{side}" if side else "")
    train, test = ({"file": _names(root, splits[split].files)} for split in _SPLITS)
    return Source(name, names, arrays["train"], labels["train"], arrays["test"], labels["test"], train, test)


def _names(root: Path, files: list[Path]) -> NDArray[np.str_]:
    """Paths below the folder, as index lists name them."""
    return np.array([path.relative_to(root).as_posix() for path in files])


def _find(root: Path) -> tuple[tuple[str, ...], dict[str, _Pictures]]:
    """Class names, and the files of both splits."""
    if not root.is_dir():
        raise StreamlabError(f"source folder:{root}: there is no such folder")
    divided = all((root / split).is_dir() for split in _SPLITS)
    top = root / "train" if divided else root
    names = tuple(sorted(path.name for path in top.iterdir() if path.is_dir() and _pictures(path)))
    if not names:
        raise StreamlabError(f"source folder:{root}: no sub-folder of {top} holds a picture")
    if divided:
        for path in sorted((root / "test").iterdir()):
            if path.is_dir() and path.name not in names and _pictures(path):
                raise StreamlabError(
                    f"source folder:{root}: class {path.name} has test pictures, and none in {top}"
                )
    splits = {split: _Pictures([], []) for split in _SPLITS}
    for label, name in enumerate(names):
        if divided:
            parts = {split: _pictures(root / split / name) for split in _SPLITS}
        else:
            found = sorted(_pictures(root / name), key=_hashed)
            held_out = max(1, round(len(found) / 5))
            if len(found) < 2:
                raise StreamlabError(f"source folder:{root}: class {name} has one picture, and needs two")
            parts = {"train": sorted(found[held_out:]), "test": sorted(found[:held_out])}
        for split, files in parts.items():
            splits[split].files.extend(files)
            splits[split].labels.extend([label] * len(files))
    return names, splits


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())


def _hashed(path: Path) -> str:
    return hashlib.sha256(path.name.encode()).hexdigest()


def _decoded(root: Path, splits: dict[str, _Pictures], side: int | None) -> Path:
    """The folder with train.npy and test.npy, each (N, C, H, W) uint8; made where it is not there."""
    listing = [
        (str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns)
        for split in _SPLITS
        for path in splits[split].files
    ]
    key = hashlib.sha256(json.dumps([str(root), side, listing]).encode()).hexdigest()[:24]
    target = cache_folder() / "decoded" / key
    if target.is_dir():
        return target
    shape = _shape(root, [path for split in _SPLITS for path in splits[split].files], side)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        for split in _SPLITS:
            files = splits[split].files
            array = np.lib.format.open_memmap(
                fresh / f"{split}.npy", mode="w+", dtype=np.uint8, shape=(len(files), *shape)
            )
            for row, path in enumerate(files):
                array[row] = _decode(path, shape)
            array.flush()
        fresh.rename(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if not target.is_dir():  # else another process was faster
            raise
    return target


def _shape(root: Path, files: list[Path], side: int | None) -> tuple[int, int, int]:
    """(C, H, W) of all pictures, from their headers."""
    from PIL import Image

    channels, sizes = 1, dict[tuple[int, int], Path]()
    for path in files:
        try:
            with Image.open(path) as picture:
                sizes.setdefault(picture.size, path)
                channels = max(channels, 1 if picture.mode in ("1", "L", "LA", "I;16") else 3)
        except (OSError, ValueError, SyntaxError) as error:
            raise CorruptFile(f"{path} cannot be read as a picture ({error})") from None
    if side is not None:
        return channels, side, side
    if len(sizes) > 1:
        (one, path), (other, another) = list(sizes.items())[:2]
        raise StreamlabError(
            f"source folder:{root}: pictures differ in size ({path.name} {one[0]}x{one[1]}, "
            f"{another.name} {other[0]}x{other[1]}); folder:{root}@32 scales them to 32x32"
        )
    width, height = next(iter(sizes))
    return channels, height, width


def _decode(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(C, H, W) uint8; scaled where the picture has another size."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            plain = picture.convert("L" if shape[0] == 1 else "RGB")
            if plain.size != (shape[2], shape[1]):
                plain = plain.resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
            pixels = np.asarray(plain, np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise CorruptFile(f"{path} cannot be read as a picture ({error})") from None
    return pixels.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
