"""Plain fine-tuning on the stream, with no defence against forgetting: the floor.

Known as "naive" in Avalanche and as the lower bound in the surveys.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from streamlab.parts.heads import Heads, competing
from streamlab.parts.metric_losses import MetricTerms
from streamlab.strategy import Batch, Strategy


@dataclass(frozen=True)
class Options(MetricTerms):
    """heads: while learning all classes compete (shared), or the current experience's alone (own). icnn,
    proto_triplet, margin: metric losses beside it (streamlab.parts.metric_losses; 0 leaves one out).
    """

    heads: Heads = "shared"


class Finetune(Strategy):
    """Cross-entropy on what comes."""

    options: Options
    smooths_labels = True

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        features = self.net.features(batch.images)
        among = competing(self.current_classes, self.options.heads)
        task = self.cross_entropy(self.net.head(features), batch.labels, among)
        return {"task": task, **self.options.of(features, batch.labels)}
