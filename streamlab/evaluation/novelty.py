"""Metrics of telling classes not yet seen from those that are (out-of-distribution scores).

At every task end but those where all is exposed, exposed test samples are the known ones and
the others the novel ones; the mean over task ends is reported. Needs `--record unexposed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .metrics import CEILING, NotDefined, Value, lower_is_better, not_recorded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .record import Evaluation, Record, Unexposed

    Scores = NDArray[np.floating]


def auroc_softmax(record: Record) -> Value:
    """AUROC of known against novel by the maximum softmax probability (Hendrycks and Gimpel 2017)."""
    return _over_task_ends(record, _softmax, area_under_roc)


def auroc_energy(record: Record) -> Value:
    """AUROC of known against novel by the log-sum-exp of the logits (energy; Liu et al. 2020)."""
    return _over_task_ends(record, _energy, area_under_roc)


def auroc_neighbour(record: Record) -> Value:
    """AUROC of known against novel by distance to the nearest training feature (Sun et al. 2022, k = 1)."""
    return _over_task_ends(record, _neighbour, area_under_roc)


@lower_is_better
def fpr95_softmax(record: Record) -> Value:
    """Share of novel samples taken for known when 95 % of the known are kept, by maximum softmax."""
    return _over_task_ends(record, _softmax, false_positives_at_95)


@lower_is_better
def fpr95_energy(record: Record) -> Value:
    """Share of novel samples taken for known when 95 % of the known are kept, by energy."""
    return _over_task_ends(record, _energy, false_positives_at_95)


@lower_is_better
def fpr95_neighbour(record: Record) -> Value:
    """Share of novel samples taken for known when 95 % of the known are kept, by nearest neighbour."""
    return _over_task_ends(record, _neighbour, false_positives_at_95)


def auprc_softmax(record: Record) -> Value:
    """Average precision of known against novel by maximum softmax; chance gives `known_share`."""
    return _over_task_ends(record, _softmax, average_precision)


def auprc_energy(record: Record) -> Value:
    """Average precision of known against novel by energy; chance gives `known_share`."""
    return _over_task_ends(record, _energy, average_precision)


def auprc_neighbour(record: Record) -> Value:
    """Average precision of known against novel by nearest neighbour; chance gives `known_share`."""
    return _over_task_ends(record, _neighbour, average_precision)


def known_share(record: Record) -> Value:
    """Share of test samples whose class was seen at a task end: what average precision is by chance."""
    return _over_task_ends(record, _any, lambda known, novel: len(known) / (len(known) + len(novel)))


def area_under_roc(known: Scores, novel: Scores) -> float:
    """Chance that a known sample scores higher than a novel one, ties by half (Mann and Whitney 1947)."""
    both = np.concatenate([known, novel])
    _, place, sizes = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[place]
    above = ranks[: len(known)].sum() - len(known) * (len(known) + 1) / 2
    return float(above / (len(known) * len(novel)))


def average_precision(known: Scores, novel: Scores) -> float:
    """Over known samples the mean share of known ones among all that score as high (Davis and Goadrich 2006).

    1 - P(novel) · the mean of (false positive rate / share that scores as high), where area_under_roc is 1 -
    the mean of false positive rates: the rarer high scores are, the more a mistake among them counts.
    """
    above = [len(part) - np.searchsorted(np.sort(part), known) for part in (known, novel)]
    return float((above[0] / (above[0] + above[1])).mean())


def false_positives_at_95(known: Scores, novel: Scores) -> float:
    """Share of novel samples at or above the highest threshold that keeps 95 % of the known ones."""
    kept = -(-95 * len(known) // 100)
    threshold = np.sort(known)[len(known) - kept]
    return float((novel >= threshold).mean())


def _any(evaluation: Evaluation | Unexposed) -> Scores:
    return evaluation.labels.astype(np.float64)


def _softmax(evaluation: Evaluation | Unexposed) -> Scores | None:
    return evaluation.confidence


def _energy(evaluation: Evaluation | Unexposed) -> Scores | None:
    return evaluation.energy


def _neighbour(evaluation: Evaluation | Unexposed) -> Scores | None:
    return None if evaluation.neighbour is None else -evaluation.neighbour


def _over_task_ends(
    record: Record,
    score: Callable[[Evaluation | Unexposed], Scores | None],
    figure: Callable[[Scores, Scores], float],
) -> Value:
    if record.ceiling:
        return CEILING
    recorded = any(evaluation.unexposed is not None for evaluation in record.evaluations)
    if not recorded:
        return not_recorded("unexposed" if score is not _neighbour else "unexposed --record neighbours")
    ends = [(e, e.unexposed) for e in record.at_task_ends if e.unexposed is not None and len(e.labels)]
    if not ends:
        return NotDefined("at every task end all classes had been seen")
    pairs = [(score(evaluation), score(hidden)) for evaluation, hidden in ends]
    figures = [figure(k, n) for k, n in pairs if k is not None and n is not None]
    if not figures:
        return not_recorded("neighbours") if score is _neighbour else NotDefined("its scores are no logits")
    return float(np.mean(figures))
