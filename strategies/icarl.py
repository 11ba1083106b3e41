"""iCaRL (Rebuffi et al., CVPR 2017): nearest mean of exemplars, herding, and distillation by sigmoids.

As the paper: a binary cross-entropy a class, whose targets for old classes are the previous network's
own outputs (algorithm 3); exemplars by herding (4, 5); classified by the nearest mean of exemplars in
features of length 1 (algorithm 1). Differs: exemplars are replayed beside each batch, `replay_size` of
them, where the paper shuffles them among the new samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.memory import HerdedBuffer
from streamlab.nets.network import frozen_copy
from streamlab.parts.rehearsal import Rehearsal
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{rebuffi2017icarl,
  title = {{iCaRL}: Incremental Classifier and Representation Learning},
  author = {Rebuffi, Sylvestre-Alvise and Kolesnikov, Alexander and Sperl, Georg and Lampert, Christoph H.},
  booktitle = {CVPR},
  year = {2017},
}
"""


@dataclass(frozen=True)
class Options:
    """replay_size: exemplars replayed beside each batch (0: their share of the data, as the paper)."""

    replay_size: int = 32

    def __post_init__(self) -> None:
        at_least("icarl", "replay_size", self.replay_size, 0)


class ICaRL(Strategy):
    """Sigmoid outputs, an old network that teaches, and a classifier of exemplars' means."""

    options: Options
    kinds = frozenset({"sessions"})
    needs_boundaries = True
    needs_new_classes = True
    scores_are_logits = False
    least_per_class = 1
    ledger_kinds: ClassVar[dict[str, str]] = {
        "teacher": "extra models", "old_classes": "statistics", "means": "statistics",
    }  # fmt: skip

    def setup(self) -> None:
        made = self.make_buffer("herding")
        assert isinstance(made, HerdedBuffer)
        self.buffer = made
        self.rehearsal = Rehearsal(self.options.replay_size)
        device = self.setting.device
        self.teacher: nn.Module | None = None
        self.old_classes = torch.zeros(self.setting.num_classes, dtype=torch.bool, device=device)
        self.means = torch.zeros(self.setting.num_classes, self.net.backbone.feature_size, device=device)

    def begin_experience(self, view: ExperienceView) -> None:
        self.rehearsal.begin(self.buffer, view)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        both = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        logits = self.net(both.images)
        targets = F.one_hot(both.labels, self.setting.num_classes).to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        fresh = self.exposed & ~self.old_classes
        losses = {"task": each[:, fresh].sum(1).mean()}
        if self.teacher is not None:
            with torch.no_grad():
                known = self.teacher(both.images).sigmoid()
            kept = F.binary_cross_entropy_with_logits(logits, known, reduction="none")
            losses["distillation"] = kept[:, self.old_classes].sum(1).mean()
        return losses

    def end_experience(self, view: ExperienceView) -> None:
        self.buffer.herd(view, self.features_of)
        self.teacher = frozen_copy(self.net)
        self.old_classes = self.exposed.clone()

    @torch.no_grad()
    def consolidate(self) -> None:
        """Algorithm 1's means: of the exemplars' features, each brought to length 1, and so the mean."""
        held = self.buffer.everything()
        if not len(held):
            return
        features = F.normalize(self.features_of(held.images))
        sums = torch.zeros_like(self.means).index_add_(0, held.labels, features)
        self.means.copy_(F.normalize(sums))

    def classify(self, features: Tensor) -> Tensor:
        """Of vectors of length 1, the nearest mean has the largest product; no mean, no score."""
        products = F.normalize(features) @ self.means.T
        return products.masked_fill(~self.means.any(1), -2.0)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return 0 if self.teacher else sum(tensor.nbytes for tensor in self.net.state_dict().values())
