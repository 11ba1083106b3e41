"""folder:PATH - your own pictures, one sub-folder a class; @32 or @256,224 after it brings them to one size.

With `train` and `test` below PATH these are the splits; else a fifth of each class, chosen by a
hash of the files' paths, is held out for testing. Pictures are decoded once into array files in
the user's cache, and mapped from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import StreamlabError
from .held_out import hashed_apart
from .pictures import SPLITS, Pictures, decoded, pictures_in
from .reading import Rule
from .source import Source

_CALLED = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}


def load(data: Path, what: str) -> Source:
    """The pictures below the folder that `what` names, at the size after `@`.

    Splits are found in any case; without `test`, `val` is the test split, and beside it left out. Classes in
    natural order (2 before 10). Where sub-folders all hold sub-folders of the same names, these are the
    classes, and the outer ones the factor `domain`. Grey where every picture is, else colour. Factor: file,
    the path below the folder. Raises StreamlabError for a folder without classes, a class without two
    pictures, or pictures of several sizes and no `@`; CorruptFile, naming it, for a picture that cannot be
    read.
    """
    text, at, size = what.rpartition("@")
    root = Path(text if at else what).expanduser().resolve()
    rule = Rule.read(size, f"source folder:{what}") if at else Rule()
    name = f"folder:{root}{rule}"
    names, splits, notes = found(name, root)
    return decoded(name, root, names, splits, rule, notes)


def found(name: str, root: Path) -> tuple[tuple[str, ...], dict[str, Pictures], tuple[str, ...]]:
    """Class names, the files of both splits, and what should be known of how they were found."""
    if not root.is_dir():
        raise StreamlabError(f"source {name}: there is no such folder")
    parts = {_CALLED[path.name.lower()]: path for path in _folders(root) if path.name.lower() in _CALLED}
    if "train" in parts and len(parts) > 1:
        held = parts.get("test") or parts["val"]
        left_out = [f"{name}: {parts['val']} is left out"] if len(parts) == 3 else []
        return _divided(name, parts["train"], held, tuple(left_out))
    top = parts.get("train", root)
    names, notes = _classes(name, top)
    splits = {split: Pictures() for split in SPLITS}
    for label, of_class in enumerate(names):
        for domain, folder in _places(top, of_class):
            files = pictures_in(folder)
            apart = hashed_apart(name, [(of_class, path.relative_to(folder).as_posix()) for path in files])
            for number, path in enumerate(files):
                splits["test" if number in apart else "train"].add([path], label, **domain)
    return names, splits, notes


def _divided(
    name: str, train: Path, test: Path, notes: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, Pictures], tuple[str, ...]]:
    """Of two folders with the same classes."""
    names, said = _classes(name, train)
    for of_class in _classes(name, test)[0]:
        if of_class not in names:
            raise StreamlabError(f"source {name}: class {of_class} has test pictures, and none in {train}")
    splits = {split: Pictures() for split in SPLITS}
    for label, of_class in enumerate(names):
        for split, top in zip(SPLITS, (train, test), strict=True):
            for domain, folder in _places(top, of_class):
                splits[split].add(pictures_in(folder), label, **domain)
    return names, splits, (*notes, *said)


def _classes(name: str, top: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the classes below a folder, and what should be known of them."""
    inner = _shared(top)
    if inner:
        domains = ", ".join(path.name for path in _folders(top)[:3])
        return inner, (f"{name}: its folders ({domains}) hold the same classes, and are the factor domain",)
    names = tuple(path.name for path in _folders(top) if pictures_in(path))
    if not names:
        raise StreamlabError(f"source {name}: no sub-folder of {top} holds a picture")
    if names != tuple(sorted(names)):
        return names, (f"{name}: classes are in the order of their numbers, as {names[0]}, {names[1]}",)
    return names, ()


def _places(top: Path, of_class: str) -> list[tuple[dict[str, str], Path]]:
    """Where a class's pictures lie, each with its domain if there are any."""
    if not _shared(top):
        return [({}, top / of_class)]
    return [({"domain": path.name}, path / of_class) for path in _folders(top) if (path / of_class).is_dir()]


def _shared(top: Path) -> tuple[str, ...]:
    """The classes that are inside of every sub-folder, where there are several of both, and nothing else."""
    outer = _folders(top)
    inner = [{path.name for path in _folders(folder)} for folder in outer]
    if len(outer) < 2 or len(inner[0]) < 2 or any(names != inner[0] for names in inner):
        return ()
    return in_natural_order(inner[0])


def _folders(top: Path) -> list[Path]:
    """The sub-folders that are not hidden, in natural order."""
    there = [path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(there, key=lambda path: _natural(path.name))


def _natural(text: str) -> list[tuple[int, int, str]]:
    parts = [part for part in re.split(r"([0-9]+)", text) if part]
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]


def in_natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """2 before 10."""
    return tuple(sorted(names, key=_natural))
