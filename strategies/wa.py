"""WA (Zhao et al., CVPR 2020): distillation, and after each session the new classes' weights aligned.

As the paper: (1 - l) · cross-entropy over all classes seen + l · distillation over the old ones, l = old
classes / classes (sec. 3.2); at a session's end the rows of the new classes are scaled until their mean
length is the old ones' (eq. 8 and 9). Exemplars by herding. Differs: they are replayed beside each batch, as
many as the paper's shuffling would put into it (`replay_size`: so many instead); weights are only scaled
down (`alignment = paper` scales up too, which after short training favours new classes), and not clipped
to be positive (the paper's option).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.memory import HerdedBuffer
from streamlab.nets.network import frozen_copy
from streamlab.parts.expansion import Alignment, align_weights
from streamlab.parts.losses import cross_entropy, distillation
from streamlab.parts.rehearsal import Rehearsal
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
class Options:
    """replay_size: exemplars replayed beside each batch (0: their share of the data); temperature: of
    the distillation; alignment: how new classes' weights are scaled (shrink, paper, none).
    """

    replay_size: int = 0
    alignment: Alignment = "shrink"
    temperature: float = 2.0

    def __post_init__(self) -> None:
        at_least("wa", "replay_size", self.replay_size, 0)
        at_least("wa", "temperature", self.temperature, 0.01)


class WeightAligning(Strategy):
    """A teacher keeps old outputs, and an aligned classifier treats old and new alike."""

    options: Options
    kinds = frozenset({"sessions"})
    needs_boundaries = True
    needs_new_classes = True
    least_per_class = 1
    ledger_kinds: ClassVar[dict[str, str]] = {"teacher": "extra models", "old_classes": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "temperature": Choice((1.0, 2.0, 4.0)),
    }  # fmt: skip

    def setup(self) -> None:
        self.buffer = self.make_buffer("herding")
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.teacher: nn.Module | None = None
        self.old_classes = torch.zeros_like(self.exposed)

    def begin_experience(self, view: ExperienceView) -> None:
        self.rehearsal.begin(self.buffer, view)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        both = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        logits = self.net(both.images)
        task = cross_entropy(logits, both.labels, self.exposed | self.own_classes)
        if self.teacher is None:
            return {"task": task}
        with torch.no_grad():
            known = self.teacher(both.images)[:, self.old_classes]
        temperature = self.options.temperature
        kept = distillation(logits[:, self.old_classes], known, temperature) / temperature**2
        share = self.old_classes.sum() / (self.old_classes | self.own_classes).sum()
        return {"task": (1 - share) * task, "distillation": share * kept}

    def end_experience(self, view: ExperienceView) -> None:
        new = self.exposed & ~self.old_classes
        align_weights(self.net.head, self.old_classes, new, self.options.alignment)
        assert isinstance(self.buffer, HerdedBuffer)
        self.buffer.herd(view, self.features_of)
        self.teacher = frozen_copy(self.net)
        self.old_classes = self.exposed.clone()

    def bytes_to_come(self, experiences: int = 1) -> int:
        return 0 if self.teacher else sum(tensor.nbytes for tensor in self.net.state_dict().values())
