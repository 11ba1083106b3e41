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

from streamlab.config import at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.adapters import AdapterKind, adapt
from streamlab.nets.network import CosineHead
from streamlab.parts.prototypes import Prototypes
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@article{zhou2024revisiting,
  title = {Revisiting Class-Incremental Learning with Pre-Trained Models: Generalizability and Adaptivity are
    All You Need},
  author = {Zhou, Da-Wei and Cai, Zi-Wen and Ye, Han-Jia and Zhan, De-Chuan and Liu, Ziwei},
  journal = {IJCV},
  year = {2024},
}
"""


@dataclass(frozen=True)
class Options:
    """adapt: what learns in the first session (adapter, ssf, vpt-shallow, vpt-deep or fine-tuning). width: of
    an adapter's bottleneck; prompts: rows of visual prompts.
    """

    adapt: AdapterKind = "adapter"
    width: int = 64
    prompts: int = 5

    def __post_init__(self) -> None:
        at_least("aper", "width", self.width, 1)
        at_least("aper", "prompts", self.prompts, 1)


class AdaptAndMerge(Strategy):
    """Cosine to the means of features before and after adaptation."""

    options: Options
    needs = Needs(kinds=SESSIONS, boundaries=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "cosine",
    }  # fmt: skip
    scores_are_logits = False
    smooths_labels = True
    ledger_kinds: ClassVar[dict[str, str]] = {"adaptation": "extra models"}

    def setup(self) -> None:
        options, net = self.options, self.net
        self.adaptation = adapt("aper", net.backbone, options.adapt, options.width, options.prompts)
        size, classes = net.backbone.feature_size, self.setting.num_classes
        self.replace_head(CosineHead(size, classes, 1.0, learned=True))
        self.adapting = True
        self.prototypes = Prototypes(classes, 2 * size, self.setting.device)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.net(batch.images)
        return {"task": self.cross_entropy(logits, batch.labels, self.current_classes)}

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        return super().observe(batch) if self.adapting else {}

    def end_experience(self, view: ExperienceView) -> None:
        if self.adapting:
            self.adapting = False
            self.net.requires_grad_(False)
            self.optimizer = None
        self.prototypes.update(view.embeddings(self), view.labels)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 2 D): before and after."""
        before = self.adaptation.without(self.net.backbone, self.net.scaled(images))
        return torch.cat([before, self.net.features(images)], dim=1)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return F.normalize(embedding) @ F.normalize(self.prototypes.means).T
