"""Which samples stay: the policies of buffers, each from its paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..batch import Batch
from ..errors import StreamlabError
from .buffer import Buffer


class Samples(Protocol):
    """An experience's training samples (streamlab.strategy.ExperienceView)."""

    @property
    def labels(self) -> Tensor: ...
    def of_class(self, label: int) -> Batch: ...


class ReservoirBuffer(Buffer):
    """Every sample seen is held with equal probability (Vitter 1985, algorithm R)."""

    def choose_slots(self, batch: Batch) -> dict[int, int]:
        taken: dict[int, int] = {}
        for row, uniform in enumerate(self.write_draws.take(len(batch))):
            if self.count < self.capacity:
                taken[self.count] = row
                self.count += 1
            else:
                slot = int(uniform * (self.seen + row + 1))
                if slot < self.capacity:
                    taken[slot] = row
        return taken


class BalancedBuffer(Buffer):
    """Class-balancing reservoir sampling (CBRS, Chrysakis and Moens, ICML 2020, algorithm 1).

    A sample of a class that is not among the largest replaces one of a largest class; one of a
    class that is (or once was) full goes by reservoir sampling within its class.
    """

    def allocate(self, capacity: int) -> None:
        super().allocate(capacity)
        self.seen_of: dict[int, int] = {}
        self.full: list[int] = []

    def survivors(self, capacity: int) -> list[int]:
        return self.thinned(capacity, self._below)

    def choose_slots(self, batch: Batch) -> dict[int, int]:
        taken: dict[int, int] = {}
        for row, label in enumerate(batch.label_list):
            slot = self._slot(label)
            if slot is not None:
                taken[slot] = row
        return taken

    def _slot(self, label: int) -> int | None:
        of_label = self.slots_of.setdefault(label, [])
        self.seen_of[label] = self.seen_of.get(label, 0) + 1
        if self.count < self.capacity:
            self.count += 1
            of_label.append(self.count - 1)
            return self.count - 1
        if self.capacity == 0:
            return None
        most = max(len(slots) for slots in self.slots_of.values())
        largest = [number for number, slots in self.slots_of.items() if len(slots) == most]
        self.full.extend(number for number in largest if number not in self.full)
        if label not in self.full:
            victim = largest[self._below(len(largest))]
            slots = self.slots_of[victim]
            slot = slots.pop(self._below(len(slots)))
            of_label.append(slot)
            return slot
        if of_label and self.write_draws.take(1)[0] <= len(of_label) / self.seen_of[label]:
            return of_label[self._below(len(of_label))]
        return None

    def _below(self, count: int) -> int:
        return int(self.write_draws.take(1)[0] * count)


class GreedyBuffer(Buffer):
    """GDumb's greedy balancing sampler (Prabhu et al., ECCV 2020, algorithm 1).

    A class may hold capacity / classes seen; a sample of a class below that takes a free slot, or a
    random one of the largest class. A class that has its share takes nothing more.
    """

    def survivors(self, capacity: int) -> list[int]:
        return self.thinned(capacity, lambda count: int(self.write_draws.take(1)[0] * count))

    def choose_slots(self, batch: Batch) -> dict[int, int]:
        taken: dict[int, int] = {}
        for row, label in enumerate(batch.label_list):
            slots = self.slots_of.setdefault(label, [])
            if len(slots) >= self.capacity / len(self.slots_of):
                continue
            if self.count < self.capacity:
                slot = self.count
                self.count += 1
            else:
                largest = max(self.slots_of.values(), key=len)
                slot = largest.pop(int(self.write_draws.take(1)[0] * len(largest)))
            slots.append(slot)
            taken[slot] = row
        return taken


class HerdedBuffer(Buffer):
    """Exemplars whose mean stays nearest to their class's (iCaRL, Rebuffi et al., CVPR 2017, alg. 4 and 5).

    Filled at the end of an experience by `herd`; new classes make the others give up those chosen
    last. Every class holds capacity / classes of them; ours are the rules that what this leaves over, or a
    small class does not need, goes to the others, the earliest first. The exemplars of a class stand
    together, in the order in which they were chosen.
    """

    def survivors(self, capacity: int) -> list[int]:
        return self.thinned(capacity, lambda count: count - 1)

    def choose_slots(self, batch: Batch) -> dict[int, int]:
        raise StreamlabError("a herded buffer is filled by herd(view, features_of), not by add")

    def herd(
        self,
        view: Samples,
        features_of: Callable[[Tensor], Tensor],
    ) -> None:
        """Choose exemplars of every class in an experience, by features_of(images) -> (n, D).

        They are chosen among its samples and the exemplars of their class that are held.
        """
        classes = torch.unique(view.labels).tolist()
        held = {label: self.at(self.slots_of.pop(label)) for label in classes if label in self.slots_of}
        fresh = {label: view.of_class(label) for label in classes}
        offered = {
            label: held[label].joined(samples) if label in held else samples
            for label, samples in fresh.items()
        }
        sizes = {label: len(slots) for label, slots in self.slots_of.items()}
        shares = equal_shares(
            self.capacity, {**sizes, **{label: len(samples) for label, samples in offered.items()}}
        )
        kept = [slot for label, slots in self.slots_of.items() for slot in slots[: shares[label]]]
        self.keep(kept, self.capacity)
        for label, batch in offered.items():
            rows = herding(features_of(batch.images), shares[label])
            slots = list(range(self.count, self.count + len(rows)))
            self.slots_of[label] = slots
            self.count += len(rows)
            self.seen += len(fresh[label])
            self.write(batch, dict(zip(slots, rows, strict=True)))


def equal_shares(capacity: int, sizes: Mapping[int, int]) -> dict[int, int]:
    """How many of each class are held, of the `sizes` there are: as equal as can be, all room used.

    What is left over goes to the classes named first, one each.
    """
    level, left = 0, capacity
    while any(size > level for size in sizes.values()):
        wanting = sum(size > level for size in sizes.values())
        if wanting > left:
            break
        step = min(left // wanting, min(size for size in sizes.values() if size > level) - level)
        level, left = level + step, left - step * wanting
    larger = [label for label, size in sizes.items() if size > level][:left]
    return {label: min(size, level) + (label in larger) for label, size in sizes.items()}


def herding(features: Tensor, count: int) -> list[int]:
    """The rows, in order, whose running mean stays nearest to the mean of all (iCaRL's algorithm 4).

    features: (N, D), brought to length 1 as iCaRL does. At most `count` rows, and at most N.
    """
    unit = F.normalize(features.double())
    goal, total = unit.sum(0) / max(1, len(unit)), torch.zeros_like(unit.sum(0))
    left = torch.ones(len(unit), dtype=torch.bool, device=features.device)
    chosen: list[Tensor] = []  # on the device: they are fetched at once
    for number in range(1, min(count, len(unit)) + 1):
        # |u| = 1, so |goal - (total + u) / number| is least where u · (number · goal - total) is most.
        scores = unit @ (number * goal - total)
        row = scores.masked_fill(~left, float("-inf")).argmax(0, keepdim=True)
        chosen.append(row)
        left.index_fill_(0, row, False)
        total = total + unit.index_select(0, row)[0]
    rows: list[int] = torch.cat(chosen).tolist() if chosen else []
    return rows


POLICIES: dict[str, type[Buffer]] = {
    "reservoir": ReservoirBuffer,
    "balanced": BalancedBuffer,
    "greedy": GreedyBuffer,
    "herding": HerdedBuffer,
}
