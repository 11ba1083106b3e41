"""APER (Zhou et al., IJCV 2024, arXiv 2303.07338): adapt a pretrained network once, then SimpleCIL on both.

In the first session small learners inside the frozen network (AdaptFormer's branches, SSF, visual prompts) or
the network itself learn under a cosine classifier with a learned scale. From then on nothing does: a class is
the mean of its features from the network before and after, side by side, and its score the cosine to it.
Published as ADAM, named APER since. Training is the stream's: `first.epochs`, and the optimizer's section.

Differs from PILOT's code: small learners are switched off for the features before, in place of a second copy
of the network (the same features, half the bytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.needs import SESSIONS, Needs
from streamlab.nets.adapters import AdapterKind, Adapting
from streamlab.parts.first_session import FirstSession
from streamlab.parts.prototypes import Prototypes
from streamlab.strategy import Batch, ExperienceView, Strategy

from .simplecil import CITATION as CITATION


@dataclass(frozen=True)
class Options(Adapting):
    """adapt: what learns in the first session (adapter, ssf, vpt-shallow, vpt-deep, lora or fine-tuning; lora
    is ours). What else Adapting says.
    """

    adapt: AdapterKind = "adapter"


class AdaptAndMerge(Strategy):
    """Cosine to the means of features before and after adaptation."""

    options: Options
    needs = Needs(kinds=SESSIONS, boundaries=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "schedule": "cosine",
    }
    scores_are_logits = False
    smooths_labels = True
    ledger_kinds: ClassVar[dict[str, str]] = {"first": "extra models"}

    def setup(self) -> None:
        self.first = FirstSession(self, "aper", self.options.adapt, self.options)
        size = 2 * self.net.backbone.feature_size
        self.prototypes = Prototypes(self.setting.num_classes, size, self.setting.device)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.first.losses(self, batch)

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        return super().observe(batch) if self.first.under_way else {}

    def end_experience(self, view: ExperienceView) -> None:
        if self.first.under_way:
            self.first.end(self)
        self.prototypes.update(view.embeddings(self), view.labels)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 2 D): before and after."""
        return torch.cat([self.first.before(self, images), self.net.features(images)], dim=1)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return F.normalize(embedding) @ F.normalize(self.prototypes.means).T
