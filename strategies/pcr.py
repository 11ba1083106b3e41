"""Proxy-based contrastive replay (PCR; Lin et al., CVPR 2023): samples are drawn to proxies, not to one
another.

As the authors' code: new and replayed samples, and a second view of each, are classified by cosines to the
classes' proxies over a temperature; only the proxies of the batch's own samples compete, each as often as
there are samples of it. Nothing is learned while the buffer is empty, as there. New and replayed samples
pass apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.nets.network import CosineHead
from streamlab.parts.contrastive import proxy_contrastive_loss, second_views
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.passes import outputs_apart
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{lin2023pcr,
  title = {{PCR}: Proxy-based Contrastive Replay for Online Class-Incremental Continual Learning},
  author = {Lin, Huiwei and Zhang, Baoquan and Feng, Shanshan and Li, Xutao and Ye, Yunming},
  booktitle = {CVPR},
  year = {2023},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch; temperature: of the loss, and of what is
    predicted. icnn, proto_triplet, margin: metric losses on the features of both views, new and replayed
    (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 10
    temperature: float = 0.09

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("pcr", "replay_size", self.replay_size, 1)
        at_least("pcr", "temperature", self.temperature, 1e-3)


class ProxyContrastiveReplay(Strategy):
    """Cross-entropy of cosines among the proxies that the batch has."""

    options: Options
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "temperature": Choice((0.05, 0.07, 0.09, 0.12, 0.16)),
    }  # fmt: skip

    def setup(self) -> None:
        size, classes = self.net.backbone.feature_size, self.setting.num_classes
        self.replace_head(CosineHead(size, classes, 1 / self.options.temperature))
        self.buffer = self.make_buffer()
        self.second = second_views(self.setting.seed, self.setting.image_shape[0])

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        return super().observe(batch) if len(self.buffer) else {}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        replayed = self.buffer.draw(self.options.replay_size)
        both = [torch.cat([part.images, self.second.of(part.images)]) for part in (batch, replayed)]
        features = outputs_apart(self.net, self.net.features, *both)
        labels = torch.cat([batch.labels.repeat(2), replayed.labels.repeat(2)])
        contrastive = proxy_contrastive_loss(self.net.head(features), labels)
        return {"contrastive": contrastive, **self.options.of(features, labels)}

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)
