"""MEMO (Zhou et al., ICLR 2023): general layers are shared, and only the specialised ones grow.

As the paper and its code: each session brings a copy of the last stage of a ResNet (of a ConvNet, its last
block), older ones are frozen, the features of all are joined; an auxiliary loss as in DER, weighing 1 in
the authors' code; the new classes' weights are aligned at a session's end (theirs always, `alignment =
paper`; by default only down, see `wa`). The memory saved against DER becomes exemplars. The general layers
are trained on, as in the authors' configuration; `train_general = false` freezes them after the first
session. Differs: exemplars are replayed beside each batch, as many as the paper's shuffling would put into
it (`replay_size`: so many instead).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.parts.expansion import Alignment, Extractors
from streamlab.parts.metric_losses import MetricTerms
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
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch (0: their share of the data); auxiliary: weight of
    the auxiliary loss; train_general: whether the shared layers are trained after the first session;
    alignment: how new classes' weights are scaled (as in `wa`). icnn, proto_triplet, margin: metric losses on
    new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 0
    alignment: Alignment = "shrink"
    auxiliary: float = 1.0
    train_general: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("memo", "replay_size", self.replay_size, 0)
        at_least("memo", "auxiliary", self.auxiliary, 0)


class MemoryEfficientExpansion(Strategy):
    """General layers once, specialised ones a session, under one classifier."""

    options: Options
    backbone: ClassVar[dict[str, Any]] = {"name": "convnet"}
    needs = Needs(kinds=SESSIONS, boundaries=True, exemplars_per_class=1)
    ledger_kinds: ClassVar[dict[str, str]] = {"extractors": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "auxiliary": Choice((0.1, 0.5, 1.0)),
    }  # fmt: skip
    known_failures: ClassVar[dict[str, str]] = {
        "stops_growing": "the method: specialised layers a session, whatever the session shows"
    }

    def setup(self) -> None:
        self.buffer = self.make_herded_buffer()
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.extractors = Extractors(self.net, shared=True)

    def begin_experience(self, view: ExperienceView) -> None:
        self.rehearsal.begin(self.buffer, view)
        self.optimizer = self.make_optimizer(self.extractors.begin(self.options.train_general))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        seen = self.exposed | self.current_classes
        weight, terms = self.options.auxiliary, self.options
        return self.extractors.losses(combined, self.current_classes, seen, weight, terms)

    def end_experience(self, view: ExperienceView) -> None:
        self.extractors.end(self.exposed, self.options.alignment)
        self.buffer.herd(view, self.features_of)

    def bytes_to_come(self, experiences: int = 1) -> int:
        each = self.extractors.backbone.growth_bytes(self.setting.num_classes)
        return self.extractors.to_come(experiences) * each

    def parameters_to_come(self, experiences: int = 1) -> int:
        return self.extractors.to_come(experiences) * self.extractors.backbone.growth_parameters
