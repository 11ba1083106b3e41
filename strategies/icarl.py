"""iCaRL (Rebuffi et al., CVPR 2017): nearest mean of exemplars, herding, and distillation by sigmoids.

As the paper: a binary cross-entropy a class, whose targets for old classes are the previous network's
own outputs (algorithm 3); exemplars by herding (4, 5); classified by the nearest mean of exemplars in
features of length 1 (algorithm 1). The loss is a sum over the classes seen, averaged over the batch; the
authors' code averages over all outputs too, so that its rate of 2.0 for 100 classes is 0.02 here. Differs:
exemplars are replayed beside each batch, `replay_size` of them, where the paper shuffles them among the
new samples. The class-incremental surveys' iCaRL has another loss: cross-entropy and softened distillation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.prototypes import nearest_of_length_one, unit_means
from streamlab.parts.rehearsal import Rehearsal
from streamlab.parts.teacher import Teacher
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
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch (0: their share of the data, as the paper). icnn,
    proto_triplet, margin: metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("icarl", "replay_size", self.replay_size, 0)


class ICaRL(Strategy):
    """Sigmoid outputs, an old network that teaches, and a classifier of exemplars' means."""

    options: Options
    needs = Needs(kinds=SESSIONS, boundaries=True, new_classes=True, exemplars_per_class=1)
    scores_are_logits = False
    ledger_kinds: ClassVar[dict[str, str]] = {"means": "statistics"}

    def setup(self) -> None:
        self.buffer = self.make_herded_buffer()
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.teacher = Teacher(self.exposed)
        size = self.net.backbone.feature_size
        self.means = torch.zeros(self.setting.num_classes, size, device=self.setting.device)

    def begin_experience(self, view: ExperienceView) -> None:
        self.rehearsal.begin(self.buffer, view)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Algorithm 3: new classes learn their labels, old ones what the teacher says of each image."""
        combined = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        features = self.net.features(combined.images)
        logits = self.net.head(features)
        targets = F.one_hot(combined.labels, self.setting.num_classes).to(logits.dtype)
        bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        new = self.exposed & ~self.teacher.classes
        losses = {"task": bce.masked_fill(~new, 0).sum(1).mean()}
        losses |= self.options.of(features, combined.labels)
        if self.teacher:
            teacher_outputs = self.teacher.logits(combined.images).sigmoid()
            kd = F.binary_cross_entropy_with_logits(logits, teacher_outputs, reduction="none")
            losses["distillation"] = kd.masked_fill(~self.teacher.classes, 0).sum(1).mean()
        return losses

    def end_experience(self, view: ExperienceView) -> None:
        self.buffer.herd(view, self.features_of)
        self.teacher.take(self.net, self.exposed)

    @torch.no_grad()
    def consolidate(self) -> None:
        """Algorithm 1's means: of the exemplars' features, each brought to length 1, and so the mean."""
        exemplars = self.buffer.everything()
        if not len(exemplars):
            return
        features = self.features_of(exemplars.images)
        self.means.copy_(unit_means(features, exemplars.labels, len(self.means)))

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return nearest_of_length_one(embedding, self.means)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.teacher.bytes_to_come(self.net)
