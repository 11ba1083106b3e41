"""The binary format of CIFAR-10 and CIFAR-100: labels and 3,072 bytes a record (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CorruptFile, StreamlabError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

ADDRESS = "https://www.cs.toronto.edu/~kriz/"
_PIXELS = 3 * 32 * 32

CITATION = """
@techreport{krizhevsky2009cifar,
  title = {Learning Multiple Layers of Features from Tiny Images},
  author = {Krizhevsky, Alex},
  institution = {University of Toronto},
  year = {2009},
}
"""


def read_cifar(name: str, folder: Path, files: tuple[str, ...], columns: int) -> tuple[Bytes, NDArray[Any]]:
    """(N, 3, 32, 32) uint8 images and (N, columns) int64 labels of these files, in order.

    Raises StreamlabError where a file is missing, CorruptFile where one is no row of records.
    """
    parts = []
    for file in files:
        path = folder / file
        if not path.is_file():
            raise StreamlabError(
                f"source {name}: {path} is missing; `streamlab data fetch {name}` downloads it, "
                f"--data or STREAMLAB_DATA name another folder"
            )
        content = np.fromfile(path, np.uint8)
        if len(content) == 0 or len(content) % (_PIXELS + columns):
            raise CorruptFile(
                f"{path} has {len(content)} bytes, and should have a multiple of {_PIXELS + columns}"
            )
        parts.append(content.reshape(-1, _PIXELS + columns))
    records = np.concatenate(parts)
    images = np.ascontiguousarray(records[:, columns:]).reshape(-1, 3, 32, 32)
    return images, records[:, :columns].astype(np.int64)
