"""torchvision:NAME - sets that torchvision fetches: KMNIST, SVHN, EMNIST (EMNIST/letters and so on).

Its idx files are read here and SVHN's by SciPy; nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StreamlabError, unknown
from .idx import IDX_FILES, read_idx
from .progress import Progress
from .source import Source

_EMNIST = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
_NAMES = ("KMNIST", "SVHN", "EMNIST", *(f"EMNIST/{split}" for split in _EMNIST))
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


class TorchvisionSource:
    """The plugin: `load(data, NAME)` reads `data`/torchvision, `fetch` lets torchvision fill it."""

    def __call__(self, data: Path, what: str) -> Source:
        """The set of this name; raises StreamlabError for another, or where it was not fetched."""
        name, split = _parts(what)
        root = data / "torchvision"
        if name == "SVHN":
            return _svhn(root)
        folder = root / name / "raw"
        files = IDX_FILES if name == "KMNIST" else tuple(_emnist_files(split))
        arrays = []
        for file in files:
            path = next((p for p in (folder / file, folder / f"{file}.gz") if p.is_file()), None)
            if path is None:
                raise _missing(what, folder / file)
            arrays.append(read_idx(path))
        images, labels, test_images, test_labels = arrays
        if name == "EMNIST":  # stored on their side; letters count from 1
            images, test_images = images.transpose(0, 2, 1), test_images.transpose(0, 2, 1)
            first = int(labels.min())
            labels, test_labels = labels - first, test_labels - first
        names = _KUZUSHIJI if name == "KMNIST" else _emnist_names(split)
        return Source(
            f"torchvision:{what}",
            names,
            np.ascontiguousarray(images[:, None]),
            labels.astype(np.int64),
            np.ascontiguousarray(test_images[:, None]),
            test_labels.astype(np.int64),
        )

    def fetch(self, data: Path, what: str, progress: Progress) -> None:
        """Let torchvision download the set; raises StreamlabError where it cannot."""
        name, split = _parts(what)
        options: Iterable[dict[str, Any]] = ({"train": True}, {"train": False})
        if name == "SVHN":
            options = ({"split": "train"}, {"split": "test"})
        elif name == "EMNIST":
            options = ({"split": split, "train": True},)
        for chosen in options:
            try:
                getattr(_datasets(), name)(str(data / "torchvision"), download=True, **chosen)
            except (OSError, RuntimeError) as error:
                raise StreamlabError(f"torchvision could not fetch {name}: {error}") from None
            progress(name, 1, 1)


SOURCE = TorchvisionSource()


def _parts(what: str) -> tuple[str, str]:
    if what not in _NAMES:
        raise unknown("torchvision set", what, _NAMES, "CIFAR has sources of its own: cifar-10, cifar-100")
    name, _, split = what.partition("/")
    return name, split or "balanced"


def _datasets() -> Any:
    try:
        return import_module("torchvision.datasets")
    except ImportError:
        raise StreamlabError(
            "torchvision is not installed; pip install 'streamlab-cl[torchvision]'"
        ) from None


def _svhn(root: Path) -> Source:
    splits = []
    for split in ("train", "test"):
        try:
            splits.append(_datasets().SVHN(str(root), split=split))
        except RuntimeError:
            raise _missing("SVHN", root / f"{split}_32x32.mat") from None
        except ImportError:
            raise StreamlabError("SVHN's files are read by SciPy, which is not installed") from None
    train, test = splits
    return Source("torchvision:SVHN", tuple("0123456789"), train.data, train.labels, test.data, test.labels)


def _emnist_files(split: str) -> list[str]:
    parts = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    return [f"emnist-{split}-{part}-ubyte" for part in parts]


def _emnist_names(split: str) -> tuple[str, ...]:
    digits, capitals = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    small = capitals.lower()
    names = {
        "digits": digits,
        "mnist": digits,
        "letters": small,
        "byclass": digits + capitals + small,
        "balanced": digits + capitals + "abdefghnqrt",
        "bymerge": digits + capitals + "abdefghnqrt",
    }
    return tuple(names[split])


def _missing(what: str, path: Path) -> StreamlabError:
    return StreamlabError(
        f"source torchvision:{what}: {path} is missing or damaged; "
        f"`streamlab data fetch torchvision:{what}` downloads it"
    )
