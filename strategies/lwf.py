"""Learning without Forgetting (Li and Hoiem, ECCV 2016): the network before is the teacher.

loss = cross-entropy of the new classes + weight · distillation of the old ones (eq. 1 to 4), without
exemplars. As the paper's separate heads, and PyCIL's code, the current experience's classes alone compete
in the task loss (`heads = own`); with `shared` heads all outputs do. The distillation has no factor T²,
in the authors' code neither, so that PyCIL's 3 (the default, which the class-incremental surveys' figures
come from) and the paper's 1 mean what they say; van de Ven et al.'s code, which Hsu et al. used, lets all
classes seen compete in it (`among = seen`), and multiplies by T².

Differs: the authors first train the new head alone for a while (their warm-up step).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from streamlab.config import at_least
from streamlab.needs import Needs
from streamlab.parts.heads import Heads, competing
from streamlab.parts.losses import distillation
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.teacher import Teacher
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{li2016lwf,
  title = {Learning without Forgetting},
  author = {Li, Zhizhong and Hoiem, Derek},
  booktitle = {ECCV},
  year = {2016},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """weight: lambda_o of the paper's eq. 1; temperature: T of its eq. 3; heads: as in `finetune`.

    among: the student's softened outputs run over the old classes, as the paper's, or over all classes
    seen, the teacher giving new ones nothing. icnn, proto_triplet, margin: metric losses on the batch's
    features (`streamlab.parts.metric_losses`).
    """

    weight: float = 3.0
    temperature: float = 2.0
    among: Literal["old", "seen"] = "old"
    heads: Heads = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("lwf", "weight", self.weight, 0)
        at_least("lwf", "temperature", self.temperature, 0.01)


class LearningWithoutForgetting(Strategy):
    """Cross-entropy on new classes, distillation on the teacher's."""

    options: Options
    smooths_labels = True
    needs = Needs(boundaries=True)

    def setup(self) -> None:
        self.teacher = Teacher(self.exposed)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        features = self.net.features(batch.images)
        logits = self.net.head(features)
        losses = {
            "task": self.cross_entropy(
                logits, batch.labels, competing(self.current_classes, self.options.heads)
            )
        }
        if self.teacher:
            old = self.teacher.classes
            student_classes = old if self.options.among == "old" else self.exposed
            teacher_logits = self.teacher.logits(batch.images).masked_fill(~old, float("-inf"))
            kd_loss = distillation(  # eq. 2 and 3
                logits, teacher_logits, self.options.temperature, student_classes
            )
            losses["distillation"] = self.options.weight * kd_loss
        return {**losses, **self.options.of(features, batch.labels)}

    def end_experience(self, view: ExperienceView) -> None:
        self.teacher.take(self.net, self.exposed)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.teacher.bytes_to_come(self.net)
