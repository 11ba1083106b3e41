"""The teacher of distilling methods: the network as it was when the last experience ended."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..nets.network import frozen_copy


class Teacher:
    """A frozen copy of the network, and the classes that it knows. It is false until it was first taken.

    classes: (K,) bool, none at first.
    """

    ledger_kind: ClassVar[str] = "extra models"

    def __init__(self, classes: Tensor) -> None:
        self.network: nn.Module | None = None
        self.classes = torch.zeros_like(classes)

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self.network is not None

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, K), of all classes, those that it does not know included."""
        assert self.network is not None
        logits: Tensor = self.network(images)
        return logits

    def take(self, network: nn.Module, exposed: Tensor) -> None:
        """Keep the network as it is now; exposed: (K,) bool, the classes that it knows."""
        self.network = frozen_copy(network)
        self.classes = exposed.clone()

    def bytes_to_come(self, network: nn.Module) -> int:
        """Bytes that the first `take` will add."""
        return 0 if self else sum(tensor.nbytes for tensor in network.state_dict().values())
