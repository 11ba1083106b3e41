"""MEMO (Zhou et al., ICLR 2023): general layers are shared, and only the specialised ones grow.

As the paper and its code: each session brings a copy of the last stage of a ResNet (of a ConvNet, its last
block), older ones are frozen, the features of all are joined; an auxiliary loss as in DER, weighing 0.1;
the new classes' weights are aligned at a session's end. The memory saved against DER becomes exemplars.
The general layers are trained on, as in the authors' configuration; `train_general = false` freezes them
after the first session. Differs: exemplars are replayed beside each batch, as many as the paper's
shuffling would put into it (`replay_size`: so many instead).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.memory import HerdedBuffer
from streamlab.parts.expansion import Alignment, Auxiliary, ExpandingBackbone, align_weights, widened
from streamlab.parts.losses import cross_entropy
from streamlab.parts.rehearsal import Rehearsal
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zhou2023memo,
  title = {A Model or 603 Exemplars: Towards Memory-Efficient Class-Incremental Learning},
  author = {Zhou, Da-Wei and Wang, Qi-Wei and Ye, Han-Jia and Zhan, De-Chuan},
  booktitle = {ICLR},
  year = {2023},
}
"""


@dataclass(frozen=True)
class Options:
    """replay_size: exemplars replayed beside each batch (0: their share of the data); auxiliary: weight of
    the auxiliary loss; train_general: whether the shared layers are trained after the first session;
    alignment: how new classes' weights are scaled (as in `wa`).
    """

    replay_size: int = 0
    alignment: Alignment = "shrink"
    auxiliary: float = 0.1
    train_general: bool = True

    def __post_init__(self) -> None:
        at_least("memo", "replay_size", self.replay_size, 0)
        at_least("memo", "auxiliary", self.auxiliary, 0)


class MemoryEfficientExpansion(Strategy):
    """General layers once, specialised ones a session, under one classifier."""

    options: Options
    backbone: ClassVar[dict[str, Any]] = {"name": "convnet"}
    kinds = frozenset({"sessions"})
    needs_boundaries = True
    least_per_class = 1
    ledger_kinds: ClassVar[dict[str, str]] = {"auxiliary": "head", "old_classes": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "auxiliary": Choice((0.1, 0.5, 1.0)),
    }  # fmt: skip
    known_failures: ClassVar[dict[str, str]] = {
        "stops_growing": "the method: specialised layers a session, whatever the session shows"
    }

    def setup(self) -> None:
        self.buffer = self.make_buffer("herding")
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.net.backbone = ExpandingBackbone(self.net.backbone, shared=True)
        self.auxiliary = self.make_auxiliary()
        self.old_classes = torch.zeros_like(self.exposed)

    @property
    def extractors(self) -> ExpandingBackbone:
        """The network's backbone."""
        return cast(ExpandingBackbone, self.net.backbone)

    def make_auxiliary(self) -> Auxiliary:
        """A new classifier for the newest extractor alone."""
        return Auxiliary(self.extractors.own_size, self.setting.num_classes).to(self.setting.device)

    def begin_experience(self, view: ExperienceView) -> None:
        """New specialised layers, which begin as a copy of those before, and a wider classifier."""
        self.rehearsal.begin(self.buffer, view)
        if bool(self.old_classes.any()):
            self.extractors.grow()
            if not self.options.train_general:
                self.extractors.freeze_general()
            self.net.head = widened(self.net.head, self.extractors.own_size)
            self.auxiliary = self.make_auxiliary()
            self.optimizer = self.make_optimizer([*self.trained_parameters(), *self.auxiliary.parameters()])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        both = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        features = self.net.features(both.images)
        seen = self.exposed | self.own_classes
        losses = {"task": cross_entropy(self.net.head(features), both.labels, seen)}
        if len(self.extractors.earlier):
            newest = features[:, -self.extractors.own_size :]
            own = self.auxiliary.loss(newest, both.labels, self.own_classes)
            losses["auxiliary"] = self.options.auxiliary * own
        return losses

    def end_experience(self, view: ExperienceView) -> None:
        new = self.exposed & ~self.old_classes
        align_weights(self.net.head, self.old_classes, new, self.options.alignment)
        assert isinstance(self.buffer, HerdedBuffer)
        self.buffer.herd(view, self.features_of)
        self.old_classes = self.exposed.clone()

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.growths(experiences) * self.extractors.growth_bytes(self.setting.num_classes)

    def parameters_to_come(self, experiences: int = 1) -> int:
        return self.growths(experiences) * self.extractors.growth_parameters

    def growths(self, experiences: int) -> int:
        """Copies that so many experiences bring; the first is there already."""
        return experiences if bool(self.old_classes.any()) else experiences - 1
