"""ER with asymmetric cross-entropy (Caccia et al., ICLR 2022): new samples do not push old classes down.

As the paper's eq. 4: incoming samples compete among the classes of their own batch, replayed ones
among all classes seen. The paper's head is linear, its buffer a reservoir; `head = cosine` is Mammoth's
(scale 10, no bias) and `selection = balanced` Avalanche's. The two losses are weighted alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from streamlab.config import at_least
from streamlab.nets.network import CosineHead
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.passes import outputs_apart
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{caccia2022new,
  title = {New Insights on Reducing Abrupt Representation Change in Online Continual Learning},
  author = {Caccia, Lucas and Aljundi, Rahaf and Asadi, Nader and Tuytelaars, Tinne and Pineau, Joelle and
    Belilovsky, Eugene},
  booktitle = {ICLR},
  year = {2022},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch; selection: of the buffer; head: see above. icnn,
    proto_triplet, margin: metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 10
    selection: Literal["reservoir", "balanced"] = "reservoir"
    head: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("er-ace", "replay_size", self.replay_size, 1)


class AsymmetricReplay(Strategy):
    """Eq. 4: cross-entropy of new samples among the batch's classes, of old ones among all seen."""

    options: Options
    smooths_labels = True

    def setup(self) -> None:
        self.buffer = self.make_buffer(self.options.selection)
        if self.options.head == "cosine":
            size, classes = self.net.backbone.feature_size, self.setting.num_classes
            self.replace_head(CosineHead(size, classes, scale=10.0))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        replayed = self.buffer.draw(self.options.replay_size)
        features = outputs_apart(self.net, self.net.features, batch.images, replayed.images)
        labels = torch.cat([batch.labels, replayed.labels])
        logits = self.net.head(features)
        present = torch.zeros_like(self.exposed).index_fill_(0, batch.labels, True)
        losses = {"task": self.cross_entropy(logits[: len(batch)], batch.labels, present)}
        if len(replayed):
            losses["replay"] = self.cross_entropy(logits[len(batch) :], replayed.labels, self.exposed)
        return {**losses, **self.options.of(features, labels)}

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)
