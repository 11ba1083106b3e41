"""Learning without Forgetting (Li and Hoiem, ECCV 2016): the network before is the teacher.

Differs from the paper: one head over all classes (class-incremental), so the distillation runs
over the classes that the teacher had seen, as PyCIL and the class-incremental surveys do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.nets.network import frozen_copy
from streamlab.parts.losses import cross_entropy, distillation
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
    """weight: lambda_o of the paper's eq. 1; temperature: T of its eq. 3; heads: as in `ewc`."""

    weight: float = 1.0
    temperature: float = 2.0
    heads: Literal["shared", "own"] = "shared"

    def __post_init__(self) -> None:
        at_least("lwf", "weight", self.weight, 0)
        at_least("lwf", "temperature", self.temperature, 0.01)


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
        among = self.own_classes if self.options.heads == "own" else None
        losses = {"task": cross_entropy(logits, batch.labels, among)}
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
