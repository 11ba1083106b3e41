"""Adversarial Shapley value replay (ASER; Shim et al., AAAI 2021): exemplars by what they are worth.

An exemplar's worth to another sample is its Shapley value in a k-nearest-neighbour classifier of features
(Jia et al. 2019). Replayed are those worth most to the memory, and least to the batch that comes (near it,
and of another class). What a full memory keeps are those worth most to a part of it that has all classes.
As the authors' code: one step on new and replayed samples together; random replay until the memory is full;
a class that holds fewer exemplars than a threshold drawn anew is judged beside its own new samples, else it
would have none. Theirs passes new and replayed samples through the network once more and throws the
gradients away, which only moves batch normalisation's statistics; it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.memory import Buffer
from streamlab.parts.metric_losses import MetricTerms
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{shim2021aser,
  title = {Online Class-Incremental Continual Learning with Adversarial {Shapley} Value},
  author = {Shim, Dongsub and Mai, Zheda and Jeong, Jihwan and Sanner, Scott and Kim, Hyunwoo and Jang,
    Jongseong},
  booktitle = {AAAI},
  year = {2021},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch; neighbours: k of the classifier; per_class:
    candidates of each class, and as many that judge; value: of both worths the means (mean: ASER-mu), the
    largest and the least (extreme: ASER), or the batch's alone (adversarial). icnn, proto_triplet, margin:
    metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 10
    neighbours: int = 3
    per_class: int = 2
    value: Literal["mean", "extreme", "adversarial"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("replay_size", "neighbours", "per_class"):
            at_least("aser", name, getattr(self, name), 1)


def knn_shapley(features: Tensor, labels: Tensor, judges: Tensor, their_labels: Tensor, k: int) -> Tensor:
    """(n, D), (n,) and (m, D), (m,) -> (m, n): what each sample is worth to each judge.

    The Shapley value of the sample in a k-nearest-neighbour classifier of that judge: from the farthest
    (right / n) inwards, each is worth what the next one out is, and (right - right of that one) / k ·
    min(k, i) / i more, i its place. Over all samples it sums to the share of the nearest k that are right,
    where k <= n. Source: Jia et al. 2019, theorem 1 (arXiv 1908.08619); Shim et al. 2021, eq. 4 and 5.
    """
    apart = torch.cdist(judges, features, compute_mode="donot_use_mm_for_euclid_dist")
    order = apart.argsort(dim=1, stable=True)
    right = (labels[order] == their_labels[:, None]).to(features.dtype)
    n = len(features)
    place = torch.arange(1, n + 1, device=features.device, dtype=features.dtype)
    gains = torch.cat([right[:, :-1] - right[:, 1:], right[:, -1:]], 1) * place.clamp(max=k) / (place * k)
    gains[:, -1] = right[:, -1] / n
    worth = gains.flip(1).cumsum(1).flip(1)
    return torch.zeros_like(worth).scatter_(1, order, worth)


class WorthBuffer(Buffer):
    """A memory that fills, and then exchanges what it is told to; it knows the slots of each class."""

    def choose_slots(self, batch: Batch) -> dict[int, int]:
        """Of a memory that fills: all of them."""
        slots = range(self.count, min(self.count + len(batch), self.capacity))
        self.count += len(slots)
        for slot, label in zip(slots, batch.label_list, strict=False):
            self.slots_of.setdefault(label, []).append(slot)
        return {slot: row for row, slot in enumerate(slots)}

    def of_each_class(self, count: int, without: Sequence[int] = ()) -> list[int]:
        """The slots of up to `count` exemplars of each class, at random; without: at most as many of one."""
        apart, chosen = set(without), []
        for slots in self.slots_of.values():
            enough = min(2 * count if apart else count, len(slots))
            drawn = [slots[place] for place in self.read_draws.choose(enough, len(slots))]
            chosen += [slot for slot in drawn if slot not in apart][:count]
        return chosen

    def others(self, count: int, without: Sequence[int]) -> list[int]:
        """Up to `count` slots at random, but for those."""
        apart = set(without)
        drawn = self.read_draws.choose(min(count + len(apart), self.count), self.count)
        return [slot for slot in drawn if slot not in apart][:count]

    def exchange(self, batch: Batch, taken: dict[int, int]) -> None:
        """Rows of a batch in the place of exemplars: slot -> row."""
        for slots in self.slots_of.values():
            slots[:] = [slot for slot in slots if slot not in taken]
        for slot, row in taken.items():
            self.slots_of.setdefault(batch.label_list[row], []).append(slot)
        self.write(batch, taken)
        self.seen += len(batch)


class AdversarialShapleyReplay(Strategy):
    """Cross-entropy of new samples and of the exemplars that are worth most."""

    options: Options
    smooths_labels = True
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "neighbours": Choice((3, 5)), "per_class": Choice((2, 3, 9)),
    }  # fmt: skip

    def setup(self) -> None:
        buffer = self.make_buffer(WorthBuffer)
        assert isinstance(buffer, WorthBuffer)
        self.buffer = buffer

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        replayed = self.buffer.draw(self.options.replay_size) if self.fills else self.worth_most(batch)
        combined = replayed.joined(batch)
        features = self.net.features(combined.images)
        task = self.cross_entropy(self.net.head(features), combined.labels)
        return {"task": task, **self.options.of(features, combined.labels)}

    @property
    def fills(self) -> bool:
        """Whether no sample has come yet that the memory had no room for."""
        return self.buffer.seen <= self.buffer.capacity

    def worth_most(self, batch: Batch) -> Batch:
        """The candidates that are worth most to the memory and least to the batch, in new views."""
        candidates = self.buffer.of_each_class(self.options.per_class)
        alone = self.options.value == "adversarial"
        judging = [] if alone else self.buffer.of_each_class(self.options.per_class, without=candidates)
        offered = self.buffer.at(candidates + judging).joined(batch)
        features, labels = self.features_of(offered.originals), offered.labels
        cut = len(candidates)

        def worth(judges: slice) -> Tensor:
            by = features[judges], labels[judges]
            return knn_shapley(features[:cut], labels[:cut], *by, self.options.neighbours)

        hostile, friendly = worth(slice(cut + len(judging), None)), worth(slice(cut, cut + len(judging)))
        if not judging:
            score = -hostile.sum(0)
        elif self.options.value == "extreme":
            score = friendly.amax(0) - hostile.amin(0)
        else:
            score = friendly.mean(0) - hostile.mean(0)
        best = score.argsort(descending=True, stable=True)[: self.options.replay_size]
        return offered.at(best).in_view()

    def remember(self, batch: Batch) -> None:
        room = self.buffer.capacity - len(self.buffer)
        if room >= len(batch):
            self.buffer.add(batch)
        elif self.buffer.capacity:
            rows = torch.arange(len(batch), device=batch.labels.device)
            if room:
                self.buffer.add(batch.at(rows[:room]))
            self.exchange_least(batch.at(rows[room:]) if room else batch)

    def exchange_least(self, batch: Batch) -> None:
        """Of some exemplars and the batch, as many as were exemplars stay: those worth most.

        Exemplars of every class judge, and the batch's own samples of rare classes.
        """
        judging = self.buffer.of_each_class(self.options.per_class)
        threshold = self.buffer.write_draws.take(1)[0] / self.setting.num_classes
        held = {label: len(slots) / self.buffer.capacity for label, slots in self.buffer.slots_of.items()}
        rare = [row for row, label in enumerate(batch.label_list) if held.get(label, 0.0) < threshold]
        count = self.options.per_class * self.setting.num_classes
        candidates = self.buffer.others(count, without=judging)
        offered = self.buffer.at(judging + candidates).joined(batch)
        features, labels = self.features_of(offered.originals), offered.labels
        cut, stay = len(judging), len(candidates)
        rows = torch.tensor([*range(cut), *(cut + stay + row for row in rare)], device=labels.device)
        by = features[rows], labels[rows], self.options.neighbours
        worth = knn_shapley(features[cut:], labels[cut:], *by).sum(0)
        order: list[int] = worth.argsort(descending=True, stable=True).tolist()
        new = [place - stay for place in order[:stay] if place >= stay]
        old = [candidates[place] for place in order[stay:] if place < stay]
        self.buffer.exchange(batch, dict(zip(old, new, strict=True)))
