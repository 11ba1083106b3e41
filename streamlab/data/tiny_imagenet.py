"""Tiny ImageNet: 200 classes of ImageNet, 100,000 + 10,000 colour images of 64x64 (Stanford CS231n, 2015)."""

from __future__ import annotations

from pathlib import Path

from ..errors import CorruptFile, StreamlabError
from .fetch import Download
from .pictures import Pictures, decoded, pictures_in
from .published import Published
from .reading import Rule
from .source import Source

CITATION = """
@misc{le2015tiny,
  title = {Tiny {ImageNet} Visual Recognition Challenge},
  author = {Le, Ya and Yang, Xuan},
  howpublished = {Stanford CS 231N},
  year = {2015},
}
"""

_FOLDER = "tiny-imagenet"
_LISTS = ("wnids.txt", "val/val_annotations.txt")


def load(data: Path) -> Source:
    """The archive as it was unpacked in `data`/tiny-imagenet: its training images, and its validation
    images, whose labels are known, as test images. Classes in the order of wnids.txt, by their WordNet
    names; factor: file.
    """
    root = data / _FOLDER
    for name in _LISTS:
        if not (root / name).is_file():
            raise StreamlabError(
                f"source tiny-imagenet: {root / name} is missing; `streamlab data fetch tiny-imagenet` "
                f"downloads it, --data or STREAMLAB_DATA name another folder"
            )
    names = tuple((root / _LISTS[0]).read_text(encoding="utf-8").split())
    label_of = {name: label for label, name in enumerate(names)}
    train, test = Pictures(), Pictures()
    for label, name in enumerate(names):
        found = pictures_in(root / "train" / name / "images")
        if not found:
            raise _lacks(root / "train" / name / "images")
        train.add(found, label)
    for number, line in enumerate((root / _LISTS[1]).read_text(encoding="utf-8").splitlines(), 1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if name not in label_of:
            raise CorruptFile(f"{root / _LISTS[1]}, line {number}: {line!r} names no class of {_LISTS[0]}")
        picture = root / "val" / "images" / file
        if not picture.is_file():
            raise _lacks(picture)
        test.add([picture], label_of[name])
    return decoded("tiny-imagenet", root, names, {"train": train, "test": test}, Rule())


def _lacks(path: Path) -> StreamlabError:
    return StreamlabError(
        f"source tiny-imagenet: {path} is missing or empty; its archive was not unpacked whole"
    )


SOURCE = Published(
    load=load,
    classes=200,
    train=100_000,
    test=10_000,
    shape=(3, 64, 64),
    folder=_FOLDER,
    files=_LISTS,
    downloads=(
        Download(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de", _LISTS
        ),
    ),
)
