"""A linear classifier on a frozen backbone: what prompts and projections have to beat.

Ours, as the field does it: cross-entropy among the classes seen so far, the head alone learned, from timm's
initial values; each image goes through the backbone once, whatever the number of updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from streamlab.config import at_least
from streamlab.nets.transformer import begin_as_timm
from streamlab.parts.current_batch import CurrentBatch
from streamlab.strategy import Batch, Strategy

CITATION = ""


@dataclass(frozen=True)
class Options:
    """replay_size: exemplars replayed beside each batch, drawn anew for each update (0: none)."""

    replay_size: int = 0

    def __post_init__(self) -> None:
        at_least("linear-probe", "replay_size", self.replay_size, 0)


class LinearProbe(Strategy):
    """Softmax regression on features that never change."""

    options: Options
    smooths_labels = True
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.005}
    frozen = True

    def setup(self) -> None:
        self.net.backbone.requires_grad_(False)
        begin_as_timm(self.net.head)
        self.optimizer = self.make_optimizer(self.net.head.parameters())
        self.buffer = self.make_buffer("reservoir") if self.options.replay_size else None
        self.current = CurrentBatch()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined, features = self.current.with_replay(
            batch, self.buffer, self.options.replay_size, self.features_of
        )
        return {"task": self.cross_entropy(self.net.head(features), combined.labels, self.exposed)}

    def remember(self, batch: Batch) -> None:
        self.current.end()
        if self.buffer is not None:
            self.buffer.add(batch)
