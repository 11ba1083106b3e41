"""Wrong labels in a stream, as a part of its plan: learned by as given, judged by the true ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .config import within
from .errors import StreamlabError
from .randomness import Draws

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .plans.stream import StreamPlan


_RATE = 0.2


@dataclass(frozen=True)
class Noise:
    """Wrong labels of training samples: options that every stream takes.

    noise: `none`, `symmetric` (another class, each as likely: Zhang and Sabuncu 2018), `pair` (the class that
    follows, the first one follows the last: Han et al. 2018), or `file:PATH`, a matrix of (classes, classes)
    as .npy or .csv whose row c says how often samples of class c are given each label. noise_rate: the share
    of each class's samples that are labelled wrongly (of symmetric and pair). Where strategies are told which
    classes an experience has, the wrong label is one of them (ours).
    """

    noise: str = "none"
    noise_rate: float = _RATE

    def __post_init__(self) -> None:
        if self.noise == "none" and self.noise_rate != _RATE:
            raise StreamlabError(
                f"scenario: noise_rate is {self.noise_rate}, and noise, which it is of, is none; set "
                f"scenario.noise to symmetric or pair"
            )
        within("scenario", "noise_rate", self.noise_rate, 0, 1)
        if self.noise not in ("none", "symmetric", "pair") and not self.noise.startswith("file:"):
            raise StreamlabError(
                f"scenario: noise is {self.noise!r}, and should be none, symmetric, pair or file:PATH"
            )

    def shares(self, among: NDArray[np.int64], matrix: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """(k, k) how often samples of each of `among` (k,) are given another's label; 0 on its diagonal.

        matrix: (classes, classes), the file's, where there is one.
        """
        others = 1 - np.eye(len(among))
        if matrix is not None:
            found: NDArray[np.float64] = matrix[np.ix_(among, among)] * others
        elif self.noise == "pair":
            found = self.noise_rate * np.roll(np.eye(len(among)), 1, axis=1) * others
        else:
            found = self.noise_rate * others / max(1, len(among) - 1)
        return found

    def applied(self, plan: StreamPlan, labels: NDArray[np.int64]) -> StreamPlan:
        """The plan with wrong labels among its training samples, whose true ones are (N,) labels.

        Of each class's samples the nearest whole number to its share is labelled wrongly. Raises
        StreamlabError where no sample would be.
        """
        if self.noise == "none":
            return plan
        name, matrix = self.noise.removeprefix("file:"), None
        if name != self.noise:
            matrix = _read(Path(name), plan.num_classes)
        groups = [(plan.stream, np.arange(plan.num_classes))]
        if plan.shows_boundaries:
            groups = [(one.indices, np.sort(np.array(one.classes))) for one in plan.experiences]
        wrong = [
            _wrong(
                np.unique(indices % len(labels)),
                labels,
                among,
                self.shares(among, matrix),
                (plan.seed, "plan", "noise", number),
            )
            for number, (indices, among) in enumerate(groups)
        ]
        table = np.concatenate(wrong)
        if not len(table) and self.noise_rate:
            raise StreamlabError(
                f"scenario: noise is {self.noise}, and no sample of {plan.scenario} has another class to be "
                f"taken for"
            )
        table = table[np.unique(table[:, 0], return_index=True)[1]]
        options = {**plan.options, **dataclasses.asdict(self)}
        return dataclasses.replace(plan, wrong_labels=table, options=options)


def _wrong(
    shown: NDArray[np.int64],
    labels: NDArray[np.int64],
    among: NDArray[np.int64],
    shares: NDArray[np.float64],
    path: tuple[int, str, str, int],
) -> NDArray[np.int64]:
    """(k, 3) those of the shown samples that are labelled wrongly, the label given, and their own.

    path: of the draws, which go on by class.
    """
    found = [np.zeros((0, 3), np.int64)]
    for true, row in zip(among.tolist(), shares, strict=True):
        members = shown[labels[shown] == true]
        count = round(row.sum() * len(members))
        if count:
            draws = Draws(*path, true)
            chosen = members[draws.permutation(len(members))[:count]]
            place = draws.integers(1 << 53, count) / (1 << 53)
            ahead = np.searchsorted(np.cumsum(row / row.sum()), place, side="right")
            given = among[np.minimum(ahead, np.flatnonzero(row)[-1])]
            found.append(np.stack([chosen, given, np.full(count, true)], axis=1))
    return np.concatenate(found)


def _read(path: Path, classes: int) -> NDArray[np.float64]:
    """A matrix of label shares from a file, checked."""
    try:
        if path.suffix == ".npy":
            found = np.load(path, allow_pickle=False)
        else:
            found = np.loadtxt(path, delimiter=",", ndmin=2)
        matrix = np.asarray(found, np.float64)
    except (OSError, ValueError) as error:
        raise StreamlabError(f"scenario: noise file {path} cannot be read: {error}") from None
    if matrix.shape != (classes, classes):
        raise StreamlabError(
            f"scenario: noise file {path} is of shape {matrix.shape}, and should be {classes} by {classes}"
        )
    if not np.isfinite(matrix).all() or (matrix < 0).any() or not np.allclose(matrix.sum(1), 1, atol=1e-3):
        raise StreamlabError(f"scenario: noise file {path} has rows that are no shares of 1")
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        raise StreamlabError(f"scenario: noise file {path} labels every class as itself, which is no noise")
    return matrix
