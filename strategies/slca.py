"""SLCA: slow learner with classifier alignment (Zhang et al., ICCV 2023, arXiv 2303.05118).

The whole pretrained network learns, at a hundredth of the classifier's rate (`optimizer.backbone_lr`). Of
each class it keeps the mean and the covariance of its features as they were when its session ended. After
every session but the first, the classifier of all classes is aligned: trained for some epochs on features
drawn from these Gaussians, their logits divided by their length (eq. 5 to 7). What is aligned predicts; the
next session goes on from the classifier before the alignment, as the authors' code does.

Differs: while a session is learned, an evaluation sees the classifier before alignment (theirs evaluates
after sessions alone).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.transformer import begin_as_timm
from streamlab.parts.gaussians import Alignment, Gaussians, align
from streamlab.parts.heads import rows_kept
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zhang2023slca,
  title = {{SLCA}: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained Model},
  author = {Zhang, Gengwei and Wang, Liyuan and Kang, Guoliang and Chen, Ling and Wei, Yunchao},
  booktitle = {ICCV},
  year = {2023},
}
"""


@dataclass(frozen=True)
class Options:
    """alignment_epochs: 0 leaves it out; samples: drawn of each class in each of them, and of a step;
    temperature: of logits divided by their length.
    """

    alignment_epochs: int = 5
    samples: int = 256
    temperature: float = 0.1

    def __post_init__(self) -> None:
        at_least("slca", "alignment_epochs", self.alignment_epochs, 0)
        at_least("slca", "samples", self.samples, 1)
        if self.temperature <= 0:
            raise StreamlabError(f"slca: temperature is {self.temperature}, and must be above 0")


class SlowLearner(Strategy):
    """Sessions' classes learn apart; their classifiers are aligned on Gaussians."""

    options: Options
    needs = Needs(kinds=SESSIONS, boundaries=True, learning_backbone=True)
    smooths_labels = True
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit", "trained": True}
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "lr": 0.01,
        "backbone_lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 0.0005,
    }
    ledger_kinds: ClassVar[dict[str, str]] = {
        "session": "statistics",
        "aligned": "head",
    }

    def setup(self) -> None:
        classes, size, device = (
            self.setting.num_classes,
            self.net.backbone.feature_size,
            self.setting.device,
        )
        begin_as_timm(self.net.head)
        self.gaussians = Gaussians(classes, size, device)
        self.session = torch.full((classes,), -1, dtype=torch.int64, device=device)
        self.aligned = copy.deepcopy(self.net.head)
        self.is_aligned = False

    def begin_experience(self, view: ExperienceView) -> None:
        self.is_aligned = False
        self.optimizer = self.make_optimizer(self.net.parameters())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.net(batch.images)
        return {"task": self.cross_entropy(logits, batch.labels, self.current_classes)}

    def apply_gradients(self) -> None:
        with rows_kept(self.net.head, ~self.current_classes):
            super().apply_gradients()

    def end_experience(self, view: ExperienceView) -> None:
        for label in view.classes:
            images = view.of_class(label).images
            if len(images):
                self.gaussians.take(label, self.features_of(images))
                self.session[label] = view.number
        if view.number and self.options.alignment_epochs:
            self.align()

    def align(self) -> None:
        """Train a copy of the classifier on features drawn from all classes' Gaussians.

        Older classes' means are moved towards 0, the oldest session's most (by a tenth at the most).
        """
        config = self.setting.optimizer
        classes = torch.nonzero(self.session >= 0).flatten()
        sessions = self.session[classes]
        means = self.gaussians.means[classes] * (0.9 + 0.1 * (sessions + 1) / (sessions.max() + 1))[:, None]
        groups = [torch.nonzero(sessions == one).flatten() for one in torch.unique(sessions)]

        def loss(features: Tensor, targets: Tensor) -> Tensor:
            logits = self.aligned(features)[:, classes]
            return F.cross_entropy(logits / self.lengths(logits, groups), targets)

        self.aligned.load_state_dict(self.net.head.state_dict())
        settled = Alignment(
            self.options.alignment_epochs, self.options.samples, config.lr, config.weight_decay
        )
        align(self.aligned, means, self.gaussians.covariances[classes], settled, loss)
        self.is_aligned = True

    def lengths(self, logits: Tensor, groups: list[Tensor]) -> Tensor:
        """(B, n) logits, the columns of each session -> (B, 1) temperature · mean length over sessions."""
        each = [logits[:, columns].norm(dim=1) + 1e-7 for columns in groups]
        return self.options.temperature * torch.stack(each, dim=1).mean(1, keepdim=True)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        head: nn.Module = self.aligned if self.is_aligned else self.net.head
        return cast(Tensor, head(embedding))
