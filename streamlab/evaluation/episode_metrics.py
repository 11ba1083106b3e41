"""Metrics of episodes: accuracy over meta-test, clean and in environments."""

from __future__ import annotations

import numpy as np

from .episode_record import EpisodeRecord
from .intervals import Interval
from .metrics import NotDefined, Value, lower_is_better, of_episodes

_NO_TEST = NotDefined("meta-test has not been taken")


_CLEAN = NotDefined("the test was taken in no environment; scenario.environments names some")


@of_episodes
def episode_accuracy(record: EpisodeRecord) -> Value:
    """Mean accuracy over the clean meta-test episodes (Vinyals et al. 2016)."""
    tested = record.tested()
    return _NO_TEST if tested is None else tested.interval.mean


@of_episodes
def environment_accuracy(record: EpisodeRecord) -> Value:
    """Mean accuracy over all environments that the meta-test was taken in."""
    means = [evaluation.interval.mean for evaluation in record.environments.values()]
    return float(np.mean(means)) if means else _CLEAN


@of_episodes
@lower_is_better
def relative_drop(record: EpisodeRecord) -> Value:
    """What environments cost: (clean - mean over environments) / clean accuracy."""
    clean, corrupted = episode_accuracy(record), environment_accuracy(record)
    if isinstance(clean, NotDefined) or isinstance(corrupted, NotDefined):
        return _NO_TEST if isinstance(clean, NotDefined) else _CLEAN
    return (clean - corrupted) / clean if clean else NotDefined("clean accuracy is 0")


@of_episodes
def worst_environment_accuracy(record: EpisodeRecord) -> Value:
    """Mean accuracy in the environment where it is least."""
    means = [evaluation.interval.mean for evaluation in record.environments.values()]
    return min(means) if means else _CLEAN


def by_condition(record: EpisodeRecord) -> dict[str, dict[int, Interval]]:
    """Accuracy in each condition and severity that was tested."""
    rows: dict[str, dict[int, Interval]] = {}
    for name, evaluation in record.environments.items():
        condition, _, severity = name.partition(":")
        rows.setdefault(condition, {})[int(severity)] = evaluation.interval
    return rows
