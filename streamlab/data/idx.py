"""The idx format of MNIST and its kin, plain or gzipped (LeCun, Cortes and Burges)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CorruptFile, StreamlabError
from .fetch import Download
from .source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_downloads(address: str, *md5s: str) -> tuple[Download, ...]:
    """The four files, gzipped, at an address that ends in a slash."""
    return tuple(Download(f"{address}{file}.gz", md5) for file, md5 in zip(IDX_FILES, md5s, strict=True))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes as an array; raises CorruptFile, naming the file."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptFile(f"{path} cannot be read: {error}") from None
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise CorruptFile(f"{path} is not an idx file of bytes (its first bytes are wrong)")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise CorruptFile(f"{path} is truncated inside its header")
    shape = np.frombuffer(content, ">u4", dimensions, 4).astype(int)
    expected = start + int(shape.prod())
    if len(content) != expected:
        raise CorruptFile(f"{path} has {len(content)} bytes, and its header promises {expected}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_idx_source(name: str, folder: Path, class_names: tuple[str, ...]) -> Source:
    """The source whose four idx files lie in `folder`.

    Raises StreamlabError where a file is missing (and says how to get it), CorruptFile where one
    is damaged.
    """
    arrays = []
    for filename in IDX_FILES:
        found = [p for p in (folder / filename, folder / f"{filename}.gz") if p.is_file()]
        if not found:
            raise StreamlabError(
                f"source {name}: {folder / filename} is missing; `streamlab data fetch {name}` downloads it, "
                f"--data or STREAMLAB_DATA name another folder"
            )
        arrays.append(read_idx(found[0]))
        wanted = 3 if "idx3" in filename else 1
        if arrays[-1].ndim != wanted:
            raise CorruptFile(f"{found[0]} has {arrays[-1].ndim} dimensions, and should have {wanted}")
    images, labels, test_images, test_labels = arrays
    return Source(
        name,
        class_names,
        images[:, None],
        labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
    )
