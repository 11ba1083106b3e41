"""SimpleShot (Wang et al. 2019, arXiv 1911.04623): nearest centroid on features of an ordinary classifier.

The network is trained on the meta-training classes at large, by cross-entropy, and frozen; features are
centred by their mean over meta-training and brought to length 1 (CL2N, the paper's best), or only the
latter (L2N), or left (UN). Differs: the recipe is the kernel's base training (section `base`), and the
epoch is chosen on held-out images of the same classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.base_training import LinearBase
from streamlab.needs import EPISODES, Needs
from streamlab.parts.metric_losses import prototypes_of
from streamlab.strategy import ExperienceView, Strategy

CITATION = """
@article{wang2019simpleshot,
  title = {SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning},
  author = {Wang, Yan and Chao, Wei-Lun and Weinberger, Kilian Q. and van der Maaten, Laurens},
  journal = {arXiv:1911.04623},
  year = {2019},
}
"""


@dataclass(frozen=True)
class Options:
    """features: cl2n (centred, then of length 1), l2n (of length 1) or un (as they are)."""

    features: Literal["cl2n", "l2n", "un"] = "cl2n"


class SimpleShot(Strategy):
    """Nearest centroid of transformed features."""

    options: Options
    needs = Needs(kinds=EPISODES)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    base = LinearBase()
    frozen = True
    scores_are_logits = False
    ledger_kinds: ClassVar[dict[str, str]] = {"mean": "statistics"}

    def setup(self) -> None:
        self.mean = torch.zeros(self.net.backbone.feature_size, device=self.setting.device)

    def begin_experience(self, view: ExperienceView) -> None:
        self.mean = view.embeddings(self).mean(0)

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        way = int(support_labels.max()) + 1
        prototypes = prototypes_of(self._transformed(support), support_labels, way)
        return -torch.cdist(self._transformed(query), prototypes)

    def _transformed(self, features: Tensor) -> Tensor:
        if self.options.features == "un":
            return features
        return F.normalize(features - self.mean if self.options.features == "cl2n" else features, dim=-1)
