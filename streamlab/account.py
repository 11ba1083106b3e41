"""A strategy's account: what it holds in bytes, what a budget leaves for exemplars, and its state.

No strategy writes such code: one walk over its attributes serves all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from .config import Budget, readable_bytes
from .errors import StreamlabError
from .memory.buffer import Buffer
from .memory.ledger import Ledger, measure
from .memory.state import StateWriter, walk
from .memory.state_reader import StateReader
from .needs import Needs
from .setting import Setting


class Accounted(Protocol):
    """What an account is of: a strategy."""

    setting: Setting
    ledger_kinds: ClassVar[Mapping[str, str]]
    needs: ClassVar[Needs]

    def bytes_to_come(self, experiences: int = 1) -> int: ...

    def parameters_to_come(self, experiences: int = 1) -> int: ...


class Account:
    """The account of one strategy, by the walk over its attributes.

    begins_anew: why its state cannot be checkpointed (nothing: it can be); a run of it that is killed then
    starts over, to the same bits.
    """

    begins_anew: ClassVar[str] = ""

    def __init__(self, strategy: Accounted) -> None:
        self.strategy = strategy

    @property
    def buffers(self) -> list[Buffer]:
        """The buffers that it holds, in lists and other objects too, in order."""
        return [held.value for held in walk(self.attributes()) if isinstance(held.value, Buffer)]

    def ledger(self) -> Ledger:
        """What it holds now, in bytes by kind."""
        return measure(self.attributes(), {"net": "model", **self.strategy.ledger_kinds})

    def exemplar_sizes(self, budget: Budget) -> list[int]:
        """Bytes that one exemplar of each of its buffers counts against a budget; empty: it keeps none."""
        return [_exemplar_size(buffer, budget) for buffer in self.buffers]

    def bytes_needed(self, budget: Budget, experiences: int = 1) -> int:
        """Bytes that count against a budget in so many coming experiences, exemplars left out."""
        to_come = self.strategy.bytes_to_come(experiences)
        if budget.accounting == "survey":
            to_come = 4 * self.strategy.parameters_to_come(experiences)
        return self.ledger().beside_exemplars(budget) + to_come

    def allot(self, budget: Budget) -> None:
        """Turn what a budget leaves after the strategy's own state into exemplars.

        floor((bytes - own state - bytes to come) / bytes of one exemplar), shared equally between
        buffers; asked again before an experience, buffers can only shrink. Raises StreamlabError where
        not even the own state fits, or a buffer is smaller than the method needs.
        """
        needed = self.bytes_needed(budget)
        if budget.bytes is not None and needed > budget.bytes:
            raise StreamlabError(
                f"it needs {readable_bytes(needed)} for its own state, and the budget is {budget}: "
                f"{self.ledger().describe()}"
            )
        buffers = self.buffers
        for number, buffer in enumerate(buffers):
            if budget.bytes is not None:
                capacity = (budget.bytes - needed) // len(buffers) // _exemplar_size(buffer, budget)
            else:
                total = 500 if budget.exemplars is None else budget.exemplars
                capacity = total // len(buffers) + (number < total % len(buffers))
            if not buffer.allocated:
                buffer.allocate(capacity)
            elif capacity < buffer.capacity:
                buffer.shrink(capacity)
            self._check_capacity(buffer.capacity, budget)

    def _check_capacity(self, capacity: int, budget: Budget) -> None:
        each, classes = self.strategy.needs.exemplars_per_class, self.strategy.setting.num_classes
        if capacity < each * classes:
            raise StreamlabError(
                f"its budget ({budget}) buys {capacity} exemplars, and it needs {each * classes}: "
                f"{each} of each of {classes} classes"
            )

    def take_state(self, leave_out: tuple[type, ...] = ()) -> tuple[Any, dict[str, Tensor]]:
        """The strategy's whole state as JSON values and named tensors, less objects of some classes."""
        writer = StateWriter(leave_out)
        state = self.attributes(everything=True)
        return {name: writer.plain(value, name) for name, value in state.items()}, writer.tensors

    def put_state(self, plain: Any, tensors: dict[str, Tensor], device: torch.device | None = None) -> None:
        """Fill the strategy, a new instance, with a state that was taken.

        device: where its tensors come to lie (None: where they lay).
        """
        reader, strategy = StateReader(tensors, device), self.strategy
        for name in [name for name in self.attributes(everything=True) if name not in plain]:
            delattr(strategy, name)
        for name, value in plain.items():
            setattr(strategy, name, reader.value(value, getattr(strategy, name, None)))

    def attributes(self, everything: bool = False) -> dict[str, Any]:
        """Its attributes by name, without the kernel's; everything: all that a checkpoint needs."""
        kernel = ("setting", "options", "account") + (() if everything else ("exposed", "current_classes"))
        return {name: value for name, value in vars(self.strategy).items() if name not in kernel}


def _exemplar_size(buffer: Buffer, budget: Budget) -> int:
    """Bytes that one exemplar counts: the survey's accounting knows pixels alone."""
    return buffer.pixel_bytes if budget.accounting == "survey" else buffer.exemplar_bytes
