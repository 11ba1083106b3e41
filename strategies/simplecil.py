"""SimpleCIL (Zhou et al., IJCV 2024, arXiv 2303.07338): cosine to class means of a frozen pretrained network.

No gradient, no exemplars: what every method on a pretrained network has to beat. Equal to PILOT's code, where
a class comes in one session; means are running ones, so that streams of any kind can be learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.parts.prototypes import Prototypes
from streamlab.strategy import Batch, Strategy

CITATION = """
@article{zhou2024revisiting,
  title = {Revisiting Class-Incremental Learning with Pre-Trained Models: Generalizability and Adaptivity are
    All You Need},
  author = {Zhou, Da-Wei and Cai, Zi-Wen and Ye, Han-Jia and Zhan, De-Chuan and Liu, Ziwei},
  journal = {IJCV},
  year = {2024},
}
"""


class SimpleCIL(Strategy):
    """A class's score is the cosine to the mean of its features."""

    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    search_space: ClassVar[Mapping[str, Any]] = {}
    scores_are_logits = False
    frozen = True

    def setup(self) -> None:
        self.net.requires_grad_(False)
        self.replace_head(nn.Identity())
        size = self.net.backbone.feature_size
        self.prototypes = Prototypes(self.setting.num_classes, size, self.setting.device)

    @torch.no_grad()
    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        """Nothing is learned before a batch is served for the last time."""
        return {}

    def remember(self, batch: Batch) -> None:
        self.prototypes.update(self.embeddings_of(batch.originals), batch.labels)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return F.normalize(embedding) @ F.normalize(self.prototypes.means).T
