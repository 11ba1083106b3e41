"""Experience replay (Chaudhry et al. 2019, arXiv 1902.10486): new samples learned beside old ones.

Differs from the paper in nothing by default (reservoir; exemplars drawn without replacement, as
many as are new). A batch's samples are offered to the buffer after its updates, so that none of
them stands in a step twice. `selection = herding` chooses exemplars as iCaRL does, at the end of an
experience, and so needs boundaries.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from streamlab.config import at_least
from streamlab.memory import HerdedBuffer
from streamlab.needs import Needs
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.rehearsal import Rehearsal
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@article{chaudhry2019tiny,
  title = {On Tiny Episodic Memories in Continual Learning},
  author = {Chaudhry, Arslan and Rohrbach, Marcus and Elhoseiny, Mohamed and Ajanthan, Thalaiyasingam and
    Dokania, Puneet K. and Torr, Philip H. S. and Ranzato, Marc'Aurelio},
  journal = {arXiv:1902.10486},
  year = {2019},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch (0, with herding: their share of a session's data);
    selection: how the buffer chooses. icnn, proto_triplet, margin: metric losses on new and replayed
    features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 10
    selection: Literal["reservoir", "balanced", "herding"] = "reservoir"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("er", "replay_size", self.replay_size, 0 if self.needs_boundaries else 1)

    @property
    def needs_boundaries(self) -> bool:
        return self.selection == "herding"


class ExperienceReplay(Strategy):
    """One cross-entropy over new and replayed samples together."""

    options: Options
    smooths_labels = True

    @classmethod
    def needs_with(cls, options: Options) -> Needs:
        return dataclasses.replace(cls.needs, boundaries=options.needs_boundaries)

    def setup(self) -> None:
        self.buffer = self.make_buffer(self.options.selection)
        self.rehearsal = Rehearsal(self.options.replay_size)

    def begin_experience(self, view: ExperienceView) -> None:
        self.rehearsal.begin(self.buffer, view)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        features = self.net.features(combined.images)
        task = self.cross_entropy(self.net.head(features), combined.labels)
        return {"task": task, **self.options.of(features, combined.labels)}

    def remember(self, batch: Batch) -> None:
        if self.options.selection != "herding":
            self.buffer.add(batch)

    def end_experience(self, view: ExperienceView) -> None:
        if isinstance(self.buffer, HerdedBuffer):  # selection = herding
            self.buffer.herd(view, self.features_of)
