"""Validation images carved from a source's training split, to tune on: its test split is never read.

`validation:NAME` has a fifth of each class's training images of NAME (at least one) as its test split, the
rest as its training split.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import StreamlabError
from ..randomness import Draws
from .load import load_source
from .source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARE = 0.2


def load(folder: Path, name: str) -> Source:
    """The source `name` without its test split; raises StreamlabError where a class has one image."""
    return carved(load_source(name, str(folder)))


def carved(source: Source) -> Source:
    """Training and validation images of a source, the same whoever asks."""
    labels, draws = source.train_labels, Draws(0, "validation", source.name)
    apart = np.zeros(len(labels), bool)
    for label, name in enumerate(source.class_names):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise StreamlabError(
                f"source {source.name}: class {name} has {len(members)} image, too few to carve"
            )
        apart[members[draws.permutation(len(members))[: max(1, round(SHARE * len(members)))]]] = True

    def factors(rows: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        return {factor: values[rows] for factor, values in source.train_factors.items()}

    return Source(
        f"validation:{source.name}",
        source.class_names,
        source.train_images[~apart],
        labels[~apart],
        source.train_images[apart],
        labels[apart],
        factors(~apart),
        factors(apart),
    )
