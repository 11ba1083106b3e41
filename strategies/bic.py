"""BiC (Wu et al., CVPR 2019): distillation, and two numbers that undo the bias towards new classes.

As the paper: l · distillation + (1 - l) · cross-entropy, l = old classes / classes (eq. 1 to 3), on all but
a part of the samples; on that part, held out of old and new classes alike and equally many of each, the new
classes' outputs are then corrected to alpha · o + beta (eq. 4 and 5). Each session's pair stays, in the
student's and the teacher's outputs, as in PyCIL's code. Held out are, as there, a share of what the memory
holds of an old class (at least one, if it has two), and nothing in the first session; which ones is a hash
of their pixels. Differs: the two unknowns are found by Newton's method, for the problem is convex, where the
codes take gradient steps; `penalty` draws them to 1 and 0, for a few exemplars that can be told apart have
no finite optimum: `ridge` adds ((alpha - 1)² + beta²) / 2 to the summed losses (ours), `authors` adds
0.1 beta² / 2 to the mean one, `none` nothing. Exemplars are herded, and replayed beside each batch, as many
as the paper's shuffling would put into it (`replay_size`: so many instead).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least, within
from streamlab.needs import SESSIONS, Needs
from streamlab.parts.losses import distillation
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.rehearsal import Rehearsal
from streamlab.parts.teacher import Teacher
from streamlab.randomness import hashed, key
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{wu2019bic,
  title = {Large Scale Incremental Learning},
  author = {Wu, Yue and Chen, Yinpeng and Wang, Lijuan and Ye, Yuancheng and Liu, Zicheng and Guo, Yandong
    and Fu, Yun},
  booktitle = {CVPR},
  year = {2019},
}
"""
Penalty = Literal["ridge", "authors", "none"]


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch (0: their share of the data); temperature: of the
    distillation; validation: share of an old class's exemplars that only the correction learns from;
    penalty: see above. icnn, proto_triplet, margin: metric losses on new and replayed features
    (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 0
    temperature: float = 2.0
    validation: float = 0.1
    penalty: Penalty = "ridge"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("bic", "replay_size", self.replay_size, 0)
        at_least("bic", "temperature", self.temperature, 0.01)
        within("bic", "validation", self.validation, 0.01, 0.5)


def pixel_hash(images: Tensor, seed: int) -> Tensor:
    """(B, C, H, W) uint8 -> (B,) int64 >= 0: the same of an image whenever and wherever it is asked."""
    pixels = images.flatten(1).to(torch.int64)
    name = key(seed, "bic", "validation")
    factors = hashed(name, torch.arange(pixels.shape[1], device=images.device))
    numbers: Tensor = hashed(name, (pixels * factors).sum(1))
    return numbers


def bias_correction(
    logits: Tensor, labels: Tensor, new: Tensor, penalty: Penalty = "ridge", steps: int = 50
) -> tuple[float, float]:
    """alpha and beta of eq. 4 and 5: least cross-entropy of (n, K) logits, and penalty; new: (K,) bool.

    Columns of classes that do not compete are -inf. Newton's method, damped where the loss would rise.
    """
    logits, start = logits.double(), torch.tensor([1.0, 0.0], dtype=torch.float64, device=logits.device)
    strength = {"ridge": (1 / len(labels), 1 / len(labels)), "authors": (0.0, 0.1), "none": (0.0, 0.0)}
    ridge = torch.tensor(strength[penalty], dtype=torch.float64, device=logits.device)
    best = start
    outputs = logits.masked_fill(~new | logits.isinf(), 0.0)
    is_new = new[labels].double()
    at_label = outputs.gather(1, labels[:, None])[:, 0]

    def corrected(pair: Tensor) -> Tensor:
        return torch.where(new, pair[0] * logits + pair[1], logits)

    def loss_of(pair: Tensor) -> Tensor:
        return F.cross_entropy(corrected(pair), labels) + (ridge * (pair - start).square()).sum() / 2

    least = loss_of(best)
    for _ in range(steps):
        chances = F.softmax(corrected(best), 1) * new
        mass, first, second = (torch.sum(chances * outputs**power, 1) for power in (0, 1, 2))
        gradient = torch.stack([(first - at_label).mean(), (mass - is_new).mean()]) + ridge * (best - start)
        mixed = (first - mass * first).mean()
        squares = torch.stack([(second - first**2).mean(), (mass - mass**2).mean()])
        curvature = torch.diag(squares - mixed + ridge) + mixed
        step, loss = torch.linalg.solve(curvature, gradient), least
        for _ in range(20):
            loss = loss_of(best - step)
            if loss <= least:
                break
            step = step / 2
        if not loss <= least or float(step.abs().max()) < 1e-13:
            break
        best, least = best - step, loss
    return float(best[0]), float(best[1])


class BiasCorrection(Strategy):
    """A teacher keeps old outputs; two numbers a session bring new ones down to the level of the old."""

    options: Options
    smooths_labels = True
    needs = Needs(kinds=SESSIONS, boundaries=True, new_classes=True, exemplars_per_class=1)
    ledger_kinds: ClassVar[dict[str, str]] = dict.fromkeys(("alpha", "beta", "held_below"), "statistics")
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "temperature": Choice((1.0, 2.0, 4.0)),
    }  # fmt: skip

    def setup(self) -> None:
        self.buffer = self.make_herded_buffer()
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.teacher = Teacher(self.exposed)
        self.alpha = torch.ones(self.setting.num_classes, device=self.setting.device)
        self.beta = torch.zeros_like(self.alpha)
        self.held_below = torch.full_like(self.alpha, -1, dtype=torch.int64)  # a pixel hash for each class

    def begin_experience(self, view: ExperienceView) -> None:
        """Say which samples are held out: of each class, old or new, those of the least hashes."""
        self.rehearsal.begin(self.buffer, view)
        if not self.teacher:
            return
        exemplars = self.buffer.everything()
        counts = torch.bincount(exemplars.labels)
        fewest = int(counts[counts > 0].min()) if len(exemplars) else 0
        count = max(int(self.options.validation * fewest), int(fewest > 1))
        for label in torch.unique(torch.cat([exemplars.labels, view.labels])).tolist():
            known = bool(self.teacher.classes[label])
            images = exemplars.images[exemplars.labels == label] if known else view.of_class(label).images
            hashes = pixel_hash(images, self.setting.seed).sort().values
            self.held_below[label] = hashes[count - 1] if 0 < count < len(hashes) else -1

    def is_held_out(self, batch: Batch) -> Tensor:
        """(B,) bool: samples that the network does not learn from."""
        return pixel_hash(batch.originals, self.setting.seed) <= self.held_below[batch.labels]

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        """Learn from what is not held out of the batch and of what is replayed beside it."""
        combined = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        rows = torch.nonzero(~self.is_held_out(combined)).flatten()
        return super().observe(combined.at(rows)) if len(rows) else {}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 1 to 3, of samples that are not held out."""
        features = self.net.features(batch.images)
        logits, terms = self.corrected(self.net.head(features)), self.options.of(features, batch.labels)
        task = self.cross_entropy(logits, batch.labels, self.exposed | self.current_classes)
        if not self.teacher:
            return {"task": task, **terms}
        old = self.teacher.classes
        teacher_logits = self.corrected(self.teacher.logits(batch.images))
        kd_loss = distillation(logits, teacher_logits, self.options.temperature, old)
        lambda_ = old.sum() / (old | self.current_classes).sum()
        return {"task": (1 - lambda_) * task, "distillation": lambda_ * kd_loss, **terms}

    def end_experience(self, view: ExperienceView) -> None:
        """Eq. 4 and 5, on what was held out; then exemplars and the teacher."""
        new = self.exposed & ~self.teacher.classes
        apart = self.buffer.everything()
        for label in torch.nonzero(new).flatten().tolist():
            apart = apart.joined(view.of_class(label))
        apart = apart.at(torch.nonzero(self.is_held_out(apart)).flatten())
        if bool(new[apart.labels].any()) and bool((~new[apart.labels]).any()):
            with torch.no_grad():
                logits = self.corrected(self.net.head(self.features_of(apart.images)))
            logits = logits.masked_fill(~self.exposed, float("-inf"))
            self.alpha[new], self.beta[new] = bias_correction(logits, apart.labels, new, self.options.penalty)
        self.buffer.herd(view, self.features_of)
        self.teacher.take(self.net, self.exposed)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return self.corrected(self.net.head(embedding))

    def corrected(self, logits: Tensor) -> Tensor:
        """(B, K) logits, each session's with its own alpha and beta."""
        return self.alpha * logits + self.beta

    def bytes_to_come(self, experiences: int = 1) -> int:
        return self.teacher.bytes_to_come(self.net)
