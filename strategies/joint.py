"""Joint training on the whole stream at once: the ceiling, not a continual learner.

Evaluated once, at the end; exempt from memory budgets and shown as unbounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from streamlab.config import at_least
from streamlab.strategy import Batch, Strategy


@dataclass(frozen=True)
class Options:
    """epochs: passes over the stream's samples, shuffled; batch_size: samples a step."""

    epochs: int = 5
    batch_size: int = 64

    def __post_init__(self) -> None:
        at_least("joint", "epochs", self.epochs, 1)
        at_least("joint", "batch_size", self.batch_size, 1)


class Joint(Strategy):
    """Cross-entropy on shuffled batches of everything."""

    options: Options
    smooths_labels = True
    learns_jointly = True

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"task": self.cross_entropy(self.net(batch.images), batch.labels)}
