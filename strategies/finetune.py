"""Plain fine-tuning on the stream, with no defence against forgetting: the floor.

Known as "naive" in Avalanche and as the lower bound in the surveys.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from streamlab.strategy import Batch, Strategy


class Finetune(Strategy):
    """Cross-entropy on what comes."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}
