"""Tiny ImageNet: 200 classes of ImageNet, 100,000 + 10,000 colour images of 64x64 (Stanford CS231n, 2015)."""

from __future__ import annotations

from pathlib import Path

from ..errors import StreamlabError
from .fetch import Download
from .pictures import Pictures, decoded, pictures_in
from .published import Published
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
    train, test = Pictures([], []), Pictures([], [])
    for label, name in enumerate(names):
        found = pictures_in(root / "train" / name / "images")
        if not found:
            raise _lacks(root / "train" / name / "images")
        train.files.extend(found)
        train.labels.extend([label] * len(found))
    for line in (root / _LISTS[1]).read_text(encoding="utf-8").splitlines():
        file, name, *_ = line.split("\t")
        picture = root / "val" / "images" / file
        if not picture.is_file():
            raise _lacks(picture)
        test.files.append(picture)
        test.labels.append(names.index(name))
    return decoded("tiny-imagenet", root, names, {"train": train, "test": test}, None)


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
