"""OnPro: online prototypes of classes, and exemplars mixed where prototypes lie close (Wei et al., ICCV 2023,
arXiv 2308.00301).

As in OCM, images are turned in sixteen ways and InfoNCE is asked of them. Beside it, the means of a class's
projections in two views (its online prototypes, of the batch and of the exemplars drawn) are told from those
of all other classes. From the second batch of a later experience on, cross-entropy and InfoNCE are of mixed
exemplars: most are drawn ones mixed with one another, the rest pairs of two classes, which are drawn the more
often the closer their prototypes lie.

As the authors' code, equal to it in a test: a mixture's class in InfoNCE is the number between both labels;
in the first experience labels are learned of the batch, later of exemplars alone. Differs: MixUp's images
are whole levels, and an image that is mixed with one of its class is of that class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least, within
from streamlab.needs import Needs
from streamlab.parts.mutual_information import (
    ProjectingHead,
    info_nce,
    info_nce_of_pairs,
    passed,
    seen_turned,
)
from streamlab.parts.turning import check_square, turned_labels, turning_views
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{wei2023onpro,
  title = {Online Prototype Learning for Online Continual Learning},
  author = {Wei, Yujie and Ye, Jiaxin and Huang, Zhizhong and Zhang, Junping and Shan, Hongming},
  booktitle = {ICCV},
  year = {2023},
}
"""


@dataclass(frozen=True)
class Options:
    """replay_size: exemplars of a step, at most `per_class` times the classes seen; projection: its width (at
    most the number of features); temperature, prototype_temperature: of InfoNCE and of the prototypes' loss;
    similarity: weight of similarities after the first experience. plain_share: of the mixed exemplars, those
    that are mixed with any other; mixing: how often that is done, by a share of at most `most`; alpha: both
    numbers of the Beta distribution of shares within a pair of classes.
    """

    replay_size: int = 64
    per_class: int = 7
    projection: int = 128
    temperature: float = 0.07
    prototype_temperature: float = 0.5
    similarity: float = 0.5
    plain_share: float = 0.75
    mixing: float = 0.6
    most: float = 0.6
    alpha: float = 0.4

    def __post_init__(self) -> None:
        for name in ("replay_size", "per_class", "projection"):
            at_least("onpro", name, getattr(self, name), 1)
        for name in ("temperature", "prototype_temperature", "alpha"):
            at_least("onpro", name, getattr(self, name), 1e-3)
        at_least("onpro", "similarity", self.similarity, 0)
        for name in ("plain_share", "mixing", "most"):
            within("onpro", name, getattr(self, name), 0, 1)


@dataclass(frozen=True, eq=False)
class Mixtures:
    """images: (m, C, S, S) uint8; labels, others: (m,) int64; shares: (m,) that the other image has."""

    images: Tensor
    labels: Tensor
    others: Tensor
    shares: Tensor

    @property
    def between(self) -> Tensor:
        """(m,): the number between both labels that is a mixture's class in InfoNCE."""
        return torch.lerp(self.labels.to(self.shares), self.others.to(self.shares), self.shares)


def mixed(images: Tensor, others: Tensor, shares: Tensor) -> Tensor:
    """(m, C, S, S) uint8 twice, (m,) shares of the other -> whole levels."""
    parts = shares.to(torch.float32)[:, None, None, None]
    return torch.lerp(images.float(), others.float(), parts).round_().to(torch.uint8)


def means_of_all(points: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(n, P) of length 1, (n,) -> (classes, P) means; 0 of a class without any."""
    member = (labels == torch.arange(classes, device=labels.device)[:, None]).to(points)
    return member @ points / member.sum(1, keepdim=True).clamp(min=1)


def prototype_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """(K, P) prototypes in two views, rows of 0 where a class has none: each is near to its other view.

    Cross-entropy among the prototypes of both views, itself left out. Source: Wei et al., eq. 4.
    """
    there = torch.cat([first, second]).any(1)
    points = F.normalize(torch.cat([first, second]))
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    logits = (points @ points.T / temperature).masked_fill(itself | ~there, float("-inf"))
    partner = torch.arange(len(points), device=points.device).roll(len(first))
    gap = logits.logsumexp(1) - logits.gather(1, partner[:, None])[:, 0]
    return torch.where(there, gap, 0.0).sum() / there.sum()


def pair_counts(prototypes: list[Tensor], count: int) -> list[int]:
    """How many of `count` mixtures each pair of prototypes (P,) gets: softmax(1 / distance) of them, rounded.

    Pairs as itertools.combinations has them; what rounding leaves over or overdraws, drawn pairs get or give.
    """
    chances = (1 / torch.pdist(torch.stack(prototypes))).softmax(0)
    counts = (chances * count).round()
    left = count - int(counts.sum())
    if left > 0:
        counts[torch.randperm(len(counts))[:left]] += 1
    elif left < 0:
        had = torch.nonzero(counts).flatten()
        counts[had[torch.randperm(len(had))[:-left]]] -= 1
    return [int(number) for number in counts.tolist()]


class OnlinePrototypes(Strategy):
    """InfoNCE over turned images, prototypes told apart, exemplars mixed where these lie close."""

    options: Options
    needs = Needs(boundaries=True, learning_backbone=True)
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "name": "adam", "lr": 0.0005, "weight_decay": 1e-4, "options": {"betas": (0.9, 0.99)},
    }  # fmt: skip
    ledger_kinds: ClassVar[dict[str, str]] = {"prototypes": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.0001, 0.01), "mixing": Choice((0.2, 0.4, 0.6)),
        "plain_share": Choice((0.5, 0.75, 0.9)),
    }  # fmt: skip

    def setup(self) -> None:
        setting = self.setting
        check_square("onpro", setting.image_shape)
        size, classes = self.net.backbone.feature_size, setting.num_classes
        head = ProjectingHead(size, classes, self.options.projection)
        self.replace_head(head)
        self.buffer = self.make_buffer()
        self.second = turning_views(setting.seed, setting.image_shape[0])
        self.prototypes = torch.zeros(classes, head.projection.out_features, device=setting.device)
        self.known: set[int] = set()  # classes that have come
        self.number = self.batches = 0  # of the experience, and batches of it that were learned

    def begin_experience(self, view: ExperienceView) -> None:
        self.number, self.batches = view.number, 0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.known.update(batch.label_list)
        first, self.batches = self.batches == 0, self.batches + 1
        if self.number and len(self.buffer):
            size = min(self.options.replay_size, self.options.per_class * len(self.known))
            return self.losses_beside(batch, self.buffer.draw(size), not first)
        (new,) = seen_turned(self.net, self.second, batch.images)
        labels = turned_labels(batch.labels, self.setting.num_classes).repeat(2)
        losses = {"information": info_nce_of_pairs(new.similar, labels, self.options.temperature)}
        if len(self.buffer):
            losses["seen"] = self.seen_loss(self.buffer.draw(self.options.replay_size))
        losses["new"] = self.new_loss(new.projected, batch.labels)
        losses["task"] = F.cross_entropy(self.net(self.second.of(batch.images)), batch.labels)
        return losses

    def losses_beside(self, batch: Batch, held: Batch, mixes: bool) -> dict[str, Tensor]:
        """From the second experience on: exemplars, mixed or as they are, beside the batch."""
        options, classes = self.options, self.setting.num_classes
        learned = self.mixtures(held) if mixes else _unmixed(held)
        new, replayed = seen_turned(self.net, self.second, batch.images, learned.images)
        labels = [turned_labels(part, classes).repeat(2) for part in (batch.labels, learned.between)]
        logits = self.net(self.second.of(learned.images))
        each, other = (F.cross_entropy(logits, y, reduction="none") for y in (learned.labels, learned.others))
        seen = self.seen_loss(held)
        return {
            "replayed": info_nce(options.similarity * replayed.similar, labels[1], options.temperature),
            "information": info_nce_of_pairs(
                options.similarity * new.similar, labels[0], options.temperature
            ),
            "seen": seen,
            "new": self.new_loss(new.projected, batch.labels),
            "task": torch.lerp(each, other, learned.shares).mean(),
        }

    def seen_loss(self, held: Batch) -> Tensor:
        """Prototypes of exemplars in two views told apart; their means are kept for what is mixed next."""
        both = torch.cat([held.images, self.second.of(held.images)])
        points = F.normalize(passed(self.net, both)[0])
        classes = self.setting.num_classes
        first, second = (means_of_all(part, held.labels, classes) for part in points.chunk(2))
        self.prototypes = ((first + second) / 2).detach()
        return prototype_loss(first, second, self.options.prototype_temperature)

    def new_loss(self, projected: Tensor, labels: Tensor) -> Tensor:
        """Prototypes of the batch told apart, of its images as they are and of second views; (32 n, P)."""
        points, count = F.normalize(projected), len(labels)
        classes, second = self.setting.num_classes, len(projected) // 2
        one, other = (means_of_all(points[at : at + count], labels, classes) for at in (0, second))
        return prototype_loss(one, other, self.options.prototype_temperature)

    def mixtures(self, held: Batch) -> Mixtures:
        """As many mixtures as exemplars were drawn: of them with one another, and of pairs of classes."""
        plain = int(len(held) * self.options.plain_share)
        rows = torch.randperm(len(held))[:plain].to(held.labels.device)
        partners = rows[torch.randperm(plain).to(rows.device)]
        drawn = torch.rand(plain) < self.options.mixing
        shares = (drawn * self.options.most * torch.rand(plain)).to(self.prototypes)
        images = mixed(held.images[rows], held.images[partners], shares)
        parts = [Mixtures(images, held.labels[rows], held.labels[partners], shares)]
        parts += self.pairs(len(held) - plain)  # all in one, if there are any
        columns = zip(*((one.images, one.labels, one.others, one.shares) for one in parts), strict=True)
        return Mixtures(*(torch.cat(column) for column in columns))

    def pairs(self, count: int) -> list[Mixtures]:
        """`count` mixtures of exemplars of two classes, the more the closer their prototypes lie.

        A class that no exemplar is left of gives way to another, drawn.
        """
        prototypes = self.prototypes.cpu()
        classes = torch.nonzero(prototypes.any(1)).flatten().tolist()
        if not count or len(classes) < 2:
            return []
        slots: dict[int, list[int]] = {}
        for slot, label in enumerate(self.buffer.labels[: len(self.buffer)].tolist()):
            slots.setdefault(label, []).append(slot)
        firsts, seconds, shares = list[int](), list[int](), list[Tensor]()
        counts = pair_counts([prototypes[label] for label in classes], count)
        for pair, number in zip(combinations(classes, 2), counts, strict=True):
            if number:
                for label, drawn in zip(pair, (firsts, seconds), strict=True):
                    held = slots[label if label in slots else _any(sorted(slots))]
                    drawn += [_any(held) for _ in range(number)]
                shares.append(self.shares(number))
        one, other, given = (
            self.buffer.at(firsts),
            self.buffer.at(seconds),
            torch.cat(shares).to(self.prototypes),
        )
        return [Mixtures(mixed(one.images, other.images, given), one.labels, other.labels, given)]

    def shares(self, count: int) -> Tensor:
        """(count,) from Beta(alpha, alpha), or all 0."""
        if float(torch.rand(())) > self.options.mixing:
            return torch.zeros(count)
        return torch._sample_dirichlet(torch.full((count, 2), self.options.alpha))[:, 0]

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)


def _unmixed(held: Batch) -> Mixtures:
    shares = torch.zeros(len(held), device=held.labels.device)
    return Mixtures(held.images, held.labels, held.labels, shares)


def _any(of: list[int]) -> int:
    return of[int(torch.randint(len(of), (1,)))]
