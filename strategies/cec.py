"""CEC: a graph of classifiers that evolves with each session (Zhang et al., CVPR 2021, arXiv 2104.03047).

After base training, sessions are played with base classes: an episode has some of them, and as many made of
the first ones by turning their images. Class means of the supports and each query attend to one another
(one head, a residual, layer normalisation), and cosines between what comes of them are learned; backbone and
attention have rates of their own. Afterwards nothing learns: a class is the mean of its features, and every
image attends to all classes seen.

As the authors' code: batch normalisation keeps its running statistics while sessions are played, dropout is
never on, the rates fall by steps of epochs. Differs: the network of the last epoch stays; theirs is the one
that is best on the test images of all sessions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.augmentation.views import Views
from streamlab.base_training import CosineBase
from streamlab.config import Range, Searched, at_least, within
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.optimizer import SGD
from streamlab.parts.prototypes import class_means, set_rows
from streamlab.parts.turning import check_square
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zhang2021cec,
  title = {Few-Shot Incremental Learning with Continually Evolved Classifiers},
  author = {Zhang, Chi and Song, Nan and Lin, Guosheng and Zheng, Yun and Pan, Pan and Xu, Yinghui},
  booktitle = {CVPR},
  year = {2021},
}
"""
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
AT_ONCE = 100  # images that are judged at a time: each looks at all classes, and these at one another


@dataclass(frozen=True)
class Options:
    """Of the sessions that are played with base classes: epochs of `episodes` each; way: classes, and as many
    that are turned; shot, query: images of each; rate: of the backbone, graph_rate: of the attention; both
    are times gamma every `step` epochs.
    """

    epochs: int = 5
    episodes: int = 50
    way: int = 15
    shot: int = 1
    query: int = 15
    rate: float = 0.0002
    graph_rate: float = 0.0002
    step: int = 20
    gamma: float = 0.5

    def __post_init__(self) -> None:
        for name in ("episodes", "way", "shot", "query", "step"):
            at_least("cec", name, getattr(self, name), 1)
        for name in ("epochs", "rate", "graph_rate"):
            at_least("cec", name, getattr(self, name), 0)
        within("cec", "gamma", self.gamma, 0, 1)


class Attention(nn.Module):
    """Class means and what is judged look at one another, in one head with a residual."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(size, size, bias=False) for _ in range(3))
        self.out, self.norm = nn.Linear(size, size), nn.LayerNorm(size)
        for linear in (self.query, self.key, self.value):
            nn.init.normal_(linear.weight, std=size**-0.5)
        nn.init.xavier_normal_(self.out.weight)

    def cosines(self, means: Tensor, features: Tensor) -> Tensor:
        """(C, D) class means, (B, D) features -> (B, C) cosines, once each and all means have attended."""

        def members(of: nn.Module) -> Tensor:
            return torch.cat([of(means).expand(len(features), -1, -1), of(features)[:, None]], 1)

        weights = members(self.query) @ members(self.key).transpose(1, 2) / math.sqrt(means.shape[1])
        found = self.out(weights.softmax(2) @ members(self.value))
        evolved = self.norm(found + members(nn.Identity()))
        return F.cosine_similarity(evolved[:, -1:], evolved[:, :-1], dim=2)


def turned(images: Tensor, quarters: Tensor) -> Tensor:
    """(n, C, S, S) images, each turned by so many quarters (n,) of 1, 2 or 3."""
    ways = torch.stack([images.rot90(quarter, (2, 3)) for quarter in (1, 2, 3)])
    return ways[quarters - 1, torch.arange(len(images), device=images.device)]


class EvolvedClassifiers(Strategy):
    """Class means that attend to one another and to what is judged."""

    options: Options
    needs = Needs(kinds=SESSIONS)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet", "blocks": 3}
    base = CosineBase()
    ledger_kinds: ClassVar[dict[str, str]] = {"graph": "head"}
    search_space: ClassVar[dict[str, Searched]] = {
        "rate": Range(1e-5, 0.01), "graph_rate": Range(1e-5, 0.01)
    }  # fmt: skip

    def setup(self) -> None:
        setting, size = self.setting, self.net.backbone.feature_size
        check_square("cec", setting.image_shape)
        self.graph = Attention(size).to(setting.device)
        self.views = Views(setting.augment.steps, setting.seed, "cec", "view")
        self.played = False

    def observe(self, batch: Batch) -> dict[str, Tensor]:
        return {}  # it learns when the base session has ended

    def end_experience(self, view: ExperienceView) -> None:
        if view.number == 0:
            self.play(view)
        set_rows(self.net.head, *class_means(view.embeddings(self), view.labels))

    def play(self, view: ExperienceView) -> None:
        """Sessions of base classes; those that have no image left for a query are not among them."""
        options, own = self.options, [view.of_class(label).images for label in view.classes]
        own = [images for images in own if len(images) > options.shot]
        if not own or not options.epochs:
            return
        self.played, query = True, min(options.query, min(map(len, own)) - options.shot)
        parts, rates = (self.net.backbone, self.graph), (options.rate, options.graph_rate)
        groups = [{"params": list(part.parameters())} for part in parts]
        optimizer = SGD(groups, options.rate, MOMENTUM, WEIGHT_DECAY, nesterov=True)
        self.train_mode(False)
        with torch.enable_grad():
            for episode in range(options.epochs * options.episodes):
                falls = episode // options.episodes // options.step
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * options.gamma**falls
                optimizer.zero_grad()
                torch.autograd.backward(self.episode_loss(*self.drawn(own, query)))
                optimizer.step()
        optimizer.zero_grad()
        self.train_mode(True)

    def drawn(self, own: list[Tensor], query: int) -> tuple[Tensor, Tensor, Tensor]:
        """Supports (shot, way, C, S, S), queries (query, way, …), quarters (way,) by which classes turn."""
        way, shot = min(self.options.way, len(own)), self.options.shot
        picked = []
        for label in torch.randperm(len(own))[:way].tolist():
            rows = torch.randperm(len(own[label]))[: shot + query]
            picked.append(own[label][rows.to(own[label].device)])
        seen = self.views.of(torch.cat(picked))
        images = seen.view(way, shot + query, *seen.shape[1:]).transpose(0, 1)
        return images[:shot], images[shot:], torch.randint(1, 4, (way,)).to(images.device)

    def episode_loss(self, support: Tensor, queries: Tensor, quarters: Tensor) -> Tensor:
        """Cross-entropy of queries among the episode's classes and these, turned; a scalar."""
        way = len(quarters)
        shown = torch.cat([support, queries])
        again = turned(shown.flatten(0, 1), quarters.repeat(len(shown)))
        features = self.net.features(torch.cat([shown.flatten(0, 1), again]))
        features = torch.cat(features.view(2, len(shown), way, -1).unbind(), 1)
        means, judged = features[: len(support)].mean(0), features[len(support) :].flatten(0, 1)
        labels = torch.arange(2 * way, device=features.device).repeat(len(queries))
        cosines = self.graph.cosines(means, judged)
        return F.cross_entropy(self.setting.base.temperature * cosines, labels)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        weight, known = cast(Tensor, self.net.head.weight), self.exposed.nonzero().flatten()
        if not self.played:  # the attention is as it was drawn
            return self.setting.base.temperature * F.normalize(embedding) @ F.normalize(weight).T
        scores = embedding.new_zeros(len(embedding), len(weight))
        found = [self.graph.cosines(weight[known], part) for part in torch.split(embedding, AT_ONCE)]
        scores[:, known] = self.setting.base.temperature * torch.cat(found)
        return scores
