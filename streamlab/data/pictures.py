"""Picture files as a source: decoded once into array files in the user's cache, and mapped from there."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
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
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Pictures:
    """The files of a split with their classes, in the order of their arrays."""

    files: list[Path]
    labels: list[int]


def decoded(
    name: str, root: Path, class_names: tuple[str, ...], splits: Mapping[str, Pictures], side: int | None
) -> Source:
    """The source of these files: grey where every picture is, else colour; factor: file, the path below root.

    side: pixels that both sides are scaled to (None: as they are). Raises StreamlabError for pictures of
    several sizes and no side; CorruptFile, naming it, for a picture that cannot be read.
    """
    cached = _cached(root, splits, side)
    arrays = {split: np.load(cached / f"{split}.npy", mmap_mode="r") for split in SPLITS}
    labels = {split: np.array(splits[split].labels, np.int64) for split in SPLITS}
    train, test = (
        {"file": np.array([path.relative_to(root).as_posix() for path in splits[split].files])}
        for split in SPLITS
    )
    return Source(
        name, class_names, arrays["train"], labels["train"], arrays["test"], labels["test"], train, test
    )


def pictures_in(folder: Path) -> list[Path]:
    """The picture files below a folder, sorted; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())


def _cached(root: Path, splits: Mapping[str, Pictures], side: int | None) -> Path:
    """The folder with train.npy and test.npy, each (N, C, H, W) uint8; made where it is not there."""
    listing = [
        (str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns)
        for split in SPLITS
        for path in splits[split].files
    ]
    key = hashlib.sha256(json.dumps([str(root), side, listing]).encode()).hexdigest()[:24]
    target = cache_folder() / "decoded" / key
    if target.is_dir():
        return target
    shape = _shape(root, [path for split in SPLITS for path in splits[split].files], side)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        for split in SPLITS:
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
            f"{root}: pictures differ in size ({path.name} {one[0]}x{one[1]}, {another.name} "
            f"{other[0]}x{other[1]}); folder:{root}@32 scales them to 32x32"
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
