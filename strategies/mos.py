"""MOS: model surgery for pretrained class-incremental learning (Sun et al., AAAI 2025, arXiv 2412.09441).

Every session puts adapters into a frozen pretrained network; they begin as the last session's ended, and
after every step are moved towards the mean of all earlier ones. They learn under one linear classifier, and
by a term that keeps features apart from each other and from old classes' means. After every session but the
first, the classifier is aligned on features drawn from a Gaussian of each class. An image is predicted by the
adapters of the session that its prediction belongs to: the first guess is a nearest class mean under the
first adapters, and is refined until adapters and prediction agree. Both scores are added as probabilities,
the first guess sharpened by the number of sessions.

Differs from the authors' code: it merges again in every block of every forward pass, in tests too, so that
its adapters change with the number of test batches; here they are merged once a step, as the paper says.
While a session is learned, its classes have no mean yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import at_least, within
from streamlab.errors import StreamlabError
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.adapters import BranchSets
from streamlab.nets.transformer import as_transformer, begin_as_timm
from streamlab.parts.gaussians import Alignment, Gaussians, align
from streamlab.parts.prototypes import class_means
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{sun2025mos,
  title = {{MOS}: Model Surgery for Pre-Trained Model-Based Class-Incremental Learning},
  author = {Sun, Hai-Long and Zhou, Da-Wei and Zhao, Hanbin and Gan, Le and Zhan, De-Chuan and Ye, Han-Jia},
  booktitle = {AAAI},
  year = {2025},
}
"""
APART = 0.8  # temperature of the term that keeps features apart
ROUNDS = 3  # how often a prediction may name other adapters


@dataclass(frozen=True)
class Options:
    """width: of an adapter's bottleneck; merge: share of earlier adapters after a step; apart: weight of the
    term that keeps features apart; alignment_epochs, samples (of a class and of a step), alignment_lr: of the
    classifier's alignment; ensemble: whether the first guess has a say in the end.
    """

    width: int = 16
    merge: float = 0.1
    apart: float = 0.1
    alignment_epochs: int = 30
    samples: int = 240
    alignment_lr: float = 0.005
    ensemble: bool = True

    def __post_init__(self) -> None:
        at_least("mos", "width", self.width, 1)
        within("mos", "merge", self.merge, 0, 1)
        at_least("mos", "apart", self.apart, 0)
        at_least("mos", "alignment_epochs", self.alignment_epochs, 0)
        at_least("mos", "samples", self.samples, 1)
        if self.alignment_lr <= 0:
            raise StreamlabError(f"mos: alignment_lr is {self.alignment_lr}, and must be above 0")


class ModelSurgery(Strategy):
    """Merged adapters a session, one classifier, and a prediction that looks for its session."""

    options: Options
    needs = Needs(kinds=SESSIONS, boundaries=True, new_classes=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "lr": 0.003,
        "backbone_lr": 10.0,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "schedule": "cosine",
    }
    scores_are_logits = False
    smooths_labels = True
    ledger_kinds: ClassVar[dict[str, str]] = {
        "first_means": "statistics",
        "before": "statistics",
        "session": "statistics",
    }
    known_failures: ClassVar[dict[str, str]] = {
        "stops_growing": "the method: adapters a session, whatever the session shows"
    }

    def setup(self) -> None:
        classes, device = self.setting.num_classes, self.setting.device
        transformer = as_transformer("mos", self.net.backbone)
        transformer.requires_grad_(False)
        begin_as_timm(self.net.head)
        self.size = transformer.feature_size
        self.adapters = BranchSets(transformer, self.options.width)
        self.gaussians = Gaussians(classes, self.size, device)
        self.first_means = torch.zeros(classes, self.size, device=device)
        self.before = torch.zeros(0, self.size, device=device)  # means of earlier sessions' classes
        self.session = torch.full((classes,), -1, dtype=torch.int64, device=device)
        self.optimizer = self.make_optimizer(self.trained_parameters())

    def begin_experience(self, view: ExperienceView) -> None:
        if view.number:
            self.adapters.grow(anew=False)
            self.optimizer = self.make_optimizer(self.trained_parameters())
        self.before = self.gaussians.means[self.gaussians.known()]
        self.session[list(view.classes)] = len(self.adapters) - 1

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        features = self.net.features(batch.images)
        task = self.cross_entropy(self.net.head(features), batch.labels, self.current_classes)
        return {"task": task, "apart": self.options.apart * kept_apart(torch.cat([self.before, features]))}

    def apply_gradients(self) -> None:
        super().apply_gradients()
        self.adapters.merge(self.options.merge)

    def end_experience(self, view: ExperienceView) -> None:
        embeddings, labels = view.embeddings(self), view.labels
        features = embeddings.view(len(labels), len(self.adapters), self.size)
        classes, means = class_means(features[:, 0], labels)
        self.first_means[classes] = means
        for label in classes.tolist():
            self.gaussians.take(label, features[labels == label, -1])
        if view.number and self.options.alignment_epochs:
            self.align()

    def align(self) -> None:
        """Train the classifier on features drawn from all classes' Gaussians."""
        options, gaussians = self.options, self.gaussians
        classes, decay = gaussians.known(), self.setting.optimizer.weight_decay
        settled = Alignment(options.alignment_epochs, options.samples, options.alignment_lr, decay)

        def loss(features: Tensor, targets: Tensor) -> Tensor:
            return F.cross_entropy(self.net.head(features)[:, classes], targets)

        align(self.net.head, gaussians.means[classes], gaussians.covariances[classes], settled, loss)

    def embed(self, images: Tensor) -> Tensor:
        """(B, sessions · D): the features under each session's adapters."""
        return self.adapters.features(self.net.backbone, self.net.scaled(images))

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        sessions, hidden = len(self.adapters), ~(self.session >= 0)
        features = embedding.view(len(embedding), sessions, self.size)
        first = F.normalize(features[:, 0]) @ F.normalize(self.first_means).T
        logits = self.net.head(features).masked_fill(hidden, float("-inf"))
        chosen = refined(first.masked_fill(hidden, float("-inf")), logits, self.session)
        if not self.options.ensemble:
            return chosen
        return chosen.softmax(1) + (sessions * first).masked_fill(hidden, float("-inf")).softmax(1)

    def bytes_to_come(self, experiences: int = 1) -> int:
        means = (len(self.session) - len(self.before)) * self.size
        return 4 * (self.parameters_to_come(experiences) + means)

    def parameters_to_come(self, experiences: int = 1) -> int:
        """Adapters of sessions to come; the first's are there already."""
        begun = bool((self.session >= 0).any())
        return (experiences if begun else experiences - 1) * self.adapters.parameters_each


def kept_apart(rows: Tensor) -> Tensor:
    """(n, D) -> cross-entropy of each row with itself among all, by their products."""
    return F.cross_entropy(rows @ rows.T / APART, torch.arange(len(rows), device=rows.device))


def refined(first: Tensor, logits: Tensor, session: Tensor) -> Tensor:
    """Logits (B, K) of the adapters that their own prediction belongs to, or of the last that were asked.

    first: (B, K) scores that choose the first adapters; logits: (B, T, K) by each session's adapters;
    session: (K,) of a class. As the authors' code, at most four rounds.
    """
    rows = torch.arange(len(first), device=first.device)
    named = session[logits.argmax(2)]
    place = session[first.argmax(1)]
    for _ in range(ROUNDS):
        place = named[rows, place]
    return logits[rows, place]
