"""Fine-tuning in few-shot sessions: what forgets most (the FSCIL literature's lower bound).

A network is trained in the base session; every later session trains all of it on its few shots, by
cross-entropy among the classes seen so far (`stream.epochs`, `optimizer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from streamlab.base_training import CosineBase
from streamlab.needs import SESSIONS, Needs
from streamlab.strategy import Batch, Strategy


class FewShotFinetuning(Strategy):
    """Nothing is kept, nothing is frozen."""

    needs = Needs(kinds=SESSIONS)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet", "blocks": 3}
    base = CosineBase()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"task": self.cross_entropy(self.net(batch.images), batch.labels, self.exposed)}
