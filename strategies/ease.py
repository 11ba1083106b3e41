"""EASE: an expandable subspace ensemble (Zhou et al., CVPR 2024, arXiv 2403.12030).

Every session puts adapters of its own into a frozen pretrained network, which learn under a cosine classifier
of its classes and then are frozen: a subspace of features. A class is a prototype in each subspace. In those
that came after it, where it has no images, its prototype is a mixture of the later classes' prototypes there,
by their likeness to it in its own subspace (eq. 7 and 8). A score is the cosine in the class's own subspace,
plus alpha times the mean of those in the others (eq. 10).

Differs: while a session is learned, an evaluation takes the learned weights of its classes for their
prototypes (theirs evaluates after sessions alone).
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
from streamlab.nets.adapters import BranchSets
from streamlab.nets.network import CosineHead
from streamlab.nets.transformer import as_transformer
from streamlab.parts.prototypes import class_means
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zhou2024ease,
  title = {Expandable Subspace Ensemble for Pre-Trained Model-Based Class-Incremental Learning},
  author = {Zhou, Da-Wei and Sun, Hai-Long and Ye, Han-Jia and Zhan, De-Chuan},
  booktitle = {CVPR},
  year = {2024},
}
"""


@dataclass(frozen=True)
class Options:
    """width: of an adapter's bottleneck; alpha: weight of the subspaces that are not a class's own."""

    width: int = 64
    alpha: float = 0.1

    def __post_init__(self) -> None:
        at_least("ease", "width", self.width, 1)
        at_least("ease", "alpha", self.alpha, 0)


class SubspaceEnsemble(Strategy):
    """Adapters a session, and prototypes in all their subspaces."""

    options: Options
    needs = Needs(kinds=SESSIONS, boundaries=True, new_classes=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "lr": 0.025,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "schedule": "cosine",
    }
    scores_are_logits = False
    smooths_labels = True
    ledger_kinds: ClassVar[dict[str, str]] = {"prototypes": "statistics", "session": "statistics"}
    known_failures: ClassVar[dict[str, str]] = {
        "stops_growing": "the method: adapters a session, whatever the session shows"
    }

    def setup(self) -> None:
        classes, device = self.setting.num_classes, self.setting.device
        transformer = as_transformer("ease", self.net.backbone)
        transformer.requires_grad_(False)
        self.size = transformer.feature_size
        self.subspaces = BranchSets(transformer, self.options.width)
        self.prototypes = torch.zeros(classes, 1, self.size, device=device)
        self.session = torch.full((classes,), -1, dtype=torch.int64, device=device)
        self.learning = False
        self.begin_classifier()

    def begin_classifier(self) -> None:
        """A cosine classifier with a learned scale, drawn anew."""
        self.replace_head(CosineHead(self.size, self.setting.num_classes, 1.0, learned=True))

    def begin_experience(self, view: ExperienceView) -> None:
        if view.number:
            self.subspaces.grow()
            self.prototypes = F.pad(self.prototypes, (0, 0, 0, 1))
            self.begin_classifier()
        self.learning = True

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.net(batch.images)
        return {"task": self.cross_entropy(logits, batch.labels, self.current_classes)}

    def end_experience(self, view: ExperienceView) -> None:
        classes, means = class_means(view.embeddings(self), view.labels)
        self.prototypes[classes] = means.view(len(classes), len(self.subspaces), self.size)
        self.session[classes] = view.number
        complete(self.prototypes, self.session)
        self.learning = False

    def embed(self, images: Tensor) -> Tensor:
        """(B, subspaces · D)."""
        return self.subspaces.features(self.net.backbone, self.net.scaled(images))

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        session, prototypes = self.session, self.prototypes
        newest = prototypes.shape[1] - 1
        if self.learning:
            assert isinstance(self.net.head, CosineHead)
            weight = self.net.head.weight
            session = torch.where(self.current_classes, newest, session)
            prototypes = prototypes.clone()
            prototypes[self.current_classes, newest] = weight.detach()[self.current_classes]
        features = embedding.view(len(embedding), len(self.subspaces), self.size)
        return ensemble(features, prototypes, session, self.options.alpha)

    def bytes_to_come(self, experiences: int = 1) -> int:
        grown = 4 * self.prototypes.shape[0] * self.size + 4 * self.subspaces.parameters_each
        return self.to_come(experiences) * grown

    def parameters_to_come(self, experiences: int = 1) -> int:
        return self.to_come(experiences) * self.subspaces.parameters_each

    def to_come(self, experiences: int) -> int:
        """Subspaces that so many coming experiences bring; the first is there already."""
        return experiences if bool((self.session >= 0).any()) else experiences - 1


def complete(prototypes: Tensor, session: Tensor) -> None:
    """Fill in, in place, the prototypes of old classes in later subspaces (eq. 7 and 8).

    prototypes: (K, T, D); session: (K,) int64, -1 for a class not seen. All that is mixed was computed from
    images: the later classes' prototypes in both subspaces.
    """
    subspaces = prototypes.shape[1]
    for own in range(subspaces - 1):
        old = session == own
        for later in range(own + 1, subspaces):
            since = session >= later
            likeness = F.normalize(prototypes[old, own]) @ F.normalize(prototypes[since, own]).T
            prototypes[old, later] = likeness.softmax(1) @ prototypes[since, later]


def ensemble(features: Tensor, prototypes: Tensor, session: Tensor, alpha: float) -> Tensor:
    """(B, T, D) features, (K, T, D) prototypes, (K,) own subspaces -> (B, K) scores (eq. 10)."""
    subspaces = prototypes.shape[1]
    cosines = torch.einsum("btd,ktd->bkt", F.normalize(features, dim=2), F.normalize(prototypes, dim=2))
    own = F.one_hot(session.clamp(min=0), subspaces).to(cosines.dtype)
    return (cosines * torch.where(own > 0, 1.0, alpha / max(1, subspaces - 1))).sum(2)
