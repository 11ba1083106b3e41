"""Judges a strategy on episodes, clean and in environments, and keeps what its metrics need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.split import Split
from ..errors import StreamlabError
from ..plans.episodes import EpisodePlan, Episodes, Phase
from ..strategy import Strategy, embeds_features
from .episode_record import EpisodeEvaluation
from .features import FeatureCache, features_file
from .geometry import chosen, measure_geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOGETHER = 250  # episodes classified at a time, given features


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
        self.batch_size = batch_size
        self.cache_bytes, self.source_digest = cache_bytes, source_digest
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
        support_shift = shift if self.plan.corrupted != "queries" else 0
        query_shift = shift if self.plan.corrupted != "supports" else 0
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
        places = rows.flatten().cpu().numpy() % self.samples
        return self._cache(strategy, under).at(places).view(*rows.shape, -1)

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
                indices = torch.from_numpy(rows).to(device) + under * self.samples
                return strategy.embed(self.images.images_at(indices))

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
