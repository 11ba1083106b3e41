"""Judges a strategy on episodes, clean and in environments, and keeps what its metrics need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.split import Split
from ..episodes import EpisodePlan, Episodes, Phase
from ..errors import CorruptFile, StreamlabError
from ..parts.features import FeatureCache, features_file
from ..strategy import Strategy, embeds_features
from .geometry import chosen, measure_geometry
from .intervals import Interval, normal_interval
from .metrics import NotDefined, Value, lower_is_better, of_episodes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOGETHER = 250  # episodes classified at a time, given features


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
        own = [e for e in self.evaluations if e.phase == "test" and e.environment == environment]
        return own[-1] if own else None

    @cached_property
    def environments(self) -> dict[str, EpisodeEvaluation]:
        """The meta-test in each environment, by name, as far as it was taken."""
        found = {name: self.tested(name) for name in self.plan.environments}
        return {name: evaluation for name, evaluation in found.items() if evaluation is not None}


class EpisodeEvaluator:
    """Predicts the queries of a phase's episodes.

    Where a strategy's scores follow from features alone, each image that the episodes need goes through
    the network once, however many episodes there are. record: "geometry" measures feature space too.
    """

    def __init__(
        self,
        plan: EpisodePlan,
        images: Split,
        record: frozenset[str] = frozenset(),
        batch_size: int = 500,
        cache_bytes: int = 1 << 30,
        source_digest: str = "",
    ) -> None:
        self.plan, self.images, self.record = plan, images, record
        self.batch_size, self.cache_bytes, self.source_digest = batch_size, cache_bytes, source_digest
        self.samples = len(images.labels)
        self._caches: dict[int, FeatureCache] = {}

    def forget(self) -> None:
        """The network has changed."""
        self._caches.clear()

    def keep(self) -> None:
        """Keep the features of a frozen network for other runs."""
        for cache in self._caches.values():
            cache.keep()

    @torch.no_grad()
    def evaluate(
        self, strategy: Strategy, phase: Phase, samples_seen: int, environment: str = ""
    ) -> EpisodeEvaluation:
        """Judge the strategy on a phase's episodes; raises StreamlabError for scores of a wrong shape."""
        episodes, device = self.plan.phases[phase], self.images.device
        under = 1 + self.plan.environments.index(environment) if environment else 0
        shift = under * self.samples
        support_shift = shift if self.plan.worn_by != "queries" else 0
        query_shift = shift if self.plan.worn_by != "supports" else 0
        from_features = type(strategy).predict_episodes is Strategy.predict_episodes
        self._caches = {number: cache for number, cache in self._caches.items() if number == 0}
        if from_features and self.cache_bytes:
            self._compute(strategy, episodes, support_shift, query_shift)
        each = len(episodes.support_slots) + len(episodes.query_slots)
        together = _TOGETHER if from_features else max(1, self.batch_size // each)
        accuracy: list[Tensor] = []
        confusion = torch.zeros(episodes.way, episodes.way, dtype=torch.int64, device=device)
        for start in range(0, len(episodes), together):
            count = min(together, len(episodes) - start)
            numbers = torch.arange(start, start + together, device=device).clamp(max=start + count - 1)
            support, query, labels, answers = episodes.parted(episodes.draw(numbers))
            support, query, labels = support + support_shift, query + query_shift, labels.expand(together, -1)
            if from_features:
                given = self._features(strategy, support), labels, self._features(strategy, query)
                scores = strategy.classify_episodes(*given)
            else:
                scores = strategy.predict_episodes(self._images(support), labels, self._images(query))
            taken = _checked(scores, (together, query.shape[1], episodes.way))[:count].argmax(2)
            accuracy.append((taken == answers).float().mean(1))
            pairs = (answers * episodes.way + taken).flatten()
            confusion += torch.bincount(pairs, minlength=confusion.numel()).view_as(confusion)
        kept = self._geometry(strategy, phase) if "geometry" in self.record and not environment else None
        shares = torch.cat(accuracy).cpu().numpy()
        return EpisodeEvaluation(samples_seen, phase, environment, shares, confusion.cpu().numpy(), kept)

    def _compute(self, strategy: Strategy, episodes: Episodes, support_shift: int, query_shift: int) -> None:
        """Every feature that the episodes need, in full batches."""
        numbers = torch.arange(len(episodes), device=self.images.device)
        support, query, _, _ = episodes.parted(episodes.draw(numbers))
        needed = [support + support_shift, query + query_shift]
        rows = np.unique(torch.cat([part.flatten() for part in needed]).cpu().numpy())
        for under in np.unique(rows // self.samples).tolist():
            self._cache(strategy, under).at(rows[rows // self.samples == under] % self.samples)

    def _features(self, strategy: Strategy, rows: Tensor) -> Tensor:
        """(E, n) indices under one transform -> (E, n, D)."""
        under = int(rows[0, 0]) // self.samples
        own = rows.flatten().cpu().numpy() % self.samples
        return self._cache(strategy, under).at(own).view(*rows.shape, -1)

    def _images(self, rows: Tensor) -> Tensor:
        """(E, n) indices -> (E, n, C, H, W) uint8."""
        images = self.images.images_at(rows.flatten())
        return images.view(*rows.shape, *images.shape[1:])

    def _cache(self, strategy: Strategy, under: int) -> FeatureCache:
        """The features of all samples under one transform; of clean images kept until the network changes."""
        if under not in self._caches:
            kept = strategy.frozen and embeds_features(strategy) and bool(self.source_digest) and under == 0
            name = repr((self.source_digest, "both splits", self.samples))
            device = self.images.device

            def compute(rows: NDArray[np.int64]) -> Tensor:
                own = torch.from_numpy(rows).to(device) + under * self.samples
                return strategy.embed(self.images.images_at(own))

            file = features_file(strategy.net, name) if kept else None
            self._caches[under] = FeatureCache(
                self.samples, self.batch_size, compute, self.cache_bytes, file, device
            )
        return self._caches[under]

    def _geometry(self, strategy: Strategy, phase: Phase) -> dict[str, float]:
        """Of the phase's classes, in the features of the clean images."""
        samples = self.plan.phases[phase].samples
        rows = samples[chosen(len(samples), self.plan.seed)]
        labels = self.images.labels[torch.from_numpy(rows).to(self.images.device)]
        return measure_geometry(self._cache(strategy, 0).at(rows), labels)


def _checked(scores: Tensor, expected: tuple[int, int, int]) -> Tensor:
    if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise StreamlabError(f"predict_episodes gave {found}, and must give scores of shape {expected}")
    if torch.isnan(scores).any():
        raise StreamlabError("predict_episodes gave scores that are not numbers (NaN)")
    return scores


def save_episode_evaluation(evaluation: EpisodeEvaluation, path: Path) -> None:
    """Write one evaluation as a small safetensors file, whole or not at all."""
    from safetensors.numpy import save

    from ..runs.files import write_bytes

    about = {name: getattr(evaluation, name) for name in ("samples_seen", "phase", "environment", "geometry")}
    arrays: dict[str, NDArray[Any]] = {"accuracy": evaluation.accuracy, "confusion": evaluation.confusion}
    write_bytes(path, save(arrays, metadata={"episodes": json.dumps(about)}))


def load_episode_evaluation(path: Path) -> EpisodeEvaluation:
    """Read what `save_episode_evaluation` wrote; raises CorruptFile."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["episodes"])
            return EpisodeEvaluation(
                **about, accuracy=file.get_tensor("accuracy"), confusion=file.get_tensor("confusion")
            )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{path} is not a saved evaluation of episodes: {error}") from None


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
    clean, worn = episode_accuracy(record), environment_accuracy(record)
    if isinstance(clean, NotDefined) or isinstance(worn, NotDefined):
        return _NO_TEST if isinstance(clean, NotDefined) else _CLEAN
    return (clean - worn) / clean if clean else NotDefined("clean accuracy is 0")


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
