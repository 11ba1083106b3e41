"""torchvision:NAME - torchvision's classification sets, as Food101@256,224 or DTD#partition=2.

Its idx files are read here; all else is read by torchvision itself, from its own layout below
DATA/torchvision. Nothing is unpickled: sets that torchvision keeps as pickles have sources of their own, or
are refused.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StreamlabError, unknown
from .held_out import hashed_apart
from .idx import IDX_FILES, read_idx
from .pictures import SPLITS, Pictures, decoded
from .progress import Progress
from .reading import Made, Rule
from .source import Source

_EMNIST = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
_BY_US = ("KMNIST", "SVHN", "EMNIST", *(f"EMNIST/{split}" for split in _EMNIST))
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


@dataclass(frozen=True)
class _Kept:
    """How torchvision keeps a set: the argument that names a split (empty: it has none) and what it is for
    ours; options: its other arguments, with their defaults. sorted: its order is the file system's, and is
    made one by the files' paths.
    """

    argument: str = "split"
    train: str | bool = "train"
    test: str | bool = "test"
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    sorted: bool = False


_UNDIVIDED = _Kept("")
_SETS = {
    "Caltech101": _UNDIVIDED,
    "Caltech256": _UNDIVIDED,
    "Country211": _Kept(),
    "DTD": _Kept(options={"partition": 1}),
    "EuroSAT": _UNDIVIDED,
    "FER2013": _Kept(),
    "FGVCAircraft": _Kept(train="trainval", options={"annotation_level": "variant"}),
    "Flowers102": _Kept(),
    "Food101": _Kept(),
    "GTSRB": _Kept(),
    "INaturalist": _Kept("version", "2021_train", "2021_valid", {"target_type": "full"}, True),
    "Imagenette": _Kept(test="val", options={"size": "full"}),
    "OxfordIIITPet": _Kept(train="trainval"),
    "PCAM": _Kept(),
    "Places365": _Kept(train="train-standard", test="val", options={"small": False}),
    "QMNIST": _Kept("what"),
    "RenderedSST2": _Kept(),
    "SEMEION": _UNDIVIDED,
    "STL10": _Kept(),
    "SUN397": _Kept("", sorted=True),
    "StanfordCars": _Kept(),
    "USPS": _Kept("train", True, False),
}
_REFUSED = {
    "CIFAR10": "torchvision keeps it as pickles; the source cifar-10 reads its binary files",
    "CIFAR100": "torchvision keeps it as pickles; the source cifar-100 reads its binary files",
    "ImageNet": "torchvision keeps its classes as a pickle; the source imagenet reads its folders",
    "LSUN": "torchvision keeps its index as a pickle; export its pictures to a folder: folder:PATH",
    "MNIST": "it has a source of its own, mnist",
    "FashionMNIST": "it has a source of its own, fashion-mnist",
    "Omniglot": "it has a source of its own, omniglot",
    "CelebA": "its splits share no person, and attributes are no classes",
    "LFWPeople": "most of its people have one picture, and its splits share no person",
    "FakeData": "it is noise",
}


class TorchvisionSource:
    """The plugin: `load(data, NAME)` reads `data`/torchvision, `fetch` lets torchvision fill it."""

    def __call__(self, data: Path, what: str) -> Source:
        """The set of this name; of one that is not divided, a fifth of each class is held out.

        Raises StreamlabError for another name, an option that it does not have, or where it was not fetched.
        """
        named, _, text = what.partition("#")
        name, at, size = named.partition("@")
        root = data / "torchvision"
        if name in _BY_US:
            if at or text:
                raise StreamlabError(f"source torchvision:{name} has one size, and takes no options")
            return _svhn(root) if name == "SVHN" else _idx(root, name)
        kept = _kept(name)
        rule = Rule.read(size, f"source torchvision:{what}") if at else Rule()
        return _pictures(root, name, kept, _options(name, kept, text), rule)

    def fetch(self, data: Path, what: str, progress: Progress) -> None:
        """Let torchvision download the set; raises StreamlabError where it cannot."""
        named, _, text = what.partition("#")
        name = named.partition("@")[0]
        asked: tuple[dict[str, Any], ...]
        if name in _BY_US:
            name, _, split = name.partition("/")
            by_name: dict[str, tuple[dict[str, Any], ...]] = {
                "KMNIST": ({"train": True}, {"train": False}),
                "SVHN": ({"split": "train"}, {"split": "test"}),
                "EMNIST": ({"split": split or "balanced", "train": True},),
            }
            asked = by_name[name]
        else:
            kept = _kept(name)
            asked = _arguments(kept, _options(name, kept, text))
        made = getattr(_datasets(), name)
        if not {"download", "kwargs"} & inspect.signature(made).parameters.keys():
            raise StreamlabError(f"torchvision does not fetch {name}; its documentation says where it is had")
        for chosen in asked:
            try:
                made(str(data / "torchvision"), download=True, **chosen)
            except (OSError, RuntimeError, ValueError) as error:
                raise StreamlabError(f"torchvision could not fetch {name}: {error}") from None
            progress(name, 1, 1)


SOURCE = TorchvisionSource()


def _kept(name: str) -> _Kept:
    if name in _REFUSED:
        raise StreamlabError(f"torchvision:{name} is no source: {_REFUSED[name]}")
    if name not in _SETS:
        raise unknown("torchvision set", name, (*_BY_US, *_SETS))
    return _SETS[name]


def _options(name: str, kept: _Kept, text: str) -> dict[str, str | int | bool]:
    """`#partition=2,train=val` as arguments by name, train and test among them."""
    known: dict[str, str | int | bool] = dict(kept.options)
    if kept.argument and isinstance(kept.train, str):
        known |= {"train": kept.train, "test": kept.test}
    for pair in filter(None, text.split(",")):
        key, _, value = pair.partition("=")
        if key not in known:
            raise unknown(f"option of torchvision:{name}", key, known)
        before = known[key]
        if isinstance(before, bool):
            known[key] = value.lower() == "true"
        else:
            known[key] = int(value) if isinstance(before, int) and value.isdigit() else value
    return known


def _arguments(kept: _Kept, chosen: Mapping[str, str | int | bool]) -> tuple[dict[str, Any], ...]:
    """What torchvision's class is made with, a split each."""
    others = {name: value for name, value in chosen.items() if name in kept.options}
    if not kept.argument:
        return (others,)
    splits = (chosen.get("train", kept.train), chosen.get("test", kept.test))
    return tuple({kept.argument: split, **others} for split in splits)


def _pictures(
    root: Path, name: str, kept: _Kept, chosen: Mapping[str, str | int | bool], rule: Rule
) -> Source:
    """A set that torchvision reads: its files where it names them, else the pictures that it makes."""
    said = ",".join(f"{key}={value}" for key, value in chosen.items() if value != _default(kept, key))
    full = f"torchvision:{name}{rule}{f'#{said}' if said else ''}"
    made = [_made(full, name, root, arguments) for arguments in _arguments(kept, chosen)]
    listed = [_listed(full, one, number, kept.sorted) for number, one in enumerate(made)]
    values = {label for _, labels in listed for label in labels}
    classes = _class_names(made[0], values)
    splits = {split: Pictures() for split in SPLITS}
    notes: tuple[str, ...] = ()
    if len(listed) == 1:
        ((files, labels),) = listed
        places = [(str(label), str(number)) for number, label in enumerate(labels)]
        apart = hashed_apart(full, places)
        notes = (f"{full}: it has no test split: a fifth of each class is held out",)
        for number, (file, label) in enumerate(zip(files, labels, strict=True)):
            splits["test" if number in apart else "train"].add([file], label)
    else:
        for split, (files, labels) in zip(SPLITS, listed, strict=True):
            for file, label in zip(files, labels, strict=True):
                splits[split].add([file], label)
    return decoded(full, None, classes, splits, rule, notes)


def _default(kept: _Kept, key: str) -> str | int | bool:
    return {**kept.options, "train": kept.train, "test": kept.test}[key]


def _made(full: str, name: str, root: Path, arguments: Mapping[str, Any]) -> Any:
    """torchvision's dataset, its loader replaced by one that gives the file."""
    cls = getattr(_datasets(), name)
    given = dict(arguments)
    if "loader" in inspect.signature(cls).parameters:
        given["loader"] = Path
    needed = re.compile(r"(h5py|scipy)", re.IGNORECASE)
    try:
        return cls(str(root), **given)
    except ImportError as error:
        raise StreamlabError(f"source {full} needs a package that is not installed ({error})") from None
    except (RuntimeError, OSError) as error:
        if found := needed.search(str(error)):
            raise StreamlabError(f"source {full} is read by {found[1]}, which is not installed") from None
        raise StreamlabError(
            f"source {full} is not in {root}, or not whole ({error}); "
            f"`streamlab data fetch torchvision:{name}` downloads it"
        ) from None
    except ValueError as error:
        raise StreamlabError(f"source {full}: {error}") from None


def _listed(full: str, dataset: Any, number: int, in_order: bool) -> tuple[list[Any], list[int]]:
    """Its pictures and their labels, in its order; a picture is decoded for its label only where it must."""
    count = len(dataset)
    if hasattr(dataset, "loader") or hasattr(dataset, "_loader"):
        pairs = [dataset[row] for row in range(count)]
        pairs = sorted(pairs) if in_order else pairs
        return [path for path, _ in pairs], [int(label) for _, label in pairs]
    labels = _labels_of(dataset, count)
    stamp = f"{type(dataset).__name__} {dataset.root} {count}"
    pictures = [Made(row, f"{full}, split {number}, row {row}", stamp, dataset) for row in range(count)]
    return pictures, labels


def _labels_of(dataset: Any, count: int) -> list[int]:
    """Where torchvision's classes keep them, each by another name; else they are asked one by one."""
    for name in ("y", "_labels", "labels", "targets"):
        found = np.asarray(getattr(dataset, name, ()))
        if found.shape == (count,):
            return [int(label) for label in found]
    samples = getattr(dataset, "_samples", None)
    if samples is not None:
        return [int(label) for _, label in samples]
    return [int(dataset[row][1]) for row in range(count)]


def _class_names(dataset: Any, values: set[int]) -> tuple[str, ...]:
    """What torchvision calls the classes, where it has a name for each; else their numbers."""
    for name in ("classes", "categories", "all_categories"):
        found = getattr(dataset, name, None)
        if found is not None and len(found) > max(values) and len(set(found)) == len(found):
            return tuple(str(one) for one in found)
    return tuple(str(number) for number in range(max(values) + 1))


def _idx(root: Path, what: str) -> Source:
    name, _, split = what.partition("/")
    split = split or "balanced"
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
