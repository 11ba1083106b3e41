"""CLIB (Koh et al., ICLR 2022, i-Blurry's own): learning from memory alone, whose least important samples go.

As the authors' code: a new sample goes into the memory first, in the place of the sample of the largest
class whose importance is least; then a batch is drawn from the memory, and nothing is learned from the
stream itself. After a step the losses of all that is held are measured anew: how much they fell is what the
samples of that batch were good for, and their importance moves towards it. The rate tries a high and a low
value by turns, and keeps the one under which losses fall faster (Welch's test, 5 %). An update a sample is
theirs: `stream.batch_size=1`. The first largest class is the one seen first; importance lives on the host,
so that every step fetches the losses (`importance_every`: every so many steps).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import Range, Searched, at_least, within
from streamlab.memory import Buffer
from streamlab.needs import Needs
from streamlab.nets.optimizer import scale_rate
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{koh2022iblurry,
  title = {Online Continual Learning on Class Incremental Blurry Task Configuration with Anytime Inference},
  author = {Koh, Hyunseo and Kim, Dahyun and Ha, Jung-Woo and Choi, Jonghyun},
  booktitle = {ICLR},
  year = {2022},
}
"""

_FIRST = 20  # measurements after which rates are compared


@dataclass(frozen=True)
class Options:
    """draw_size: exemplars of a step; importance_every: steps between measurements of all losses; keeps:
    what an importance keeps of itself; adaptive: whether the rate is; step: the low rate over the high one;
    turn: measurements under one rate; length: turns that are compared.
    """

    draw_size: int = 16
    importance_every: int = 1
    keeps: float = 0.9
    adaptive: bool = True
    step: float = 0.95
    turn: int = 10
    length: int = 10

    def __post_init__(self) -> None:
        for name in ("draw_size", "importance_every", "turn"):
            at_least("clib", name, getattr(self, name), 1)
        at_least("clib", "length", self.length, 2)
        within("clib", "keeps", self.keeps, 0, 1)
        within("clib", "step", self.step, 0.01, 1)


class ImportanceBuffer(Buffer):
    """Of the largest class the least important sample gives way; importance: a number a slot, on the host."""

    importance: list[float]
    fresh: list[int]

    def survivors(self, capacity: int) -> list[int]:
        left = {label: list(slots) for label, slots in self.slots_of.items()}
        for _ in range(self.count - capacity):
            largest = max(left.values(), key=len)
            largest.remove(min(largest, key=self.importance.__getitem__))
        return sorted(slot for slots in left.values() for slot in slots)

    def keep(self, kept: Sequence[int], capacity: int) -> None:
        held = [self.importance[slot] for slot in kept]
        super().keep(kept, capacity)
        self.importance = held + [0.0] * (capacity - len(held))
        self.fresh = list(range(len(kept)))  # filled since it was last looked

    def choose_slots(self, batch: Batch) -> dict[int, int]:
        taken: dict[int, int] = {}
        for row, label in enumerate(batch.label_list):
            if self.capacity:
                slot = self._slot(label)
                taken[slot] = row
                self.fresh.append(slot)
        return taken

    def _slot(self, label: int) -> int:
        own = self.slots_of.setdefault(label, [])
        filling = self.count < self.capacity
        if filling:
            slot = self.count
            self.count += 1
        else:
            sizes = {name: len(slots) + (name == label) for name, slots in self.slots_of.items()}
            largest = self.slots_of[max(sizes, key=sizes.__getitem__)] or own
            largest = largest or max(self.slots_of.values(), key=len)
            slot = min(largest, key=self.importance.__getitem__)
            largest.remove(slot)
        others = [self.importance[one] for one in own]
        own.append(slot)
        everyone = 0.0 if filling else fmean(self.importance)
        self.importance[slot] = fmean(others) if others else everyone
        return slot

    def credit(self, slots: Sequence[int], fell: float, keeps: float) -> None:
        """The batch of these slots was learned from, after which losses changed by `fell` (negative: they
        fell).
        """
        if not slots:
            return
        difference = fell - fmean(self.importance[slot] for slot in slots) / len(slots)
        for slot in set(slots):
            self.importance[slot] -= (1 - keeps) * difference


class AdaptiveRate:
    """Which of two rates losses fall faster under, by turns. high, low: over the optimizer's own rate."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.high, self.low = 1.0, options.step
        self.is_high, self.measured = True, 0
        self.before: list[float] | None = None
        self.fresh: set[int] = set()
        self.falls: dict[bool, list[float]] = {True: [], False: []}

    @property
    def now(self) -> float:
        """The share of the optimizer's rate that is tried."""
        return self.high if self.is_high else self.low

    def measure(self, losses: list[float], fresh: Sequence[int]) -> None:
        """Take the losses of all slots, and which of them were filled since last time."""
        self.measured += 1
        self.fresh.update(fresh)
        if self.measured % self.options.turn:
            return
        if self.before is not None and self.measured > _FIRST:
            both = enumerate(zip(self.before, losses, strict=False))
            falls = [was - now for slot, (was, now) in both if slot not in self.fresh]
            kept = self.falls[self.is_high]
            kept.append(fmean(falls) if falls else math.nan)
            if len(kept) > self.options.length:
                del kept[0]
        self.before, self.fresh = losses, set()
        self.is_high = not self.is_high
        self._compare()

    def _compare(self) -> None:
        low, high = self.falls[False], self.falls[True]
        if len(low) != len(high) or len(high) < self.options.length:
            return
        p = chance_of_no_gain(low, high)
        if p < 0.05:
            self.high, self.low = self.low, self.low * self.options.step
        elif p > 0.95:
            self.high, self.low = self.high / self.options.step, self.high
        else:
            return
        self.falls = {True: [], False: []}
        self.is_high = not self.is_high


def chance_of_no_gain(low: Sequence[float], high: Sequence[float]) -> float:
    """One-sided p of Welch's test (1947) that `low` is greater in the mean; NaN where nothing varies."""
    of_low, of_high = variance(low) / len(low), variance(high) / len(high)
    if not of_low + of_high > 0:
        return math.nan
    t = (fmean(low) - fmean(high)) / math.sqrt(of_low + of_high)
    degrees = (of_low + of_high) ** 2 / (of_low**2 / (len(low) - 1) + of_high**2 / (len(high) - 1))
    scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    places = np.linspace(0, abs(t), 2001)
    density = np.exp(scale - (degrees + 1) / 2 * np.log1p(places**2 / degrees))
    inside = float(np.trapezoid(density, places))
    return 0.5 - inside if t > 0 else 0.5 + inside


class ImportanceMemory(Strategy):
    """Cross-entropy of what is drawn from the memory, which the stream is put into."""

    options: Options
    needs = Needs(kinds=frozenset({"online"}), exemplars_per_class=1)
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.0003}
    search_space: ClassVar[dict[str, Searched]] = {"optimizer.lr": Range(0.0001, 0.01)}

    def setup(self) -> None:
        buffer = self.make_buffer(ImportanceBuffer)
        assert isinstance(buffer, ImportanceBuffer)
        self.buffer, self.rates = buffer, AdaptiveRate(self.options)
        self.held_losses: list[float] = []
        self.learned: list[int] = []  # slots, since losses were last measured
        self.steps, self.offered = 0, False

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        if not self.offered:
            self.buffer.add(batch)
            self.offered = True
        slots = self.buffer.read_draws.choose(min(self.options.draw_size, len(self.buffer)), len(self.buffer))
        drawn = self.buffer.at(slots).in_view()
        losses = {"task": self.cross_entropy(self.net(drawn.images), drawn.labels, self.exposed)}
        self.step(losses)
        self.learned += list(slots)
        self.steps += 1
        if self.steps % self.options.importance_every == 0:
            self.measure(self.losses_of_all())
        return losses

    @torch.no_grad()
    def losses_of_all(self) -> list[float]:
        """Of each slot that is filled, its loss as at an evaluation."""
        held = self.buffer.everything()
        logits = self.net.head(self.features_of(held.images)).masked_fill(~self.exposed, float("-inf"))
        found: list[float] = F.cross_entropy(logits, held.labels, reduction="none").tolist()
        return found

    def measure(self, losses: list[float]) -> None:
        """Importance and rate by what all losses are now."""
        fresh, before = set(self.buffer.fresh), self.held_losses
        changes = [
            new - old
            for slot, (old, new) in enumerate(zip(before, losses, strict=False))
            if slot not in fresh
        ]
        self.buffer.credit(self.learned, fmean(changes) if changes else 0.0, self.options.keeps)
        if self.options.adaptive:
            self.rates.measure(losses, self.buffer.fresh)
            self.schedule_rate(self.rate_factor)
        self.held_losses, self.learned, self.buffer.fresh = losses, [], []

    def remember(self, batch: Batch) -> None:
        self.offered = False

    def schedule_rate(self, factor: float) -> None:
        """The schedule's share, and the one that is tried now."""
        super().schedule_rate(factor)
        if self.optimizer is not None:
            scale_rate(self.optimizer, factor * self.rates.now)
