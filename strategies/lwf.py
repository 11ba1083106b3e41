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
    """weight: lambda_o of the paper's eq. 1; temperature: T of its eq. 3; heads: as in `ewc`.

    among: the student's softened outputs run over the old classes, as the paper's, or over all classes
    seen, the teacher giving new ones nothing (van de Ven et al.'s code, which Hsu et al. used).
    """

    weight: float = 1.0
    temperature: float = 2.0
    among: Literal["old", "seen"] = "old"
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
        self.old_classes = torch.zeros_like(self.exposed)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.net(batch.images)
        among = self.own_classes if self.options.heads == "own" else None
        losses = {"task": cross_entropy(logits, batch.labels, among)}
        if self.teacher is not None:
            with torch.no_grad():
                targets = self.teacher(batch.images)
            competing = self.old_classes if self.options.among == "old" else self.exposed
            known = targets.masked_fill(~self.old_classes, float("-inf"))[:, competing]
            kept = distillation(logits[:, competing], known, self.options.temperature)
            losses["distillation"] = self.options.weight * kept
        return losses

    def end_experience(self, view: ExperienceView) -> None:
        self.teacher = frozen_copy(self.net)
        self.old_classes = self.exposed.clone()

    def bytes_to_come(self, experiences: int = 1) -> int:
        return 0 if self.teacher else sum(tensor.nbytes for tensor in self.net.state_dict().values())
