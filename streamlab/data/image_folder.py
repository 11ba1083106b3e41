"""folder:PATH - your own pictures, one sub-folder a class; folder:PATH@32 scales them to 32x32.

With `train` and `test` below PATH these are the splits; else a fifth of each class, chosen by a
hash of the files' names, is held out for testing. Pictures are decoded once into array files in
the user's cache, and mapped from there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import StreamlabError
from .pictures import SPLITS, Pictures, decoded, pictures_in
from .source import Source


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
    return decoded(f"folder:{root}" + (f"@{side}" if side else ""), root, names, splits, side)


def _find(root: Path) -> tuple[tuple[str, ...], dict[str, Pictures]]:
    """Class names, and the files of both splits."""
    if not root.is_dir():
        raise StreamlabError(f"source folder:{root}: there is no such folder")
    divided = all((root / split).is_dir() for split in SPLITS)
    top = root / "train" if divided else root
    names = tuple(sorted(path.name for path in top.iterdir() if path.is_dir() and pictures_in(path)))
    if not names:
        raise StreamlabError(f"source folder:{root}: no sub-folder of {top} holds a picture")
    if divided:
        for path in sorted((root / "test").iterdir()):
            if path.is_dir() and path.name not in names and pictures_in(path):
                raise StreamlabError(
                    f"source folder:{root}: class {path.name} has test pictures, and none in {top}"
                )
    splits = {split: Pictures([], []) for split in SPLITS}
    for label, name in enumerate(names):
        if divided:
            parts = {split: pictures_in(root / split / name) for split in SPLITS}
        else:
            found = sorted(pictures_in(root / name), key=_hashed)
            held_out = max(1, round(len(found) / 5))
            if len(found) < 2:
                raise StreamlabError(f"source folder:{root}: class {name} has one picture, and needs two")
            parts = {"train": sorted(found[held_out:]), "test": sorted(found[:held_out])}
        for split, files in parts.items():
            splits[split].files.extend(files)
            splits[split].labels.extend([label] * len(files))
    return names, splits


def _hashed(path: Path) -> str:
    return hashlib.sha256(path.name.encode()).hexdigest()
