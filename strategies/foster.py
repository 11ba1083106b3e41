"""FOSTER (Wang et al., ECCV 2022): boost with a new network what the old one gets wrong, then compress both.

As the paper: a session trains a new network whose outputs are added to the old one's, which is frozen, by
three losses: cross-entropy of outputs that are scaled class by class (logits alignment), feature
enhancement by a classifier of the new network alone, and distillation of the old outputs. The boosted
network, of both, is what is judged, and what exemplars are herded by; at a session's end a student learns
by balanced distillation what both know (sec. 3.4), and is the next session's old network. `classifier =
whole` learns the classifier of all features, as every published run of the authors' does; `new` holds
the old network's part (eq. 5 and 6). Class weights by effective numbers (Cui et al. 2019), beta 0.96 and
0.97 as their code: they suit its 20 exemplars beside 500 new images a class. Differs: exemplars are
replayed beside each batch, as many as the paper's shuffling would put into it (`replay_size`: so many
instead); the compression takes `compression_epochs` passes over the session's data.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Choice, Range, Searched, at_least, within
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.network import Network, frozen_copy
from streamlab.nets.optimizer import build_optimizer, scale_rate
from streamlab.parts.expansion import ExpandingBackbone
from streamlab.parts.losses import distillation
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.rehearsal import Rehearsal
from streamlab.schedules import Moment, rate_factor
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
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch (0: their share of the data); classifier: see above;
    temperature: of both distillations; beta_boost, beta_compress: of the effective numbers;
    compression_epochs, compression_batch: of the second stage. icnn, proto_triplet, margin: metric
    losses on new and replayed features in the first (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 0
    classifier: Literal["whole", "new"] = "whole"
    temperature: float = 2.0
    beta_boost: float = 0.96
    beta_compress: float = 0.97
    compression_epochs: int = 5
    compression_batch: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
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
    samples = counts.clamp(min=1).to(torch.get_default_dtype())
    weights = torch.where(has, (1 - beta) / (1 - beta**samples), 0.0)
    return torch.where(has, weights * has.sum() / weights.sum().clamp(min=1e-12), 1.0)


def balanced_distillation(student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """(B, K) logits of both, (K,) weights of the teacher's chances: a scalar >= 0 (the paper's eq. 14)."""
    chances = F.softmax(teacher / temperature, 1) * weights
    chances = chances / chances.sum(1, keepdim=True)
    return -(chances * F.log_softmax(student / temperature, 1)).sum(1).mean()


class BoostedHead(nn.Module):
    """(B, 2D) features of the old and the new network -> (B, K): W_old f_old + W_new f_new + bias.

    It begins with the old classes' weights and biases of the old network; the rest is drawn anew, or, where
    learns_old is false, 0 in W_old, which is then held (eq. 5 and 6).
    """

    def __init__(self, old_head: nn.Linear, old_classes: Tensor, learns_old: bool) -> None:
        super().__init__()
        size, classes = old_head.in_features, old_head.out_features
        device = old_head.weight.device
        self.size = size
        self.old = nn.Linear(size, classes, bias=False).to(device)
        self.new = nn.Linear(size, classes).to(device)
        with torch.no_grad():
            if not learns_old:
                self.old.weight.zero_()
            self.old.weight[old_classes] = old_head.weight[old_classes]
            self.new.bias[old_classes] = old_head.bias[old_classes]
        self.old.requires_grad_(learns_old)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.old(features[:, : self.size]) + self.new(features[:, self.size :])
        return logits


class FeatureBoosting(Strategy):
    """Two networks while a session is learned and judged, and one that both are compressed into."""

    options: Options
    smooths_labels = True
    needs = Needs(kinds=SESSIONS, boundaries=True, learning_backbone=True, exemplars_per_class=1)
    ledger_kinds: ClassVar[dict[str, str]] = {
        "student": "extra models", "old_head": "extra models", "enhancement": "head",
        "old_classes": "statistics", "counts": "statistics",
    }  # fmt: skip
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "beta_boost": Choice((0.0, 0.8, 0.96)),
        "beta_compress": Choice((0.0, 0.8, 0.97)),
    }  # fmt: skip

    known_failures: ClassVar[dict[str, str]] = {
        "stops_growing": "the method: from the second session on it holds a second network and their student"
    }

    def setup(self) -> None:
        self.buffer = self.make_herded_buffer()
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.feature_size = self.net.backbone.feature_size
        self.student: Network | None = None
        self.old_head: nn.Module | None = None
        self.enhancement = self.make_head()
        self.old_classes = torch.zeros_like(self.exposed)
        self.counts = torch.zeros(self.setting.num_classes, dtype=torch.int64, device=self.setting.device)

    def make_head(self) -> nn.Linear:
        """A new classifier of one network's features."""
        return nn.Linear(self.feature_size, self.setting.num_classes).to(self.setting.device)

    def begin_experience(self, view: ExperienceView) -> None:
        """From the second session on the old network is frozen, and a copy of it is the new one.

        The student, into which both will be compressed, is made here too, so that it is counted as held.
        """
        self.rehearsal.begin(self.buffer, view)
        learned = torch.cat([view.labels, self.buffer.everything().labels])
        self.counts = torch.bincount(learned, minlength=self.setting.num_classes)
        if not bool(self.old_classes.any()):
            return
        old = self.student or self.net
        old_head = old.head
        assert isinstance(old_head, nn.Linear)
        self.student = copy.deepcopy(old)
        with torch.no_grad():
            drawn = zip(self.student.head.parameters(), self.make_head().parameters(), strict=True)
            for mine, anew in drawn:
                mine[~self.old_classes] = anew[~self.old_classes]
        self.net = old
        backbone = ExpandingBackbone(old.backbone)
        backbone.grow()
        self.net.backbone = backbone
        self.net.head = BoostedHead(old_head, self.old_classes, self.options.classifier == "whole")
        self.old_head, self.enhancement = frozen_copy(old_head), self.make_head()
        self.optimizer = self.make_optimizer([*self.trained_parameters(), *self.enhancement.parameters()])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 7 to 10: logits alignment, feature enhancement and distillation."""
        combined = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        seen, labels = self.exposed | self.current_classes, combined.labels
        features = self.net.features(combined.images)
        logits, terms = self.net.head(features), self.options.of(features, labels)
        if self.old_head is None:
            return {"task": self.cross_entropy(logits, labels, seen), **terms}
        old_features, new_features = torch.split(features, self.feature_size, dim=1)
        old_logits, old = self.old_head(old_features), self.old_classes
        weights = class_weights(self.counts, self.options.beta_boost)
        return {
            "task": self.cross_entropy(logits / weights, labels, seen),
            "enhancement": self.cross_entropy(self.enhancement(new_features), labels, seen),
            "distillation": distillation(logits, old_logits, self.options.temperature, old),
            **terms,
        }

    def end_experience(self, view: ExperienceView) -> None:
        if self.student is not None:
            self.compress(self.student, view)
        self.buffer.herd(view, self.features_of)
        self.old_classes = self.exposed.clone()

    def compress(self, student: Network, view: ExperienceView) -> None:
        """One network, which begins as the old one, learns what the boosted one says; without decay.

        A schedule of experiences begins anew for it, one that runs through the stream stays where it is.
        """
        self.train_mode(False)
        config = dataclasses.replace(self.setting.optimizer, weight_decay=0.0)
        epochs, size = self.options.compression_epochs, self.options.compression_batch
        an_epoch = max(1, math.ceil(len(view) / size))
        learned = [parameter for parameter in student.parameters() if parameter.requires_grad]
        optimizer = build_optimizer(config, learned, student.backbone.parameters())
        weights = class_weights(self.counts, self.options.beta_compress)[self.exposed]
        student.train()
        for step, batch in enumerate(view.batches(epochs, size)):
            moment = Moment(step, an_epoch * epochs, step // an_epoch, epochs)
            through = config.over == "stream"
            scale_rate(optimizer, self.rate_factor if through else rate_factor(config, moment))
            combined = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
            if len(combined) == 1:
                continue  # batch normalisation has no variance of one sample
            with torch.no_grad():
                boosted_logits = self.net(combined.images)
            loss = balanced_distillation(
                student(combined.images)[:, self.exposed], boosted_logits[:, self.exposed], weights,
                self.options.temperature,
            )  # fmt: skip
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            if config.clip:
                nn.utils.clip_grad_norm_(learned, config.clip)
            optimizer.step()
        optimizer.zero_grad()

    def bytes_to_come(self, experiences: int = 1) -> int:
        """A second network, the student, the old classifier's copy and the wider classifier."""
        comes = self.student is None and (experiences > 1 or bool(self.old_classes.any()))
        network = sum(tensor.nbytes for tensor in self.net.state_dict().values())
        head = sum(parameter.nbytes for parameter in self.enhancement.parameters())
        return 2 * network + head if comes else 0

    def parameters_to_come(self, experiences: int = 1) -> int:
        """The second network's, which stays: what is judged is both."""
        comes = self.student is None and (experiences > 1 or bool(self.old_classes.any()))
        return sum(parameter.numel() for parameter in self.net.backbone.parameters()) if comes else 0
