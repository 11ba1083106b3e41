"""LaplacianShot (Ziko et al., ICML 2020, arXiv 2006.15486): queries that lie together are labelled alike.

Features are those of SimpleShot: an ordinary classifier of the meta-training classes, frozen, its features
centred and brought to length 1. Queries are moved by the mean difference of supports and queries, and
prototypes are mended with them (the authors' rectification); then every query's assignment y minimises its
squared distances a to the prototypes, less the agreement with its nearest queries W (eq. 4), by bound
updates y <- softmax(-a + strength * W y) (eq. 12) until the bound of eq. 8 stands still.

Transductive: all queries of an episode are classified together. Equal to the authors' code
(tests/vectors/method_laplacianshot_a). Differs: `strength` is the user's (they choose it on meta-validation
for each table), and a class that no sample is assigned to keeps its plain prototype (they fail there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.base_training import LinearBase
from streamlab.config import Choice, at_least
from streamlab.needs import EPISODES, Needs
from streamlab.parts.metric_losses import prototypes_of
from streamlab.strategy import ExperienceView, Strategy

CITATION = """
@inproceedings{ziko2020laplacian,
  title = {Laplacian Regularized Few-Shot Learning},
  author = {Ziko, Imtiaz Masud and Dolz, Jose and Granger, Eric and Ben Ayed, Ismail},
  booktitle = {ICML},
  year = {2020},
}
"""
_SHARPNESS, _STILL = 10.0, 1e-6


@dataclass(frozen=True)
class Options:
    """strength: of the agreement with near queries (lambda). neighbours: queries that each agrees with, or
    all others where they are fewer. iterations: bound updates, at most. rectify: whether prototypes are
    mended with the queries.
    """

    strength: float = 1.0
    neighbours: int = 2
    iterations: int = 20
    rectify: bool = True

    def __post_init__(self) -> None:
        at_least("laplacianshot", "strength", self.strength, 0)
        at_least("laplacianshot", "neighbours", self.neighbours, 1)
        at_least("laplacianshot", "iterations", self.iterations, 1)


class LaplacianShot(Strategy):
    """Nearest prototypes, and queries that lie together labelled alike (transductive)."""

    options: Options
    needs = Needs(kinds=EPISODES, transductive=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    base = LinearBase()
    frozen = True
    scores_are_logits = False
    ledger_kinds: ClassVar[dict[str, str]] = {"mean": "statistics"}
    search_space: ClassVar[dict[str, Choice]] = {"strength": Choice((0.1, 0.3, 0.5, 0.7, 0.8, 1.0, 1.2, 1.5))}

    def setup(self) -> None:
        self.mean = torch.zeros(self.net.backbone.feature_size, device=self.setting.device)

    def begin_experience(self, view: ExperienceView) -> None:
        self.mean = view.embeddings(self).mean(0)

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        way, options = int(support_labels.max()) + 1, self.options
        support, query = (F.normalize(part - self.mean, dim=-1) for part in (support, query))
        prototypes = prototypes_of(support, support_labels, way)
        if options.rectify:
            query = query + (support.mean(1, keepdim=True) - query.mean(1, keepdim=True))
            prototypes = rectified(prototypes, torch.cat([support, query], 1))
        distances = torch.cdist(query, prototypes).square()
        near = neighbours(query, options.neighbours)
        return bound_updates(distances, near, options.strength, options.iterations)


def rectified(prototypes: Tensor, samples: Tensor) -> Tensor:
    """(E, W, D) prototypes, (E, N, D) supports and queries -> (E, W, D): means of what is nearest to each, by
    cosine, each sample weighted by its softmax over 10 times the cosines (section 3.4).
    """
    cosines = F.cosine_similarity(samples[:, :, None], prototypes[:, None], dim=-1)
    nearest = F.one_hot(cosines.argmax(-1), prototypes.shape[1]).to(samples)
    weights = (_SHARPNESS * cosines).softmax(-1) * nearest
    counts = nearest.sum(1)[..., None]
    return torch.where(counts > 0, weights.mT @ samples / counts.clamp(min=1), prototypes)


def neighbours(query: Tensor, count: int) -> Tensor:
    """(E, Q, D) -> (E, Q, Q): 1 where the column's query is one of the nearest of the row's; of itself 0."""
    distances = torch.cdist(query, query, compute_mode="donot_use_mm_for_euclid_dist")
    distances.diagonal(dim1=1, dim2=2).fill_(float("inf"))
    near = distances.topk(min(count, query.shape[1] - 1), largest=False).indices
    return torch.zeros_like(distances).scatter_(2, near, 1.0)


def bound_updates(distances: Tensor, near: Tensor, strength: float, iterations: int) -> Tensor:
    """(E, Q, W) squared distances, (E, Q, Q) neighbours -> (E, Q, W) assignments, each episode's until its
    bound changes by a millionth at most.
    """
    found = (-distances).softmax(-1)
    before = torch.full_like(distances[:, 0, 0], float("inf"))
    going = torch.ones_like(before, dtype=torch.bool)
    for number in range(iterations):
        updated = (strength * near @ found - distances).softmax(-1)
        found = torch.where(going[:, None, None], updated, found)
        terms = found.clamp(min=1e-20).log() + distances - strength * near @ found
        bound = (found * terms).sum((1, 2))
        if number > 1:
            going = going & ((bound - before).abs() > _STILL * before.abs())
        before = bound
    return found
