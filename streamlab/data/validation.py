"""Shares of a source's training split, to tune on: its test split is never read.

`validation:NAME` has a fifth of each class's training images of NAME (at least one) as its test split, the
rest as its training split. `tuning:NAME` is another fifth of them, and `evaluation:NAME` the other four, each
with the test split of NAME.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def load_tuning(folder: Path, name: str) -> Source:
    """A fifth of the training images of the source `name`; raises StreamlabError."""
    return shared_out(load_source(name, str(folder)))[0]


def load_evaluation(folder: Path, name: str) -> Source:
    """The other four fifths of them; raises StreamlabError."""
    return shared_out(load_source(name, str(folder)))[1]


def in_memory(name: str, held: Mapping[str, Source]) -> Source | None:
    """A share of a source that is held in memory, by its name; None where its source is not."""
    kind, _, rest = name.partition(":")
    if name in held or kind not in ("validation", "tuning", "evaluation"):
        return held.get(name)
    inner = in_memory(rest, held)
    if inner is None or kind == "validation":
        return None if inner is None else carved(inner)
    return shared_out(inner)[kind == "evaluation"]


def found(name: str, held: Mapping[str, Source], data: str | None) -> Source:
    """A source by name: one that is held in memory, a share of such a one, or an installed one, loaded."""
    return in_memory(name, held) or load_source(name, data)


def shared_out(source: Source) -> tuple[Source, Source]:
    """A fifth of each class's training images, and the rest of them, each with the source's test split."""
    apart = drawn_apart(
        f"source {source.name}", source.train_labels, source.class_names, Draws(0, "tuning", source.name)
    )
    return _only(source, apart, "tuning"), _only(source, ~apart, "evaluation")


def _only(source: Source, rows: NDArray[np.bool_], name: str) -> Source:
    return Source(
        f"{name}:{source.name}",
        source.class_names,
        source.train_images[rows],
        source.train_labels[rows],
        source.test_images,
        source.test_labels,
        {factor: values[rows] for factor, values in source.train_factors.items()},
        source.test_factors,
        wholes=None if source.wholes is None else source.wholes.of(np.flatnonzero(rows)),
    )


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
