"""npz:PATH - arrays of your own: train_images, train_labels, test_images, test_labels (or x_train, ...).

Images are uint8, (N, H, W), (N, C, H, W) or (N, H, W, C). Beside them, class_names and factors
(train_factor_NAME, test_factor_NAME) where there are any.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CorruptFile, StreamlabError
from .source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OTHER_NAMES = {
    "train_images": "x_train",
    "train_labels": "y_train",
    "test_images": "x_test",
    "test_labels": "y_test",
}


def load(data: Path, what: str) -> Source:
    """The arrays in the file that `what` names.

    Raises StreamlabError for a missing file or array, CorruptFile for a damaged file, arrays of
    Python objects (nothing is unpickled) or images of another shape or type.
    """
    path = Path(what).expanduser().resolve()
    if not path.is_file():
        raise StreamlabError(f"source npz:{what}: there is no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
    except ValueError:
        raise CorruptFile(
            f"{path} is no npz archive, or has arrays of Python objects, which are not read"
        ) from None
    except (OSError, zipfile.BadZipFile) as error:
        raise CorruptFile(f"{path} cannot be read: {error}") from None
    found = {}
    for name, other in _OTHER_NAMES.items():
        if name not in arrays and other not in arrays:
            raise StreamlabError(f"{path} has no array {name} (it has {', '.join(sorted(arrays)) or 'none'})")
        found[name] = arrays.get(name, arrays.get(other))
    labels = {split: np.asarray(found[f"{split}_labels"]).reshape(-1) for split in ("train", "test")}
    for split, array in labels.items():
        if not np.issubdtype(array.dtype, np.integer):
            raise CorruptFile(f"{path}: {split}_labels must be integers, not {array.dtype}")
    classes = 1 + max(int(array.max(initial=0)) for array in labels.values())
    names = arrays.get("class_names", np.arange(classes)).astype(str).tolist()

    def factors(split: str) -> dict[str, NDArray[Any]]:
        prefix = f"{split}_factor_"
        return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}

    return Source(
        f"npz:{path}",
        tuple(names),
        _channels_first(found["train_images"]),
        labels["train"].astype(np.int64),
        _channels_first(found["test_images"]),
        labels["test"].astype(np.int64),
        factors("train"),
        factors("test"),
    )


def _channels_first(images: Any) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = np.asarray(images)
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    return array
