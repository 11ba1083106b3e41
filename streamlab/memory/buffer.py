"""Buffers of exemplars: flat tensors of a fixed capacity, O(batch) a step.

A buffer is made in a strategy's `setup` and gets its capacity from the budget afterwards. Which samples
stay is a policy's to say (policies.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ..augmentation.views import Views
from ..batch import Batch
from ..errors import StreamlabError
from ..randomness import Uniforms


class Buffer(ABC):
    """Exemplars as pixels, labels and extras (logits, say), written in place.

    One policy is one subclass that says which slots a batch takes, `choose_slots(batch)`, and which
    ones stay where fewer are left, `survivors(capacity)`. slots_of: class -> its slots, for policies
    that keep count of classes. views: how drawn exemplars are augmented (None: they are not).
    """

    ledger_kind: ClassVar[str] = "exemplars"

    def __init__(
        self,
        image_shape: tuple[int, ...],
        device: torch.device,
        seed: int,
        name: str = "buffer",
        extras: dict[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.capacity, self.count, self.seen = 0, 0, 0
        self.allocated, self.name = False, name
        self.slots_of: dict[int, list[int]] = {}
        self.extra_shapes = dict(extras or {})
        self.images = torch.zeros((0, *image_shape), dtype=torch.uint8, device=device)
        self.labels = torch.zeros(0, dtype=torch.int64, device=device)
        self.extras: dict[str, Tensor] = {
            key: torch.zeros((0, *shape), device=device) for key, shape in self.extra_shapes.items()
        }
        self.views: Views | None = None
        self.write_draws = Uniforms(seed, name, "write")
        self.read_draws = Uniforms(seed, name, "read")

    def __len__(self) -> int:
        """Exemplars held now."""
        return self.count

    @property
    def exemplar_bytes(self) -> int:
        """Bytes of one exemplar: pixels, label and extras."""
        columns = (self.images, self.labels, *self.extras.values())
        return sum(column.element_size() * column.shape[1:].numel() for column in columns)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one exemplar's pixels alone."""
        return self.images.shape[1:].numel()

    def allocate(self, capacity: int) -> None:
        """Fix how many exemplars are held; called once by the kernel, before any is added."""
        if self.count:
            raise StreamlabError("a buffer that holds exemplars cannot be allocated again")
        self.allocated = True
        self.keep([], capacity)

    def shrink(self, capacity: int) -> None:
        """Hold `capacity` exemplars at most from now on, in fresh memory; the policy says which stay."""
        self.keep(self.survivors(capacity), capacity)

    def keep(self, kept: Sequence[int], capacity: int) -> None:
        """Only the exemplars in these slots, in this order, in fresh memory for `capacity`."""
        places = {slot: place for place, slot in enumerate(kept)}
        self.slots_of = {
            label: [places[slot] for slot in slots if slot in places]
            for label, slots in self.slots_of.items()
        }
        rows = torch.tensor(kept, dtype=torch.int64, device=self.labels.device)

        def column(old: Tensor) -> Tensor:
            fresh = old.new_zeros((capacity, *old.shape[1:]))
            fresh[: len(rows)] = old.index_select(0, rows)
            return fresh

        self.images, self.labels = column(self.images), column(self.labels)
        self.extras = {key: column(old) for key, old in self.extras.items()}
        self.capacity, self.count = capacity, len(kept)

    def add(self, batch: Batch) -> None:
        """Offer every sample of a batch; the policy decides which are kept, and where.

        Raises StreamlabError where the batch lacks an extra that the buffer stores.
        """
        self._check_allocated()
        missing = set(self.extra_shapes) - set(batch.extras)
        if missing:
            raise StreamlabError(f"the buffer stores {sorted(missing)}, which the batch does not have")
        taken = self.choose_slots(batch)
        self.seen += len(batch)
        self.write(batch, taken)

    def _check_allocated(self) -> None:
        if not self.allocated:
            raise StreamlabError(
                "a buffer was made after setup, so that no budget gave it room; make it there"
            )

    def write(self, batch: Batch, taken: dict[int, int]) -> None:
        """Copy rows of a batch into slots: slot -> row."""
        if not taken:
            return
        slots, rows = torch.tensor([list(taken), list(taken.values())], device=self.labels.device)
        self.images.index_copy_(0, slots, batch.originals.index_select(0, rows))
        self.labels.index_copy_(0, slots, batch.labels.index_select(0, rows))
        for key, column in self.extras.items():
            column.index_copy_(0, slots, batch.extras[key].index_select(0, rows).to(column.dtype))

    def draw(self, size: int) -> Batch:
        """`size` different exemplars at random, all of them if there are fewer, in new views."""
        self._check_allocated()
        return self.at(self.read_draws.choose(min(size, self.count), self.count)).in_view()

    def at(self, slots: Sequence[int]) -> Batch:
        """The exemplars in these slots, as they lie."""
        rows = torch.tensor(slots, dtype=torch.int64, device=self.labels.device)
        return Batch(
            self.images.index_select(0, rows),
            self.labels.index_select(0, rows),
            {key: column.index_select(0, rows) for key, column in self.extras.items()},
            views=self.views,
        )

    def everything(self) -> Batch:
        """All exemplars held, as they lie and without a copy: for class means and the like."""
        held = slice(0, self.count)
        extras = {key: column[held] for key, column in self.extras.items()}
        return Batch(self.images[held], self.labels[held], extras, views=self.views)

    @abstractmethod
    def choose_slots(self, batch: Batch) -> dict[int, int]:
        """Which rows of a new batch are kept: slot -> row. A later row may replace an earlier one."""

    def survivors(self, capacity: int) -> list[int]:
        """The slots that stay where only `capacity` are left: any, each as likely as another."""
        if self.count <= capacity:
            return list(range(self.count))
        return sorted(self.write_draws.choose(capacity, self.count))

    def thinned(self, capacity: int, place: Callable[[int], int]) -> list[int]:
        """The slots that stay where the class that has most (the last such) gives up one after the other.

        place: which of a class's n slots is given up.
        """
        left = {label: list(slots) for label, slots in self.slots_of.items()}
        for _ in range(sum(map(len, left.values())) - capacity):
            largest = max(reversed(left.values()), key=len)
            largest.pop(place(len(largest)))
        return [slot for slots in left.values() for slot in slots]
