"""Validation images carved from a source's training split, to tune on: its test split is never read.

`validation:NAME` has a fifth of each class's training images of NAME (at least one) as its test split, the
rest as its training split.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..randomness import Draws
from .held_out import drawn_apart
from .load import load_source
from .source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray


def load(folder: Path, name: str) -> Source:
    """The source `name` without its test split; raises StreamlabError where a class has one image."""
    return carved(load_source(name, str(folder)))


def carved(source: Source) -> Source:
    """Training and validation images of a source, the same whoever asks."""
    labels = source.train_labels
    apart = drawn_apart(
        f"source {source.name}", labels, source.class_names, Draws(0, "validation", source.name)
    )

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
        wholes=None if source.wholes is None else source.wholes.of(np.argsort(apart, kind="stable")),
    )
