"""Nearest class mean on a backbone's features (Mensink et al., TPAMI 2013): no gradient, no exemplars.

The default backbone is `pixels`; another one is used as it was initialised, frozen. Means are exact
running means, so that the order of the samples does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from streamlab.parts.prototypes import Prototypes
from streamlab.strategy import Batch, Strategy

CITATION = """
@article{mensink2013ncm,
  title = {Distance-Based Image Classification: Generalizing to New Classes at Near-Zero Cost},
  author = {Mensink, Thomas and Verbeek, Jakob and Perronnin, Florent and Csurka, Gabriela},
  journal = {TPAMI},
  year = {2013},
}
"""


class NearestClassMean(Strategy):
    """A class's score is minus the squared distance to its mean."""

    backbone: ClassVar[Mapping[str, Any]] = {"name": "pixels"}
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
        self.prototypes.update(self.embed(batch.images), batch.labels)
        return {"spread": self.prototypes.spreads.mean()}

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return self.prototypes.nearest(embedding)
