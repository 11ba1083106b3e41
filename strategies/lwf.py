"""Learning without Forgetting (Li and Hoiem, ECCV 2016): the network before is the teacher.

Differs from the paper: one head over all classes (class-incremental), so the distillation runs
over the classes that the teacher had seen, as PyCIL and the class-incremental surveys do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.nets.network import frozen_copy
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
class Options:
    """weight: lambda_o of the paper's eq. 1; temperature: T of its eq. 3."""

    weight: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        at_least("lwf", "weight", self.weight, 0)
        at_least("lwf", "temperature", self.temperature, 0.01)


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between softened outputs, T² times (eq. 2 and 3; Hinton et al. 2015).

    student, teacher: (B, K) logits. Returns a scalar >= 0.
    """
    targets = F.softmax(teacher / temperature, dim=1)
    log_outputs = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_outputs, targets, reduction="batchmean") * temperature**2


class LearningWithoutForgetting(Strategy):
    """Cross-entropy on new classes, distillation on the teacher's."""

    options: Options
    needs_boundaries = True
    ledger_kinds: ClassVar[dict[str, str]] = {"teacher": "extra models", "old_classes": "statistics"}

    def setup(self) -> None:
        self.teacher: nn.Module | None = None
        self.old_classes = torch.zeros(0, dtype=torch.int64, device=self.setting.device)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.net(batch.images)
        losses = {"task": F.cross_entropy(logits, batch.labels)}
        if self.teacher is not None:
            with torch.no_grad():
                targets = self.teacher(batch.images).index_select(1, self.old_classes)
            student = logits.index_select(1, self.old_classes)
            strength = self.options.weight
            losses["distillation"] = strength * distillation(student, targets, self.options.temperature)
        return losses

    def end_experience(self, view: ExperienceView) -> None:
        self.teacher = frozen_copy(self.net)
        self.old_classes = self.exposed.nonzero().flatten()

    def bytes_to_come(self) -> int:
        teacher = 0 if self.teacher else sum(p.nbytes for p in self.net.state_dict().values())
        return teacher + 8 * (self.setting.num_classes - len(self.old_classes))
