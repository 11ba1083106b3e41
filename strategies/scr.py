"""Supervised contrastive replay (SCR; Mai et al., CVPR Workshops 2021): features are learned, means classify.

As the authors' code: new and replayed samples and a second view of each go through the network and a
projection (two layers, 128 numbers of length 1) under the supervised contrastive loss; what a sample is
follows from the nearest mean of the exemplars' features, before the projection, each of length 1. Nothing
is learned while the buffer is empty, as there. A class without exemplars has no score (theirs: a random
mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.needs import Needs
from streamlab.parts.contrastive import second_views, supervised_contrastive_loss
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.prototypes import nearest_of_length_one, unit_means
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{mai2021scr,
  title = {Supervised Contrastive Replay: Revisiting the Nearest Class Mean Classifier in Online
    Class-Incremental Continual Learning},
  author = {Mai, Zheda and Li, Ruiwen and Kim, Hyunwoo and Sanner, Scott},
  booktitle = {CVPR Workshops},
  year = {2021},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch; temperature: of the loss; projection: its width.
    icnn, proto_triplet, margin: metric losses on the features of both views, new and replayed
    (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 100
    temperature: float = 0.07
    projection: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("scr", "replay_size", self.replay_size, 1)
        at_least("scr", "temperature", self.temperature, 1e-3)
        at_least("scr", "projection", self.projection, 1)


class SupervisedContrastiveReplay(Strategy):
    """The supervised contrastive loss over two views of new and replayed samples."""

    options: Options
    needs = Needs(learning_backbone=True)
    scores_are_logits = False
    ledger_kinds: ClassVar[dict[str, str]] = {"means": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "temperature": Choice((0.07, 0.1, 0.2)),
    }  # fmt: skip

    def setup(self) -> None:
        size = self.net.backbone.feature_size
        self.replace_head(
            nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, self.options.projection))
        )
        self.buffer = self.make_buffer()
        self.second = second_views(self.setting.seed, self.setting.image_shape[0])
        self.means = torch.zeros(self.setting.num_classes, size, device=self.setting.device)

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        return super().observe(batch) if len(self.buffer) else {}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined = self.buffer.draw(self.options.replay_size).joined(batch)
        both = [self.net.features(images) for images in (combined.images, self.second.of(combined.images))]
        views = torch.stack([F.normalize(self.net.head(features)) for features in both], 1)
        loss = supervised_contrastive_loss(views, combined.labels, self.options.temperature)
        terms = self.options.of(torch.cat(both), combined.labels.repeat(2)) if self.options.wanted else {}
        return {"contrastive": loss, **terms}

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)

    @torch.no_grad()
    def consolidate(self) -> None:
        """The means of the exemplars' features, each brought to length 1, and so the mean."""
        exemplars = self.buffer.everything()
        if len(exemplars):
            features = self.features_of(exemplars.images)
            self.means = unit_means(features, exemplars.labels, self.setting.num_classes)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return nearest_of_length_one(embedding, self.means)
