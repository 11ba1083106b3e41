"""DER, dynamically expandable representation (Yan et al., CVPR 2021): each session brings an extractor.

As the paper: old extractors are frozen, the features of all are joined (eq. 1 to 3), the classifier's old
weights are inherited, and an auxiliary loss makes the newest extractor tell the new classes apart, old
ones taken as one (eq. 5 and 6). Differs: not pruned (sec. 3.3); the classifier is balanced by aligning the
new classes' weights, as in the survey's code (`alignment = paper`; by default only down, see `wa`), where
the paper trains it anew on a balanced set; exemplars are herded, and replayed beside each batch, as many
as the paper's shuffling would put into it (`replay_size`: so many instead).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.parts.expansion import Alignment, Extractors
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.rehearsal import Rehearsal
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{yan2021der,
  title = {{DER}: Dynamically Expandable Representation for Class Incremental Learning},
  author = {Yan, Shipeng and Xie, Jiangwei and He, Xuming},
  booktitle = {CVPR},
  year = {2021},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch (0: their share of the data); auxiliary: weight of
    the auxiliary loss; alignment: how new classes' weights are scaled (as in `wa`). icnn, proto_triplet,
    margin: metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 0
    alignment: Alignment = "shrink"
    auxiliary: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("expandable-der", "replay_size", self.replay_size, 0)
        at_least("expandable-der", "auxiliary", self.auxiliary, 0)


class ExpandableRepresentation(Strategy):
    """One extractor a session, side by side under one classifier."""

    options: Options
    needs = Needs(kinds=SESSIONS, boundaries=True, exemplars_per_class=1)
    ledger_kinds: ClassVar[dict[str, str]] = {"extractors": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "auxiliary": Choice((0.1, 0.5, 1.0)),
    }  # fmt: skip
    known_failures: ClassVar[dict[str, str]] = {
        "stops_growing": "the method: an extractor a session, whatever the session shows"
    }

    def setup(self) -> None:
        self.buffer = self.make_herded_buffer()
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.extractors = Extractors(self.net)

    def begin_experience(self, view: ExperienceView) -> None:
        self.rehearsal.begin(self.buffer, view)
        self.optimizer = self.make_optimizer(self.extractors.begin())

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
