"""Prototype replay after PASS (Zhu et al., CVPR 2021): features drawn around class prototypes, no exemplars.

As the paper's eq. 4 to 7 and the authors' code: old classes are replayed as prototype + radius · noise and
classified by the head, at a training temperature of 0.1; a feature distillation keeps the features near
those of the old network, by the length of the whole batch's difference (the code's `torch.dist`, which
at a batch of 64 is 8 times the mean length of a sample's). The radius is the first experience's, kept for
ever; `spread = class` gives every class its own.

Differs: no rotation augmentation (its self-supervised part); and where boundaries are hidden, which PASS
does not know, prototypes are running means that fade by `decay` a sample, spreads are the classes' own, and
the old network is a moving average of the network (`teacher_decay` a step).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from streamlab.config import at_least, within
from streamlab.nets.network import frozen_copy
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.presets import settled
from streamlab.parts.prototypes import Prototypes
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zhu2021pass,
  title = {Prototype Augmentation and Self-Supervision for Incremental Learning},
  author = {Zhu, Fei and Zhang, Xu-Yao and Wang, Chuang and Yin, Fei and Liu, Cheng-Lin},
  booktitle = {CVPR},
  year = {2021},
}
"""


@dataclass(frozen=True)
class Details:
    """What a preset settles: see `Options`."""

    replay_size: int
    prototype_weight: float
    feature_weight: float
    temperature: float
    distance: Literal["batch", "sample"]
    spread: Literal["first", "class"]

    def __post_init__(self) -> None:
        at_least("prototype-replay", "replay_size", self.replay_size, 0)
        at_least("prototype-replay", "temperature", self.temperature, 0.001)


PRESETS: dict[str, dict[str, Any]] = {
    "pass": {
        "replay_size": 0, "prototype_weight": 10.0, "feature_weight": 10.0, "temperature": 0.1,
        "distance": "batch", "spread": "first",
    },
    "online": {
        "replay_size": 32, "prototype_weight": 1.0, "feature_weight": 1.0, "temperature": 1.0,
        "distance": "sample", "spread": "class",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Options(MetricTerms):
    """preset: pass (where boundaries are shown) or online (where they are hidden); auto: by the stream.
    What is not given is the preset's: replay_size: features drawn beside each batch (0: as many as it has
    samples); prototype_weight, feature_weight: of eq. 7; temperature: that logits are divided by while
    learning; distance: of features, the length of a batch's difference or the mean of each sample's;
    spread: the first experience's or each class's own. decay, teacher_decay: see above. icnn, proto_triplet,
    margin: metric losses on features of the batch and of drawn prototypes (`streamlab.parts.metric_losses`).
    """

    preset: Literal["auto", "pass", "online"] = "auto"
    replay_size: int | None = None
    prototype_weight: float | None = None
    feature_weight: float | None = None
    temperature: float | None = None
    distance: Literal["batch", "sample"] | None = None
    spread: Literal["first", "class"] | None = None
    decay: float = 0.99
    teacher_decay: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        within("prototype-replay", "decay", self.decay, 0, 1)
        within("prototype-replay", "teacher_decay", self.teacher_decay, 0, 1)
        details_of(self, True)  # refused here, not later


@cache
def details_of(options: Options, shows_boundaries: bool) -> Details:
    """All details, where boundaries are shown or hidden."""
    by_stream = "pass" if shows_boundaries else "online"
    return settled(Details, PRESETS[by_stream if options.preset == "auto" else options.preset], options)


class PrototypeReplay(Strategy):
    """Eq. 7: task loss + weight · loss on drawn prototypes + weight · distance of features."""

    options: Options
    smooths_labels = True
    ledger_kinds: ClassVar[dict[str, str]] = {"teacher": "extra models", "radius": "statistics"}

    @property
    def details(self) -> Details:
        """What the preset and the options settle for this stream."""
        return details_of(self.options, self.setting.shows_boundaries)

    def setup(self) -> None:
        size, classes = self.net.backbone.feature_size, self.setting.num_classes
        self.trains_backbone = any(p.requires_grad for p in self.net.backbone.parameters())
        decay = self.options.decay if self.trains_backbone else 1.0
        self.prototypes = Prototypes(classes, size, self.setting.device, decay)
        self.known: set[int] = set()  # classes that have a prototype, where no device need be asked
        self.radius = torch.zeros((), device=self.setting.device)
        self.teacher: nn.Module | None = None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        details = self.details
        features = self.net.features(batch.images)
        task = self.cross_entropy(self.net.head(features) / details.temperature, batch.labels, self.exposed)
        losses = {"task": task}
        drawn, labels = self.draw(batch)
        if len(labels):
            replay = self.cross_entropy(self.net.head(drawn) / details.temperature, labels, self.exposed)
            losses["prototypes"] = details.prototype_weight * replay
        if self.options.wanted:
            losses |= self.options.of(torch.cat([features, drawn]), torch.cat([batch.labels, labels]))
        if self.teacher is not None:
            with torch.no_grad():
                teacher_features = self.teacher(self.net.scaled(batch.images))
            change = features - teacher_features
            length = change.norm() if details.distance == "batch" else change.norm(dim=1).mean()
            losses["features"] = details.feature_weight * length
        if not self.setting.shows_boundaries:
            self.prototypes.update(features.detach(), batch.labels)
            self.known.update(batch.label_list)
        return losses

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Eq. 5: features (n, D) around prototypes of classes that are not in the batch, and their labels."""
        old = sorted(self.known.difference(batch.label_list))
        if not old:
            return self.prototypes.means[:0], batch.labels[:0]
        classes = torch.tensor(old, device=batch.labels.device)
        count = self.details.replay_size or len(batch)
        labels = classes[torch.randint(len(classes), (count,), device=classes.device)]
        noise = torch.randn(count, self.prototypes.means.shape[1], device=classes.device)
        return self.around(labels, noise), labels

    def around(self, labels: Tensor, noise: Tensor) -> Tensor:
        """(n,) labels, (n, D) standard normals -> (n, D) prototype + radius · noise."""
        radius = self.radius
        if self.details.spread == "class":
            radius = self.prototypes.spreads[labels].sqrt()[:, None]
        return self.prototypes.means[labels] + radius * noise

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        losses = self.losses(batch)
        self.step(losses)
        if self.trains_backbone and not self.setting.shows_boundaries:
            self.follow()
        return losses

    @torch.no_grad()
    def follow(self) -> None:
        """The teacher moves towards the network."""
        if self.teacher is None:
            self.teacher = frozen_copy(self.net.backbone)
            return
        pairs = zip(self.teacher.state_dict().values(), self.net.backbone.state_dict().values(), strict=True)
        for old, new in pairs:
            if old.dtype.is_floating_point:
                old.lerp_(new, 1 - self.options.teacher_decay)

    def end_experience(self, view: ExperienceView) -> None:
        """Prototypes are the classes' mean features; the first experience's spread is the radius (eq. 5)."""
        is_first, labels = not self.known, torch.unique(view.labels).tolist()
        for label in labels:
            self.prototypes.replace(label, self.features_of(view.of_class(label).images))
        self.known.update(labels)
        if is_first:
            self.radius = self.prototypes.spreads[self.prototypes.known].mean().sqrt()
        if self.trains_backbone:
            self.teacher = frozen_copy(self.net.backbone)

    def bytes_to_come(self, experiences: int = 1) -> int:
        comes = self.teacher is None and self.trains_backbone
        return sum(tensor.nbytes for tensor in self.net.backbone.state_dict().values()) if comes else 0
