"""WA (Zhao et al., CVPR 2020): distillation, and after each session the new classes' weights aligned.

As the paper: (1 - l) · cross-entropy over all classes seen + l · distillation over the old ones, l = old
classes / classes (sec. 3.2); at a session's end the rows of the new classes are scaled until their mean
length is the old ones' (eq. 8 and 9). Exemplars by herding. Differs: they are replayed beside each batch, as
many as the paper's shuffling would put into it (`replay_size`: so many instead); weights are only scaled
down (`alignment = paper` scales up too, which after short training favours new classes), and not clipped
to be positive (the paper's option). The class-incremental surveys' WA weighs otherwise: cross-entropy + 2 ·
distillation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.parts.expansion import Alignment, align_weights
from streamlab.parts.losses import distillation
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.rehearsal import Rehearsal
from streamlab.parts.teacher import Teacher
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zhao2020wa,
  title = {Maintaining Discrimination and Fairness in Class Incremental Learning},
  author = {Zhao, Bowen and Xiao, Xi and Gan, Guojun and Zhang, Bin and Xia, Shu-Tao},
  booktitle = {CVPR},
  year = {2020},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch (0: their share of the data); temperature: of the
    distillation; alignment: how new classes' weights are scaled (shrink, paper, none). icnn, proto_triplet,
    margin: metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 0
    alignment: Alignment = "shrink"
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("wa", "replay_size", self.replay_size, 0)
        at_least("wa", "temperature", self.temperature, 0.01)


class WeightAligning(Strategy):
    """A teacher keeps old outputs, and an aligned classifier treats old and new alike."""

    options: Options
    smooths_labels = True
    needs = Needs(kinds=SESSIONS, boundaries=True, new_classes=True, exemplars_per_class=1)
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "temperature": Choice((1.0, 2.0, 4.0)),
    }  # fmt: skip

    def setup(self) -> None:
        self.buffer = self.make_herded_buffer()
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.teacher = Teacher(self.exposed)

    def begin_experience(self, view: ExperienceView) -> None:
        self.rehearsal.begin(self.buffer, view)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        features, seen = self.net.features(combined.images), self.exposed | self.current_classes
        logits, terms = self.net.head(features), self.options.of(features, combined.labels)
        task = self.cross_entropy(logits, combined.labels, seen)
        if not self.teacher:
            return {"task": task, **terms}
        old = self.teacher.classes
        teacher_logits = self.teacher.logits(combined.images)
        kd_loss = distillation(logits, teacher_logits, self.options.temperature, old)
        lambda_ = old.sum() / (old | self.current_classes).sum()
        return {"task": (1 - lambda_) * task, "distillation": lambda_ * kd_loss, **terms}

    def end_experience(self, view: ExperienceView) -> None:
        old = self.teacher.classes
        align_weights(self.net.head, old, self.exposed & ~old, self.options.alignment)
        self.buffer.herd(view, self.features_of)
        self.teacher.take(self.net, self.exposed)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.teacher.bytes_to_come(self.net)
