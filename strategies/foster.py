"""FOSTER (Wang et al., ECCV 2022): boost with a new network what the old one gets wrong, then compress both.

As the paper: a session trains a new network whose outputs are added to the old one's, which is frozen
(eq. 5 and 6, the outputs of new classes being the new network's alone), by three losses: cross-entropy of
outputs that are scaled class by class (logits alignment), feature enhancement by a classifier of the new
network alone, and distillation of the old outputs. At its end one network learns, by balanced
distillation, what both know (sec. 3.4). Class weights by effective numbers (Cui et al. 2019), beta 0.96 and
0.97 as the authors' code: they suit its 20 exemplars beside 500 new images a class; with fewer of both they
overshoot. Differs: exemplars are herded, and replayed beside each batch, as
many as the paper's shuffling would put into it (`replay_size`: so many instead); the compression takes
`compression_epochs` passes over the session's data.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Choice, Range, Searched, at_least, within
from streamlab.memory import HerdedBuffer
from streamlab.nets.network import Network, frozen_copy
from streamlab.parts.losses import cross_entropy, distillation
from streamlab.parts.rehearsal import Rehearsal
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{wang2022foster,
  title = {{FOSTER}: Feature Boosting and Compression for Class-Incremental Learning},
  author = {Wang, Fu-Yun and Zhou, Da-Wei and Ye, Han-Jia and Zhan, De-Chuan},
  booktitle = {ECCV},
  year = {2022},
}
"""


@dataclass(frozen=True)
class Options:
    """replay_size: exemplars replayed beside each batch (0: their share of the data); temperature: of both
    distillations; beta_boost, beta_compress: of the effective numbers; compression_epochs,
    compression_batch: of the second stage.
    """

    replay_size: int = 0
    temperature: float = 2.0
    beta_boost: float = 0.96
    beta_compress: float = 0.97
    compression_epochs: int = 5
    compression_batch: int = 32

    def __post_init__(self) -> None:
        at_least("foster", "replay_size", self.replay_size, 0)
        at_least("foster", "temperature", self.temperature, 0.01)
        at_least("foster", "compression_epochs", self.compression_epochs, 1)
        at_least("foster", "compression_batch", self.compression_batch, 1)
        for name in ("beta_boost", "beta_compress"):
            within("foster", name, getattr(self, name), 0, 0.99999)


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """(K,) samples of each class -> (K,) weights whose mean over classes that have some is 1; else 1.

    (1 - beta) / (1 - beta^n): the inverse of the effective number (Cui et al., CVPR 2019, eq. 2).
    """
    has = counts > 0
    weights = torch.where(has, (1 - beta) / (1 - beta ** counts.clamp(min=1).float()), 0.0)
    return torch.where(has, weights * has.sum() / weights.sum().clamp(min=1e-12), 1.0)


def balanced_distillation(student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """(B, K) logits of both, (K,) weights of the teacher's chances: a scalar >= 0 (the paper's eq. 14)."""
    chances = F.softmax(teacher / temperature, 1) * weights
    chances = chances / chances.sum(1, keepdim=True)
    return -(chances * F.log_softmax(student / temperature, 1)).sum(1).mean()


class FeatureBoosting(Strategy):
    """Two networks while a session is learned, one afterwards."""

    options: Options
    kinds = frozenset({"sessions"})
    needs_boundaries = True
    least_per_class = 1
    ledger_kinds: ClassVar[dict[str, str]] = {
        "teacher": "extra models", "student": "extra models", "enhancement": "head",
        "old_classes": "statistics", "counts": "statistics",
    }  # fmt: skip
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "beta_boost": Choice((0.0, 0.8, 0.96)),
        "beta_compress": Choice((0.0, 0.8, 0.97)),
    }  # fmt: skip

    def setup(self) -> None:
        self.buffer = self.make_buffer("herding")
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.teacher: Network | None = None
        self.student: Network | None = None
        self.enhancement = self.make_head()
        self.old_classes = torch.zeros_like(self.exposed)
        self.counts = torch.zeros(self.setting.num_classes, dtype=torch.int64, device=self.setting.device)

    def make_head(self) -> nn.Linear:
        """A new classifier of one network's features."""
        made = nn.Linear(self.net.backbone.feature_size, self.setting.num_classes)
        return made.to(self.setting.device)

    def begin_experience(self, view: ExperienceView) -> None:
        """The network becomes the frozen old one; the new one begins with its features and a new head.

        The student, into which both will be compressed, is made here too, so that it is counted as held.
        """
        self.rehearsal.begin(self.buffer, view)
        held = torch.cat([view.labels, self.buffer.everything().labels])
        self.counts = torch.bincount(held, minlength=self.setting.num_classes)
        if bool(self.old_classes.any()):
            self.teacher, self.student = frozen_copy(self.net), copy.deepcopy(self.net)
            fresh, new = self.make_head(), torch.nonzero(~self.old_classes).flatten()
            with torch.no_grad():
                for mine, its in zip(self.student.head.parameters(), fresh.parameters(), strict=True):
                    mine[new] = its[new]
            self.net.head, self.enhancement = self.make_head(), self.make_head()
            self.optimizer = self.make_optimizer([*self.trained_parameters(), *self.enhancement.parameters()])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        both = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        seen = self.exposed | self.own_classes
        features = self.net.features(both.images)
        own = self.net.head(features)
        if self.teacher is None:
            return {"task": cross_entropy(own, both.labels, seen)}
        with torch.no_grad():
            old = self.teacher(both.images)
        logits = own + old * self.old_classes
        weights = class_weights(self.counts, self.options.beta_boost)
        temperature = self.options.temperature
        kept = distillation(logits[:, self.old_classes], old[:, self.old_classes], temperature)
        return {
            "task": cross_entropy(logits / weights, both.labels, seen),
            "enhancement": cross_entropy(self.enhancement(features), both.labels, seen),
            "distillation": kept / temperature**2,
        }

    def end_experience(self, view: ExperienceView) -> None:
        if self.teacher is not None and self.student is not None:
            self.compress(self.teacher, self.student, view)
            self.net, self.teacher, self.student = self.student, None, None
            self.optimizer = self.make_optimizer(self.trained_parameters())
        assert isinstance(self.buffer, HerdedBuffer)
        self.buffer.herd(view, self.features_of)
        self.old_classes = self.exposed.clone()

    def compress(self, old: Network, student: Network, view: ExperienceView) -> None:
        """One network, which begins as the old one, learns what both say together."""
        self.train_mode(False)
        optimizer = self.make_optimizer(p for p in student.parameters() if p.requires_grad)
        weights = class_weights(self.counts, self.options.beta_compress)[self.exposed]
        student.train()
        for batch in view.batches(self.options.compression_epochs, self.options.compression_batch):
            both = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
            if len(both) == 1:
                continue  # batch normalisation has no variance of one sample
            with torch.no_grad():
                known = self.net(both.images) + old(both.images) * self.old_classes
            loss = balanced_distillation(
                student(both.images)[:, self.exposed], known[:, self.exposed], weights,
                self.options.temperature,
            )  # fmt: skip
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        optimizer.zero_grad()

    def predict(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits if self.teacher is None else logits + self.teacher(images) * self.old_classes

    def bytes_to_come(self, experiences: int = 1) -> int:
        """The old network, and the one that both are compressed into."""
        comes = experiences > 1 or bool(self.old_classes.any())
        return 2 * sum(tensor.nbytes for tensor in self.net.state_dict().values()) if comes else 0
