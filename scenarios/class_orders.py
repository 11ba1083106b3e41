"""The order in which classes arrive: drawn from the seed, as they are numbered, numpy's, or one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamlab.errors import StreamlabError, unknown
from streamlab.plans.stream import Labels
from streamlab.randomness import Draws

if TYPE_CHECKING:
    from numpy.typing import NDArray

ClassOrder = str | tuple[int | str, ...]


def class_order(order: ClassOrder, labels: Labels, draws: Draws, scenario: str) -> NDArray[np.int64]:
    """(classes,) labels in the order that the option asks for.

    shuffled: by `draws`. sorted: by number. numpy:SEED: the permutation of numpy's legacy generator after
    numpy.random.seed(SEED), by which PyCIL and PILOT order classes (theirs is numpy:1993). file:PATH: a
    text file, a class a line. Else a list of all classes, by name or number, as a list or with commas
    between. A number in a list is one; in text, where a class is named as another is numbered, the name
    counts.

    Raises StreamlabError for a file that cannot be read, an unknown class, one that is named twice, or
    one that is left out.
    """
    count = labels.num_classes
    if order == "shuffled":
        return draws.permutation(count)
    if order == "sorted":
        return np.arange(count)
    if isinstance(order, str):
        kind, _, rest = order.partition(":")
        if kind == "numpy":
            if not rest.isdecimal() or int(rest) >= 2**32:
                hint = f"write numpy:SEED with a seed from 0 to {2**32 - 1}"
                raise StreamlabError(f"{scenario}: class_order is {order!r}; {hint}")
            return np.random.RandomState(int(rest)).permutation(count).astype(np.int64)
        order = _lines(Path(rest).expanduser(), scenario) if kind == "file" else tuple(order.split(","))
    return _listed(order, labels, scenario)


def _lines(path: Path, scenario: str) -> tuple[str, ...]:
    """The lines of a file that say something."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise StreamlabError(f"{scenario}: class_order: {path} cannot be read: {reason}") from None
    return tuple(filter(None, map(str.strip, text.splitlines())))


def _listed(order: Sequence[int | str], labels: Labels, scenario: str) -> NDArray[np.int64]:
    """The labels of classes by name or number, each class once."""
    places = {str(number): number for number in range(labels.num_classes)}
    places |= {name: number for number, name in enumerate(labels.class_names)}
    found = []
    for one in order:
        place = places.get(one.strip(), -1) if isinstance(one, str) else one
        if not 0 <= place < labels.num_classes:
            words = {*labels.class_names, "shuffled", "sorted"}
            raise unknown(
                f"class in {scenario}'s class_order", str(one), words, "numpy:SEED and file:PATH too"
            )
        found.append(place)
    twice = [label for label, times in Counter(found).items() if times > 1]
    missing = sorted(set(range(labels.num_classes)).difference(found))
    for said, wrong in (("twice", twice), ("not at all", missing)):
        if wrong:
            raise StreamlabError(
                f"{scenario}: class_order names class {labels.class_names[wrong[0]]} {said}"
                + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")
            )
    return np.array(found, np.int64)
