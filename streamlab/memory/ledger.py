"""The memory ledger: bytes that a strategy holds, by kind, measured from its live tensors.

Two accountings. `held`: every byte of every kind, teachers, labels and all buffers included. `survey`
(Zhou et al., arXiv 2302.03648): parameters x 4 of the network at rest without its head, and exemplars'
pixels; no teacher, no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config import Budget, readable_bytes
from ..errors import BudgetExceeded
from .buffer import Buffer
from .state import LEAVES, walk

KINDS = (
    "model",
    "head",
    "frozen backbone",
    "exemplars",
    "statistics",
    "extra models",
    "prompts",
    "keys",
    "masks",
    "other",
)


@dataclass(frozen=True)
class Ledger:
    """Bytes by kind (only kinds that hold any), and what stands beside them.

    optimizer: bytes that are reported, not counted. exemplars_held: their number; pixels: bytes of their
    pixels. parameters: of the network without its head; frozen_parameters: those of a backbone that nobody
    trains.
    """

    bytes_by_kind: Mapping[str, int]
    optimizer: int
    exemplars_held: int
    pixels: int = 0
    parameters: int = 0
    frozen_parameters: int = 0

    @property
    def total(self) -> int:
        """Bytes held of every kind."""
        return sum(self.bytes_by_kind.values())

    def beside_exemplars(self, budget: Budget) -> int:
        """Bytes that count against the budget, exemplars left out."""
        kinds = self.bytes_by_kind
        if budget.accounting == "survey":
            counted = self.parameters - (0 if budget.count_frozen else self.frozen_parameters)
            return 4 * counted + sum(kinds.get(kind, 0) for kind in ("prompts", "keys", "masks"))
        frozen = 0 if budget.count_frozen else kinds.get("frozen backbone", 0)
        return self.total - frozen - kinds.get("exemplars", 0)

    def counted(self, budget: Budget) -> int:
        """Bytes that count against the budget, in its accounting."""
        held = self.pixels if budget.accounting == "survey" else self.bytes_by_kind.get("exemplars", 0)
        return self.beside_exemplars(budget) + held

    def describe(self) -> str:
        """`exemplars 2.1 MiB, model 0.9 MiB`, the largest first."""
        ranked = sorted(self.bytes_by_kind.items(), key=lambda item: -item[1])
        return ", ".join(f"{kind} {readable_bytes(count)}" for kind, count in ranked)


def measure(attributes: Mapping[str, Any], claims: Mapping[str, str]) -> Ledger:
    """The ledger of a strategy's attributes.

    claims: kind of an attribute, by its name. A buffer claims "exemplars" for itself; of a network
    under "model" the head counts as "head", and a backbone that no gradient reaches as "frozen
    backbone". Each storage counts once and whole: a view of ten rows holds the whole tensor.
    """
    by_kind = dict.fromkeys(KINDS, 0)
    storages: set[tuple[str, int]] = set()
    optimizer = parameters = frozen = exemplars = pixels = 0
    seen: set[int] = set()
    for name, value in attributes.items():
        if isinstance(value, torch.optim.Optimizer):
            optimizer += sum(
                held.nbytes
                for state in value.state.values()
                for held in state.values()
                if isinstance(held, Tensor)
            )
            continue
        parts = _parts_of_network(value) if claims.get(name) == "model" else {}
        for held in walk(value, name, claims.get(name), seen):
            if isinstance(held.value, Buffer):
                exemplars += len(held.value)
                pixels += len(held.value) * held.value.pixel_bytes
            if not isinstance(held.value, LEAVES):
                continue
            kind = held.kind if held.kind in by_kind else "other"
            kind = parts.get(id(held.value), kind)
            place, size = _storage(held.value)
            if place not in storages:
                storages.add(place)
                by_kind[str(kind)] += size
            if claims.get(name) == "model" and isinstance(held.value, nn.Parameter) and kind != "head":
                parameters += held.value.numel()
                frozen += held.value.numel() if kind == "frozen backbone" else 0
    counted = {kind: size for kind, size in by_kind.items() if size}
    return Ledger(counted, optimizer, exemplars, pixels, parameters, frozen)


def _parts_of_network(value: Any) -> dict[int, str]:
    """The kind of each tensor of a network: of its head, and of its backbone where that is frozen."""
    kinds = {}
    for name, kind in (("backbone", "frozen backbone"), ("head", "head")):
        part = getattr(value, name, None)
        parameters = list(part.parameters()) if isinstance(part, nn.Module) else []
        if not parameters or (name == "backbone" and any(p.requires_grad for p in parameters)):
            continue
        assert isinstance(part, nn.Module)
        kinds.update({id(tensor): kind for tensor in (*parameters, *part.buffers())})
    return kinds


def _storage(value: Any) -> tuple[tuple[str, int], int]:
    """A storage's identity and its whole size in bytes."""
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        return ("tensor", storage.data_ptr() if storage.nbytes() else id(value)), storage.nbytes()
    if isinstance(value, np.ndarray):
        whole = value
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        return ("array", id(whole)), whole.nbytes
    return ("bytes", id(value)), len(value)


def check_budget(ledger: Ledger, budget: Budget) -> None:
    """Raise BudgetExceeded, naming who holds what, where the ledger is over the budget."""
    if budget.bytes is not None and ledger.counted(budget) > budget.bytes:
        counted = readable_bytes(ledger.counted(budget))
        raise BudgetExceeded(f"{counted} held, budget {budget}: {ledger.describe()}")
    if budget.exemplars is not None and ledger.exemplars_held > budget.exemplars:
        raise BudgetExceeded(f"{ledger.exemplars_held} exemplars held, budget {budget.exemplars}")
