"""Prototype replay after PASS (Zhu et al., CVPR 2021): features drawn around class prototypes, no exemplars.

As the paper's eq. 4 to 6: old classes are replayed as prototype + spread · noise and classified by the
head; a feature distillation keeps the features near those of the old network. Differs: no rotation
augmentation (its SSL part); every class keeps a spread of its own, where the paper keeps the first
task's mean one; and where boundaries are hidden, prototypes are running means that fade by `decay` a
sample, and the old network is a moving average of the network (`teacher_decay` a step).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from streamlab.config import at_least, within
from streamlab.nets.network import frozen_copy
from streamlab.parts.losses import cross_entropy
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
class Options:
    """replay_size: features drawn beside each batch; prototype_weight, feature_weight: of eq. 7 (the
    paper: 10 and 10); decay, teacher_decay: see above.
    """

    replay_size: int = 32
    prototype_weight: float = 1.0
    feature_weight: float = 1.0
    decay: float = 0.99
    teacher_decay: float = 0.999

    def __post_init__(self) -> None:
        at_least("prototype-replay", "replay_size", self.replay_size, 1)
        within("prototype-replay", "decay", self.decay, 0, 1)
        within("prototype-replay", "teacher_decay", self.teacher_decay, 0, 1)


class PrototypeReplay(Strategy):
    """Eq. 7: task loss + weight · loss on drawn prototypes + weight · distance of features."""

    options: Options
    ledger_kinds: ClassVar[dict[str, str]] = {"teacher": "extra models"}

    def setup(self) -> None:
        size, classes = self.net.backbone.feature_size, self.setting.num_classes
        self.trains_backbone = any(p.requires_grad for p in self.net.backbone.parameters())
        decay = self.options.decay if self.trains_backbone else 1.0
        self.prototypes = Prototypes(classes, size, self.setting.device, decay)
        self.teacher: nn.Module | None = None
        self.shows_boundaries = False

    def begin_experience(self, view: ExperienceView) -> None:
        self.shows_boundaries = True

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        features = self.net.features(batch.images)
        losses = {"task": cross_entropy(self.net.head(features), batch.labels, self.exposed)}
        drawn, labels = self._draw(batch)
        if len(labels):
            replay = cross_entropy(self.net.head(drawn), labels, self.exposed)
            losses["prototypes"] = self.options.prototype_weight * replay
        if self.teacher is not None:
            with torch.no_grad():
                kept = self.teacher(self.net.scaled(batch.images))
            losses["features"] = self.options.feature_weight * (features - kept).norm(dim=1).mean()
        if not self.shows_boundaries:
            self.prototypes.update(features.detach(), batch.labels)
        return losses

    def _draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Eq. 5: features (n, D) around prototypes of classes that are not in the batch, and their labels."""
        old = self.prototypes.known.clone()
        old[batch.labels] = False
        known = old.nonzero().flatten()
        if not len(known):
            return self.prototypes.means[:0], known
        device = known.device
        labels = known[torch.randint(len(known), (self.options.replay_size,), device=device)]
        noise = torch.randn(len(labels), self.prototypes.means.shape[1], device=device)
        spreads = self.prototypes.spreads[labels].sqrt()[:, None]
        return self.prototypes.means[labels] + spreads * noise, labels

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        losses = self.losses(batch)
        self.step(losses)
        if self.trains_backbone and not self.shows_boundaries:
            self._follow()
        return losses

    @torch.no_grad()
    def _follow(self) -> None:
        """The teacher moves towards the network."""
        if self.teacher is None:
            self.teacher = frozen_copy(self.net.backbone)
            return
        pairs = zip(self.teacher.state_dict().values(), self.net.backbone.state_dict().values(), strict=True)
        for old, new in pairs:
            if old.dtype.is_floating_point:
                old.lerp_(new, 1 - self.options.teacher_decay)

    def end_experience(self, view: ExperienceView) -> None:
        for label in torch.unique(view.labels).tolist():
            self.prototypes.replace(label, self.features_of(view.of_class(label).images))
        if self.trains_backbone:
            self.teacher = frozen_copy(self.net.backbone)

    def bytes_to_come(self, experiences: int = 1) -> int:
        comes = self.teacher is None and self.trains_backbone
        return sum(tensor.nbytes for tensor in self.net.backbone.state_dict().values()) if comes else 0
