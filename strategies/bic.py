"""BiC (Wu et al., CVPR 2019): distillation, and two numbers that undo the bias towards new classes.

As the paper: l · distillation + (1 - l) · cross-entropy, l = old classes / classes (eq. 1 to 3), on all but
a part of the samples; on that part, held out of old and new classes alike, the new classes' outputs are
then corrected to alpha · o + beta (eq. 4 and 5). Each session's pair stays. Differs: a sample is held out by
a hash of its pixels, a tenth of each class's exemplars (never its first) are such ones; the two unknowns
are found by Newton's method, for the problem is convex, where the authors take gradient steps, and are
drawn to 1 and 0 (a ridge of (alpha - 1)² / 2 + beta² / 2 beside the samples' losses), for a few exemplars
that can be told apart have no finite optimum; exemplars
are herded, and replayed beside each batch, as many as the paper's shuffling would put into it
(`replay_size`: so many instead).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Choice, Range, Searched, at_least, within
from streamlab.memory import HerdedBuffer
from streamlab.memory.policies import herding
from streamlab.nets.network import frozen_copy
from streamlab.parts.losses import cross_entropy, distillation
from streamlab.parts.rehearsal import Rehearsal
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


@dataclass(frozen=True)
class Options:
    """replay_size: exemplars replayed beside each batch (0: their share of the data); temperature: of the
    distillation; validation: share of the samples that only the correction learns from.
    """

    replay_size: int = 0
    temperature: float = 2.0
    validation: float = 0.1

    def __post_init__(self) -> None:
        at_least("bic", "replay_size", self.replay_size, 0)
        at_least("bic", "temperature", self.temperature, 0.01)
        within("bic", "validation", self.validation, 0.01, 0.5)


def held_out(images: Tensor, share: float, seed: int) -> Tensor:
    """(B, C, H, W) uint8 -> (B,) bool: the same of a sample whenever and wherever it is asked."""
    pixels = images.flatten(1).to(torch.int64)
    own = key(seed, "bic", "validation")
    factors = hashed(own, torch.arange(pixels.shape[1], device=images.device))
    chosen: Tensor = hashed(own, (pixels * factors).sum(1)) < int(share * 2**63)
    return chosen


def bias_correction(logits: Tensor, labels: Tensor, new: Tensor, steps: int = 30) -> tuple[float, float]:
    """alpha and beta of eq. 4 and 5: least cross-entropy of (n, K) logits, and ridge; new: (K,) bool.

    Columns of classes that do not compete are -inf. Newton's method, damped where the loss would rise.
    """
    logits, start = logits.double(), torch.tensor([1.0, 0.0], dtype=torch.float64, device=logits.device)
    best = start
    outputs = logits.masked_fill(~new | logits.isinf(), 0.0)
    is_new = new[labels].double()
    own = outputs.gather(1, labels[:, None])[:, 0]

    def corrected(pair: Tensor) -> Tensor:
        return torch.where(new, pair[0] * logits + pair[1], logits)

    def loss_of(pair: Tensor) -> Tensor:
        return F.cross_entropy(corrected(pair), labels) + (pair - start).square().sum() / (2 * len(labels))

    least = loss_of(best)
    for _ in range(steps):
        chances = F.softmax(corrected(best), 1) * new
        mass, first, second = (torch.sum(chances * outputs**power, 1) for power in (0, 1, 2))
        gradient = torch.stack([(first - own).mean(), (mass - is_new).mean()]) + (best - start) / len(labels)
        mixed = (first - mass * first).mean()
        squares = torch.stack([(second - first**2).mean(), (mass - mass**2).mean()])
        curvature = torch.diag(squares - mixed + 1 / len(labels)) + mixed
        step, loss = torch.linalg.solve(curvature, gradient), least
        for _ in range(20):
            loss = loss_of(best - step)
            if loss <= least:
                break
            step = step / 2
        if not loss < least - 1e-12:
            break
        best, least = best - step, loss
    return float(best[0]), float(best[1])


class BiasCorrection(Strategy):
    """A teacher keeps old outputs; two numbers a session bring new ones down to the level of the old."""

    options: Options
    kinds = frozenset({"sessions"})
    needs_boundaries = True
    needs_new_classes = True
    least_per_class = 1
    ledger_kinds: ClassVar[dict[str, str]] = {
        "teacher": "extra models", "old_classes": "statistics", "alpha": "statistics", "beta": "statistics",
    }  # fmt: skip
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "temperature": Choice((1.0, 2.0, 4.0)),
    }  # fmt: skip

    def setup(self) -> None:
        self.buffer = self.make_buffer("herding")
        self.rehearsal = Rehearsal(self.options.replay_size)
        self.teacher: nn.Module | None = None
        self.old_classes = torch.zeros_like(self.exposed)
        self.alpha = torch.ones(self.setting.num_classes, device=self.setting.device)
        self.beta = torch.zeros_like(self.alpha)

    def begin_experience(self, view: ExperienceView) -> None:
        self.rehearsal.begin(self.buffer, view)

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        """Learn from what is not held out of the batch and of what is replayed beside it."""
        both = batch.joined(self.buffer.draw(self.rehearsal.beside(batch)))
        rows = torch.nonzero(~self.is_held_out(both.images)).flatten()
        return super().observe(Batch(both.images[rows], both.labels[rows])) if len(rows) else {}

    def losses(self, both: Batch) -> dict[str, Tensor]:
        logits = self.corrected(self.net(both.images))
        task = cross_entropy(logits, both.labels, self.exposed | self.own_classes)
        if self.teacher is None:
            return {"task": task}
        with torch.no_grad():
            known = self.corrected(self.teacher(both.images))[:, self.old_classes]
        temperature = self.options.temperature
        kept = distillation(logits[:, self.old_classes], known, temperature) / temperature**2
        share = self.old_classes.sum() / (self.old_classes | self.own_classes).sum()
        return {"task": (1 - share) * task, "distillation": share * kept}

    def end_experience(self, view: ExperienceView) -> None:
        assert isinstance(self.buffer, HerdedBuffer)
        self.buffer.herd(view, self.features_of, self.ranked)
        new = self.exposed & ~self.old_classes
        held = self.buffer.everything()
        apart = torch.nonzero(self.is_held_out(held.images)).flatten()
        images, labels = held.images[apart], held.labels[apart]
        if bool(new[labels].any()) and bool((~new[labels]).any()):
            with torch.no_grad():
                logits = self.corrected(self.net.head(self.features_of(images)))
            logits = logits.masked_fill(~self.exposed, float("-inf"))
            self.alpha[new], self.beta[new] = bias_correction(logits, labels, new)
        self.teacher = frozen_copy(self.net)
        self.old_classes = self.exposed.clone()

    def classify(self, features: Tensor) -> Tensor:
        return self.corrected(self.net.head(features))

    def corrected(self, logits: Tensor) -> Tensor:
        """(B, K) logits, each session's with its own alpha and beta."""
        return self.alpha * logits + self.beta

    def is_held_out(self, images: Tensor) -> Tensor:
        """(B,) bool: samples that the network does not learn from."""
        return held_out(images, self.options.validation, self.setting.seed)

    def ranked(self, batch: Batch, features: Tensor, count: int) -> list[int]:
        """A class's exemplars in the order in which they are wanted: herded, a held-out one among ten."""
        apart = self.is_held_out(batch.images)
        learned, kept = ([int(row) for row in torch.nonzero(side).flatten()] for side in (~apart, apart))
        learned = [learned[place] for place in herding(features[learned], count)]
        kept = [kept[place] for place in herding(features[kept], count)]
        every, order = round(1 / self.options.validation), list[int]()
        while len(order) < count and (learned or kept):
            wanted = kept if kept and (len(order) % every == 1 or not learned) else learned
            order.append(wanted.pop(0))
        return order

    def bytes_to_come(self, experiences: int = 1) -> int:
        return 0 if self.teacher else sum(tensor.nbytes for tensor in self.net.state_dict().values())
