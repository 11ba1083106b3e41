"""The geometry of features: how classes lie in feature space, as a diagnostic (`--record geometry`).

icnn_score (Mendez-Ruiz et al. 2023), the ratio of distances within and between classes, neural collapse NC1
to NC4 (Papyan, Han and Donoho 2020; NC2 and NC3 as distances in the form of Zhu et al. 2021), uniformity
(Wang and Isola 2020) and tolerance (Wang and Liu 2021). Features are those of test images of the classes
seen so far; of episodes, of the phase's classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..parts.metric_losses import icnn_score as icnn
from ..randomness import Draws
from .metrics import NotDefined, Value, lower_is_better, not_recorded, of_any, plain_number

if TYPE_CHECKING:
    from .episode_record import EpisodeRecord
    from .record import Record

MOST = 2000  # images that are looked at: distances are between all pairs


def chosen(count: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Places of at most MOST of `count` images, drawn by name, ascending."""
    order = Draws(seed, "geometry").permutation(count)[:MOST]
    return np.sort(order)


def measure_geometry(
    features: Tensor, labels: Tensor, weights: Tensor | None = None, predictions: Tensor | None = None
) -> dict[str, float]:
    """The measures by name, of features (N, D) and labels (N,) int64; what is not defined is left out.

    weights: (classes, D) of a linear classifier; predictions: (N,) of the strategy. At least two
    classes and three samples are needed.
    """
    present, places = torch.unique(labels, return_inverse=True)
    if len(present) < 2 or len(labels) < 3:
        return {}
    points = features.double()
    counts = torch.bincount(places).double()
    means = torch.zeros(len(present), points.shape[1], dtype=points.dtype, device=points.device)
    means = means.index_add_(0, places, points) / counts[:, None]
    inside = points - means[places]
    centred = means - means.mean(0)
    within = inside.T @ inside / len(points)
    between = centred.T @ centred / len(present)
    values = {
        "icnn_score": float(icnn(points, places, points, places)),
        "intra_inter_ratio": _ratio(inside, means),
        "nc1": float((within @ torch.linalg.pinv(between, hermitian=True)).trace()) / len(present),
        "nc2": _gap(centred @ centred.T, _simplex(centred)),
        **_on_the_sphere(points, places),
    }
    if weights is not None:
        values["nc3"] = _gap(weights[present].double() - weights[present].double().mean(0), centred)
    if predictions is not None:
        nearest = present[torch.cdist(points, means).argmin(1)]
        values["nc4"] = float((nearest != predictions).double().mean())
    return {name: value for name, value in values.items() if np.isfinite(value)}


def measure_groups(
    features: Tensor, labels: Tensor, in_base: Tensor, weights: Tensor | None = None
) -> dict[str, float]:
    """NC1 to NC3 of base and of novel classes apart, as `base nc1`, …; in_base: (classes,) bool."""
    found: dict[str, float] = {}
    for group, members in (("base", in_base[labels]), ("novel", ~in_base[labels])):
        own = measure_geometry(features[members], labels[members], weights)
        found |= {f"{group} {name}": own[name] for name in ("nc1", "nc2", "nc3") if name in own}
    return found


def _on_the_sphere(points: Tensor, places: Tensor) -> dict[str, float]:
    """uniformity: log of the mean of exp(-2 · squared distance) over pairs; tolerance: mean cosine of two
    samples of a class. Of features of length 1; no sample is paired with itself.
    """
    cosines = torch.nn.functional.normalize(points) @ torch.nn.functional.normalize(points).T
    pairs = ~torch.eye(len(points), dtype=torch.bool, device=points.device)
    alike = pairs & (places[:, None] == places)
    near = (-2 * (2 - 2 * cosines)).exp()
    found = {"uniformity": float(near[pairs].mean().log())}
    return found | ({"tolerance": float(cosines[alike].mean())} if bool(alike.any()) else {})


def _ratio(inside: Tensor, means: Tensor) -> float:
    """Mean distance of a sample to its class's mean over the mean distance of two classes' means."""
    return float(inside.norm(dim=1).mean() / torch.nn.functional.pdist(means).mean())


def _simplex(centred: Tensor) -> Tensor:
    """The Gram matrix of a simplex equiangular tight frame, whose scale does not matter."""
    count = len(centred)
    return torch.eye(count, dtype=centred.dtype, device=centred.device) - 1 / count


def _gap(one: Tensor, other: Tensor) -> float:
    """The Frobenius distance of two matrices, each of norm 1; 0 to 2."""
    return float((one / one.norm() - other / other.norm()).norm())


def curve(record: Record | EpisodeRecord, name: str) -> list[tuple[int, float]]:
    """(samples or episodes seen, value) of one measure at every point where it is defined.

    Of episodes: of meta-validation.
    """
    judged = [e for e in record.evaluations if getattr(e, "phase", "") != "test"]
    points = [(evaluation.samples_seen, (evaluation.geometry or {}).get(name)) for evaluation in judged]
    return [(seen, value) for seen, value in points if value is not None]


def _last(record: Record | EpisodeRecord, name: str) -> Value:
    kept: list[Mapping[str, float]] = [e.geometry for e in record.evaluations if e.geometry is not None]
    if not kept:
        return not_recorded("geometry")
    if name in kept[-1]:
        return kept[-1][name]
    if name in ("nc3", "nc4"):
        return NotDefined("the strategy has no linear classifier over these classes")
    if name == "tolerance":
        return NotDefined("no class has two samples among those that are looked at")
    return NotDefined("fewer than two classes were judged")


@of_any
def icnn_score(record: Record | EpisodeRecord) -> Value:
    """ICNN score of the test features, 0 to 1, 1 is best (Mendez-Ruiz et al. 2023; --record geometry)."""
    return _last(record, "icnn_score")


@of_any
@lower_is_better
@plain_number
def intra_inter_ratio(record: Record | EpisodeRecord) -> Value:
    """Mean distance to the own class's mean over the mean distance of class means (--record geometry)."""
    return _last(record, "intra_inter_ratio")


@of_any
@lower_is_better
@plain_number
def nc1(record: Record | EpisodeRecord) -> Value:
    """NC1: variability within classes, trace of its covariance over the between one's, by classes."""
    return _last(record, "nc1")


@of_any
@lower_is_better
@plain_number
def nc2(record: Record | EpisodeRecord) -> Value:
    """NC2: distance of the class means from a simplex equiangular tight frame, 0 to 2."""
    return _last(record, "nc2")


@of_any
@lower_is_better
@plain_number
def nc3(record: Record | EpisodeRecord) -> Value:
    """NC3: distance of the classifier's rows from the class means, 0 to 2."""
    return _last(record, "nc3")


@of_any
@lower_is_better
def nc4(record: Record | EpisodeRecord) -> Value:
    """NC4: share of samples that the classifier decides otherwise than the nearest class mean."""
    return _last(record, "nc4")


@of_any
@lower_is_better
@plain_number
def uniformity(record: Record | EpisodeRecord) -> Value:
    """Log of the mean over pairs of exp(-2 · squared distance) of features of length 1; at most 0."""
    return _last(record, "uniformity")


@of_any
@plain_number
def tolerance(record: Record | EpisodeRecord) -> Value:
    """Mean cosine of the features of two samples of a class, -1 to 1."""
    return _last(record, "tolerance")
