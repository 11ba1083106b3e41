"""Co-transport (Coil; Zhou et al., ACM MM 2021): classifiers of old and new classes are carried over to one
another.

As its authors' code: a cosine classifier with one learned scale; optimal transport between the means of old
and of new classes (entropic, cost |m - m'|_3) carries the old rows over to the new classes, where they
begin, and back from the new ones. A session's loss is l · distillation + (1 - l) · cross-entropy, l = old
classes / classes; in its first epoch new classes' outputs are kept near the carried rows', later the old
teacher's near what the new rows say when they are carried back. Differs: no session is looked at before it
begins, so that rows are carried when it does, by the means of exemplars for old classes (theirs: of all
images of old classes, and the next session's, when one ends); exemplars are replayed beside each batch, as
many as shuffling would put into it (`replay_size`: so many instead); rows are carried back at the beginning
of an epoch, by the new classes' features as the epoch before learned from them (theirs: by passes of their
own, every 200 batches too). Both marginals sum to 1, which theirs do not where sessions differ in size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.network import CosineHead
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.prototypes import unit_means
from streamlab.parts.rehearsal import Rehearsal
from streamlab.parts.teacher import Teacher
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zhou2021coil,
  title = {Co-Transport for Class-Incremental Learning},
  author = {Zhou, Da-Wei and Ye, Han-Jia and Zhan, De-Chuan},
  booktitle = {ACM Multimedia},
  year = {2021},
}
"""

_LEAST = 1e-8
_NEVER = -1e30  # as good as no chance, and a number where no class competes


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch (0: their share of the data); temperature: of all
    distillations; regularisation: of the transport; weight: of what transport adds to the loss. icnn,
    proto_triplet, margin: metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 0
    temperature: float = 2.0
    regularisation: float = 0.464
    weight: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("coil", "replay_size", self.replay_size, 0)
        at_least("coil", "temperature", self.temperature, 0.01)
        at_least("coil", "regularisation", self.regularisation, 0.01)
        at_least("coil", "weight", self.weight, 0)


def transport_cost(before: Tensor, after: Tensor) -> Tensor:
    """(n, D) and (m, D) class means -> (n, m) their distances in the norm of power 3."""
    return torch.cdist(before, after, p=3)


def transport_plan(cost: Tensor, regularisation: float) -> Tensor:
    """(n, m) costs -> (n, m) the entropic plan between even masses (Cuturi 2013), at rest; float64, on the
    host.
    """
    kernel = (-cost.double().cpu() / regularisation).exp()
    rows, columns = kernel.shape
    v = kernel.new_ones(columns)
    for _ in range(10_000):
        u = (1 / rows) / (kernel @ v)
        before, v = v, (1 / columns) / (kernel.T @ u)
        if float((v / before - 1).abs().max()) < 1e-12:
            break
    return u[:, None] * kernel * v


def carried_forward(weight: Tensor, plan: Tensor) -> tuple[Tensor, Tensor]:
    """(old, D) rows, (old, new) plan -> (new, D) rows of the new classes, and gamma, which gives them old
    lengths.
    """
    moved = len(weight) * plan.T @ F.normalize(weight)
    gamma = weight.norm(dim=1).mean() / moved.norm(dim=1).mean()
    return gamma * moved, gamma


def carried_back(weight: Tensor, plan: Tensor) -> Tensor:
    """(new, D) rows, (new, old) plan -> (old, D) rows of the old classes, whose lengths mean nothing."""
    return plan.T @ F.normalize(weight)


def soft_cross_entropy(outputs: Tensor, targets: Tensor, temperature: float, among: Tensor) -> Tensor:
    """(B, K) outputs against softmax(targets / T), where among, (K,) bool, compete; a scalar, 0 of no
    class.
    """
    outputs, targets = (one.masked_fill(~among, _NEVER) for one in (outputs, targets))
    said = F.log_softmax(outputs / temperature, 1).masked_fill(~among, 0)
    return -(F.softmax(targets / temperature, 1) * said).sum(1).mean()


class CoTransport(Strategy):
    """Old classes' rows are carried to new classes, and new ones' back."""

    options: Options
    smooths_labels = True
    needs = Needs(kinds=SESSIONS, boundaries=True, new_classes=True, exemplars_per_class=1)
    ledger_kinds: ClassVar[dict[str, str]] = {
        "carried": "statistics", "back": "statistics", "sums": "statistics",
    }  # fmt: skip
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "temperature": Choice((1.0, 2.0, 4.0)),
    }  # fmt: skip

    def setup(self) -> None:
        size, classes = self.net.backbone.feature_size, self.setting.num_classes
        self.replace_head(CosineHead(size, classes, 1.0, learned=True))
        self.buffer = self.make_herded_buffer()
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.teacher = Teacher(self.exposed)
        self.carried, self.back, self.sums = (
            torch.zeros(classes, size, device=self.setting.device) for _ in range(3)
        )
        self.samples = self.served = 0  # that an epoch learns, updates counted, and those of this one
        self.epoch, self.epochs = 0, 1

    @property
    def weight(self) -> Tensor:
        """(K, D) the classifier's rows."""
        assert isinstance(self.net.head, CosineHead)
        return self.net.head.weight

    def begin_experience(self, view: ExperienceView) -> None:
        self.rehearsal.begin(self.buffer, view)
        self.samples, self.served = len(view) * view.updates, 0
        self.epoch, self.epochs = 0, view.epochs
        self.sums.zero_()
        if self.teacher:
            self.carry(view)

    @torch.no_grad()
    def carry(self, view: ExperienceView) -> None:
        """New classes begin at the old ones' rows, as transport carries them."""
        old, before = self.old_means()
        new = torch.unique(view.labels[~self.teacher.classes[view.labels]])
        if not len(new) or not len(old):
            return
        means = unit_means(view.embeddings(self), view.labels, len(self.sums))[new]
        plan = transport_plan(transport_cost(before, means), self.options.regularisation)
        rows, _ = carried_forward(self.weight[old], plan.to(means))
        self.weight[new] = rows
        self.carried.zero_().index_copy_(0, new, rows)

    def old_means(self) -> tuple[Tensor, Tensor]:
        """The old classes that have exemplars (n,), ascending, and the means of those (n, D)."""
        held = sorted(label for label, slots in self.buffer.slots_of.items() if slots)
        labels = torch.tensor(held, dtype=torch.int64, device=self.sums.device)
        if not held:
            return labels, self.sums[:0]
        exemplars = self.buffer.everything()
        features = self.features_of(exemplars.images)
        return labels, unit_means(features, exemplars.labels, len(self.sums))[labels]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        self._begin_epoch(len(batch))
        features = self.net.features(combined.images)
        self.sums.index_add_(0, combined.labels, F.normalize(features.detach()))
        with torch.no_grad():
            said = self.teacher.logits(combined.images) if self.teacher else None
        terms = self.options.of(features, combined.labels)
        return self.losses_of(features, combined.labels, said) | terms

    def losses_of(self, features: Tensor, labels: Tensor, said: Tensor | None) -> dict[str, Tensor]:
        """Of features (B, D), labels (B,) and what the teacher said (B, K), where there is one."""
        temperature, weight = self.options.temperature, self.options.weight
        logits, seen = self.net.head(features), self.exposed | self.current_classes
        task = self.cross_entropy(logits, labels, seen)
        if said is None:
            return {"task": task}
        old = self.teacher.classes
        share = old.sum() / seen.sum()
        losses = {
            "task": (1 - share) * task,
            "distillation": share * soft_cross_entropy(logits, said, temperature, old),
        }
        unit = F.normalize(features)
        if self.epoch == 0:
            towards = unit @ F.normalize(self.carried).T
            losses["forward"] = weight * soft_cross_entropy(logits, towards, temperature, seen & ~old)
        else:
            outputs = unit @ F.normalize(self.back).T
            grown = weight * (self.epoch / self.epochs) ** 2
            losses["backward"] = grown * soft_cross_entropy(outputs, said, temperature, old)
        return losses

    def _begin_epoch(self, count: int) -> None:
        """At an epoch's first batch but the first epoch's, carry the new rows back."""
        if self.served >= self.samples:
            self.served, self.epoch = 0, self.epoch + 1
            if self.teacher:
                self.carry_back()
            self.sums.zero_()
        self.served += count

    @torch.no_grad()
    def carry_back(self) -> None:
        """Rows of the old classes, as transport carries those of the new ones back."""
        old, before = self.old_means()
        new = (self.current_classes & self.sums.any(1) & ~self.teacher.classes).nonzero().flatten()
        if not len(new) or not len(old):
            return
        cost = transport_cost(F.normalize(self.sums[new]), before) + _LEAST
        plan = transport_plan(cost, self.options.regularisation).to(self.sums)
        self.back.zero_().index_copy_(0, old, carried_back(self.weight[new], plan))

    def end_experience(self, view: ExperienceView) -> None:
        self.buffer.herd(view, self.features_of)
        self.teacher.take(self.net, self.exposed)

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.teacher.bytes_to_come(self.net)
