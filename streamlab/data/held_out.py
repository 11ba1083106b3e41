"""A fifth of each class, held out: a test split where a source has none, or images to validate on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import StreamlabError
from ..randomness import Draws

if TYPE_CHECKING:
    from numpy.typing import NDArray


def hashed_apart(name: str, listed: Sequence[tuple[str, str]]) -> frozenset[int]:
    """Which pictures are a source's test split where it has none: a fifth of each class, at least one.

    listed: class and path below it, a picture each. Chosen by a hash of both, so that neither the order nor
    other pictures' names have a say, and numbered files of several classes are not chosen alike. Raises
    StreamlabError for a class with one picture.
    """
    by_class: dict[str, list[tuple[str, int]]] = {}
    for number, (of_class, path) in enumerate(listed):
        try:
            hashed = hashlib.sha256(f"{of_class}/{path}".encode()).hexdigest()
        except UnicodeEncodeError:
            raise StreamlabError(
                f"source {name}: the name {f'{of_class}/{path}'!a} is no UTF-8; rename it"
            ) from None
        by_class.setdefault(of_class, []).append((hashed, number))
    for of_class, members in by_class.items():
        if len(members) < 2:
            raise StreamlabError(f"source {name}: class {of_class} has one picture, and needs two")
    return frozenset(
        number for members in by_class.values() for _, number in sorted(members)[: _fifth(len(members))]
    )


def drawn_apart(
    where: str, labels: NDArray[np.int64], class_names: Sequence[str], draws: Draws
) -> NDArray[np.bool_]:
    """(N,) which images are held out, by number: of arrays, whose images have no names.

    Raises StreamlabError, which begins with `where`, for a class with one image.
    """
    apart = np.zeros(len(labels), bool)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) == 1:
            raise StreamlabError(f"{where}: class {name} has one image, and needs two to hold one out")
        if len(members):
            apart[members[draws.permutation(len(members))[: _fifth(len(members))]]] = True
    return apart


def _fifth(count: int) -> int:
    return max(1, round(count / 5))
