"""A linear classifier on a frozen backbone: what prompts and projections have to beat.

Ours, as the field does it: cross-entropy among the classes seen so far, the head alone learned;
each image goes through the backbone once, whatever the number of updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from streamlab.config import at_least
from streamlab.parts.losses import cross_entropy
from streamlab.parts.serving import Serving
from streamlab.strategy import Batch, Strategy

CITATION = ""


@dataclass(frozen=True)
class Options:
    """replay_size: exemplars replayed beside each batch (0: none)."""

    replay_size: int = 0

    def __post_init__(self) -> None:
        at_least("linear-probe", "replay_size", self.replay_size, 0)


class LinearProbe(Strategy):
    """Softmax regression on features that never change."""

    options: Options
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.005}
    frozen = "features"

    def setup(self) -> None:
        self.net.backbone.requires_grad_(False)
        self.optimizer = self.make_optimizer(self.net.head.parameters())
        self.buffer = self.make_buffer("reservoir") if self.options.replay_size else None
        self.serving = Serving()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        both, features = self.serving.of(batch, self.buffer, self.options.replay_size, self.features_of)
        return {"task": cross_entropy(self.classify(features), both.labels, self.exposed)}

    def remember(self, batch: Batch) -> None:
        self.serving.end()
        if self.buffer is not None:
            self.buffer.add(batch)
