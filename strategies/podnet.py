"""PODNet (Douillard et al., ECCV 2020): maps and features are distilled where they are pooled, classes have
proxies.

As the class-incremental survey's code, which the paper's equations are read by: a class's score is the mean
of the cosines to its proxies, weighted by their own softmax (eq. 3), times a learned scale; the loss is
NCA's, without the right class in its denominator (eq. 4); the maps at the end of each stage are squared,
summed over width and over height, and kept near the old network's (eq. 1), as are the features, by their
cosine; both count sqrt(classes / new classes) as much (sec. 3.4). The old classes' proxies are not learned.
At a session's end exemplars are herded, and the network learns from them alone, at a small rate. Differs:
exemplars are replayed beside each batch, as many as shuffling would put into it (`replay_size`: so many
instead), and the second stage has what the budget holds (theirs a little more, until it is cut). Their own
code imprints new proxies by k-means, scales by a factor of 1 in the distance, weighs maps by 3 and tunes
the classifier alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.network import Network, frozen_copy
from streamlab.nets.optimizer import build_optimizer, scale_rate
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.rehearsal import Rehearsal
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{douillard2020podnet,
  title = {{PODNet}: Pooled Outputs Distillation for Small-Tasks Incremental Learning},
  author = {Douillard, Arthur and Cord, Matthieu and Ollion, Charles and Robert, Thomas and Valle, Eduardo},
  booktitle = {ECCV},
  year = {2020},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """proxies: of a class; spatial, flat: weights of both distillations; replay_size: exemplars replayed
    beside each batch (0: their share of the data); tuning_epochs, tuning_lr, tuning_batch: of the stage on
    exemplars alone. icnn, proto_triplet, margin: metric losses on new and replayed features
    (`streamlab.parts.metric_losses`).
    """

    proxies: int = 10
    spatial: float = 5.0
    flat: float = 1.0
    replay_size: int = 0
    tuning_epochs: int = 20
    tuning_lr: float = 0.005
    tuning_batch: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("podnet", "proxies", self.proxies, 1)
        for name in ("spatial", "flat", "replay_size", "tuning_epochs"):
            at_least("podnet", name, getattr(self, name), 0)
        at_least("podnet", "tuning_lr", self.tuning_lr, 1e-9)
        at_least("podnet", "tuning_batch", self.tuning_batch, 1)


class ProxyHead(nn.Module):
    """(B, D) features -> (B, K): scale · the softmax-weighted mean of the cosines to a class's proxies (eq.
    3).

    held: (K, P, D) proxies that are not learned; learned: (n, P, D) those of `classes`, (n,) int64, that are.
    """

    def __init__(self, size: int, classes: int, proxies: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.held: Tensor
        self.classes: Tensor
        self.register_buffer("held", _drawn(classes, proxies, size))
        self.register_buffer("classes", torch.zeros(0, dtype=torch.int64))
        self.learned = nn.Parameter(torch.zeros(0, proxies, size))

    @torch.no_grad()
    def begin(self, classes: Sequence[int]) -> None:
        """From now on the proxies of these classes are learned, from new draws, and no others."""
        device, (_, proxies, size) = self.held.device, self.held.shape
        self.held = self.proxies()
        self.classes = torch.tensor(classes, dtype=torch.int64, device=device)
        self.learned = nn.Parameter(_drawn(len(classes), proxies, size).to(device))

    def proxies(self) -> Tensor:
        """(K, P, D), the learned ones among them."""
        return self.held.index_copy(0, self.classes, self.learned)

    def forward(self, features: Tensor) -> Tensor:
        every = self.proxies()
        cosines = F.normalize(features) @ F.normalize(every, dim=2).flatten(0, 1).T
        each = cosines.view(len(features), *every.shape[:2])
        merged: Tensor = (each.softmax(2) * each).sum(2)
        return self.scale * merged


def _drawn(classes: int, proxies: int, size: int) -> Tensor:
    """(classes, P, D) uniform within 1 / sqrt(D) of 0."""
    return (2 * torch.rand(classes, proxies, size) - 1) / math.sqrt(size)


def nca_loss(scores: Tensor, labels: Tensor, among: Tensor) -> Tensor:
    """Eq. 4 of scores (B, K), labels (B,), among: (K,) bool, the classes that compete; a scalar.

    -log of exp(q_y) over 1 + the sum of exp(q_c) of the other classes, where q is a score less the largest; a
    margin that is taken from all classes alike cancels.
    """
    scores = scores.masked_fill(~among, float("-inf"))
    scores = scores - scores.amax(1, keepdim=True)
    right = labels[:, None] == torch.arange(scores.shape[1], device=labels.device)
    others = scores.exp().masked_fill(right, 0.0).sum(1)
    return -(scores.gather(1, labels[:, None])[:, 0] - (1 + others).log()).mean()


def spatial_loss(maps: Sequence[Tensor], old: Sequence[Tensor]) -> Tensor:
    """Eq. 1, POD of width and height: of each stage, new and old maps (B, C, H, W); a scalar, their mean."""
    apart = [_pooled(new) - _pooled(before) for new, before in zip(maps, old, strict=True)]
    return torch.stack([stage.norm(dim=1).mean() for stage in apart]).mean()


def _pooled(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C·H + C·W) of length 1: squares summed over the width, and over the height."""
    squares = maps.square()
    return F.normalize(torch.cat([squares.sum(3).flatten(1), squares.sum(2).flatten(1)], 1))


class PooledOutputsDistillation(Strategy):
    """Eq. 8: NCA + factor · (5 · POD of the maps + POD of the features)."""

    options: Options
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    needs = Needs(
        kinds=SESSIONS, boundaries=True, learning_backbone=True, new_classes=True, exemplars_per_class=1
    )
    ledger_kinds: ClassVar[dict[str, str]] = {"teacher": "extra models", "old": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "spatial": Choice((1.0, 3.0, 5.0)),
    }  # fmt: skip

    def setup(self) -> None:
        self.buffer = self.make_herded_buffer()
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.head = ProxyHead(self.net.backbone.feature_size, self.setting.num_classes, self.options.proxies)
        self.replace_head(self.head)
        self.teacher: Network | None = None
        self.old = torch.zeros_like(self.exposed)

    def begin_experience(self, view: ExperienceView) -> None:
        """New proxies for its classes, and momentum forgotten."""
        self.rehearsal.begin(self.buffer, view)
        known = self.old.tolist()
        self.head.begin([label for label in sorted(set(view.classes)) if not known[label]])
        self.optimizer = self.make_optimizer(self.trained_parameters())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses_of(batch.joined(self.buffer.draw(self.rehearsal.beside(batch))))

    def losses_of(self, batch: Batch) -> dict[str, Tensor]:
        """Of a batch that has what is replayed in it."""
        seen = self.exposed | self.current_classes
        features, maps = self.net.staged(batch.images)
        losses = {"task": nca_loss(self.net.head(features), batch.labels, seen)}
        if self.teacher is not None:
            with torch.no_grad():
                old_features, old_maps = self.teacher.staged(batch.images)
            factor = (seen.sum() / (seen & ~self.old).sum().clamp(min=1)).sqrt()
            flat = (1 - F.cosine_similarity(features, old_features)).mean()
            losses["flat"] = self.options.flat * factor * flat
            losses["spatial"] = self.options.spatial * factor * spatial_loss(maps, old_maps)
        return {**losses, **self.options.of(features, batch.labels)}

    def end_experience(self, view: ExperienceView) -> None:
        self.buffer.herd(view, self.features_of)
        if self.teacher is not None and len(self.buffer):
            self.tune_on_exemplars()
        self.teacher, self.old = frozen_copy(self.net), self.exposed.clone()

    def tune_on_exemplars(self) -> None:
        """Learn from exemplars alone, as many of each class, at a small rate that falls by a cosine."""
        options, exemplars = self.options, self.buffer.everything()
        config = replace(self.setting.optimizer, lr=options.tuning_lr)
        learned = self.trained_parameters()
        optimizer = build_optimizer(config, learned, self.net.backbone.parameters())
        self.train_mode(True)
        for epoch in range(options.tuning_epochs):
            scale_rate(optimizer, (1 + math.cos(math.pi * epoch / options.tuning_epochs)) / 2)
            order = torch.randperm(len(exemplars), device=exemplars.labels.device)
            for rows in torch.split(order, options.tuning_batch):
                if len(rows) == 1 < len(exemplars):
                    continue  # batch normalisation has no variance of one sample
                losses = self.losses_of(exemplars.at(rows).in_view())
                optimizer.zero_grad()
                torch.autograd.backward(sum(losses.values(), torch.zeros_like(losses["task"])))
                if config.clip:
                    nn.utils.clip_grad_norm_(learned, config.clip)
                optimizer.step()
        optimizer.zero_grad()

    def bytes_to_come(self, experiences: int = 1) -> int:
        comes = self.teacher is None
        network = sum(tensor.nbytes for tensor in self.net.state_dict().values())
        new = self.setting.num_classes * self.head.held[0].nbytes  # at most, of an experience's own proxies
        return (network + new if comes else 0) + (new if len(self.head.classes) == 0 else 0)
