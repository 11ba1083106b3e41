"""The record of a run of episodes: its plan and what it was judged by, saved and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CorruptFile
from ..files import read_arrays, write_bytes
from ..plans.episodes import EpisodePlan, Phase
from .intervals import Interval, normal_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class EpisodeEvaluation:
    """One phase's episodes, judged. samples_seen: training episodes by then. environment: "" is clean.

    accuracy: (E,) float32, the share of right answers in each episode. confusion: (way, way) int64, queries
    of each place of the way (row) taken for each (column). geometry: see geometry.py (None: not recorded).
    """

    samples_seen: int
    phase: Phase
    environment: str
    accuracy: NDArray[np.float32]
    confusion: NDArray[np.int64]
    geometry: Mapping[str, float] | None = None

    @cached_property
    def interval(self) -> Interval:
        """Mean accuracy ± 1.96 s / sqrt(n) over the episodes."""
        return normal_interval(self.accuracy.astype(np.float64).tolist())


@dataclass(frozen=True, eq=False)
class EpisodeRecord:
    """A run's plan of episodes and its evaluations, in order. name: the run's folder."""

    plan: EpisodePlan
    evaluations: tuple[EpisodeEvaluation, ...]
    name: str = ""

    def tested(self, environment: str = "") -> EpisodeEvaluation | None:
        """The meta-test, clean or in an environment; None before it was taken."""
        tested = [e for e in self.evaluations if e.phase == "test" and e.environment == environment]
        return tested[-1] if tested else None

    @cached_property
    def environments(self) -> dict[str, EpisodeEvaluation]:
        """The meta-test in each environment, by name, as far as it was taken."""
        found = {name: self.tested(name) for name in self.plan.environments}
        return {name: evaluation for name, evaluation in found.items() if evaluation is not None}


def save_episode_evaluation(evaluation: EpisodeEvaluation, path: Path) -> str:
    """Write one evaluation as a small safetensors file, whole or not at all; returns its SHA-256."""
    from safetensors.numpy import save

    about = {name: getattr(evaluation, name) for name in ("samples_seen", "phase", "environment", "geometry")}
    arrays: dict[str, NDArray[Any]] = {"accuracy": evaluation.accuracy, "confusion": evaluation.confusion}
    return write_bytes(path, save(arrays, metadata={"episodes": json.dumps(about)}))


def load_episode_evaluation(path: Path) -> EpisodeEvaluation:
    """Read what `save_episode_evaluation` wrote; raises CorruptFile."""
    about, arrays = read_arrays(path, "episodes")
    try:
        return EpisodeEvaluation(**about, accuracy=arrays["accuracy"], confusion=arrays["confusion"])
    except (KeyError, TypeError) as error:
        raise CorruptFile(f"{path} is not a saved evaluation of episodes: {error}") from None
