"""Gradient-based sample selection (GSS-Greedy; Aljundi et al., NeurIPS 2019): kept is what points elsewhere.

A sample's score is the largest cosine of its gradient to those of some of the memory's samples, taken in
groups (the paper's algorithm 2). While there is room all are kept. Afterwards a batch is looked at where its
own gradient points away from all of the groups; then its samples stand against exemplars that were drawn by
their scores, and the more alike of two is the likelier to go. As the online survey's code (Mai et al. 2022),
which follows the authors': an exemplar is drawn in proportion to its score, scaled to 0..1 over the memory;
a step is on the sum of two means, of the new and of the replayed; the first batch scores 0.1; what does not
fit into a memory that fills is not looked at. The paper's exact selection, an integer program, is left out,
as its own tables do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from streamlab.config import at_least
from streamlab.memory import Buffer
from streamlab.parts.gradients import flat_gradient
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.passes import outputs_apart
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{aljundi2019gss,
  title = {Gradient Based Sample Selection for Online Continual Learning},
  author = {Aljundi, Rahaf and Lin, Min and Goujaud, Baptiste and Bengio, Yoshua},
  booktitle = {NeurIPS},
  year = {2019},
}
"""

_FIRST_SCORE = 0.1  # of the samples that come when there is nothing to be like


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch; groups, group_size: of the memory's samples, whose
    gradients new ones are compared with. icnn, proto_triplet, margin: metric losses on new and replayed
    features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 10
    groups: int = 10
    group_size: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("replay_size", "groups", "group_size"):
            at_least("gss", name, getattr(self, name), 1)


class SimilarityBuffer(Buffer):
    """Exemplars with their scores (an extra); of two samples the more alike to others is likelier to go."""

    def choose_slots(self, batch: Batch) -> dict[int, int]:
        room = min(self.capacity - self.count, len(batch))
        if room > 0:
            first = self.count
            self.count += room
            return {first + row: row for row in range(room)}
        held = np.array(self.extras["score"].tolist(), np.float64)
        fresh: list[float] = batch.extras["score"].tolist()
        drawn = self.drawn_by_score(held, min(len(batch), self.capacity))
        events = self.write_draws.take(len(drawn))
        return {
            slot: row
            for row, (slot, event) in enumerate(zip(drawn, events, strict=True))
            if event < chance_to_go(held[slot], fresh[row])
        }

    def drawn_by_score(self, scores: NDArray[np.float64], count: int) -> list[int]:
        """`count` different slots, one after another, each in proportion to its score over the least.

        By exponential races (Efraimidis and Spirakis 2006), which is the same in distribution.
        """
        scaled = (scores - scores.min()) / (scores.max() - scores.min() + 0.01)
        waits = -np.log1p(-np.array(self.write_draws.take(len(scores))))
        with np.errstate(divide="ignore"):
            order: list[int] = np.argsort(waits / scaled, kind="stable")[:count].tolist()
        return order


def chance_to_go(held: float, fresh: float) -> float:
    """That an exemplar gives way to a new sample, by both scores in -1..1 (the paper's line 12)."""
    return float((held + 1) / max((held + 1) + (fresh + 1), 1e-12))


class GradientSampleSelection(Strategy):
    """Two cross-entropies, of new and of replayed samples; a memory of samples whose gradients differ."""

    options: Options
    smooths_labels = True

    def setup(self) -> None:
        self.parameters = self.trained_parameters()
        buffer = self.make_buffer(SimilarityBuffer, {"score": ()})
        assert isinstance(buffer, SimilarityBuffer)
        self.buffer = buffer

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        replayed = self.buffer.draw(self.options.replay_size)
        features = outputs_apart(self.net, self.net.features, batch.images, replayed.images)
        new, old = self.net.head(features).split([len(batch), len(replayed)])
        losses = {"task": self.cross_entropy(new, batch.labels)}
        if len(replayed):
            losses["replay"] = self.cross_entropy(old, replayed.labels)
        labels = torch.cat([batch.labels, replayed.labels])
        return {**losses, **self.options.of(features, labels)}

    def remember(self, batch: Batch) -> None:
        self.train_mode(False)
        room = self.buffer.capacity - len(self.buffer)
        if room > 0:
            batch = batch.at(torch.arange(min(room, len(batch)), device=batch.labels.device))
        if not len(self.buffer):
            score = torch.full((len(batch),), _FIRST_SCORE, device=batch.labels.device)
            self.buffer.add(batch.with_extras(score=score))
        elif self.buffer.capacity:
            memory = self.memory_gradients()
            if room > 0 or float(closest(memory, self.gradient(batch))) < 0:
                rows = torch.arange(len(batch), device=batch.labels.device)
                scores = [closest(memory, self.gradient(batch.at(row[None]))) for row in rows]
                self.buffer.add(batch.with_extras(score=torch.stack(scores)))
        self.train_mode(True)

    def memory_gradients(self) -> Tensor:
        """(M, P) gradients of the mean loss of M groups of exemplars, drawn at random."""
        size = min(self.options.group_size, len(self.buffer))
        groups = min(self.options.groups, len(self.buffer) // size)
        slots = self.buffer.write_draws.choose(groups * size, len(self.buffer))
        return torch.stack(
            [self.gradient(self.buffer.at(slots[i * size : (i + 1) * size])) for i in range(groups)]
        )

    def gradient(self, batch: Batch) -> Tensor:
        """(P,) of the samples' mean loss, as they lie."""
        loss = F.cross_entropy(self.net(batch.originals), batch.labels)
        return flat_gradient(loss, self.parameters)


def closest(memory: Tensor, gradient: Tensor) -> Tensor:
    """(M, P), (P,) -> the largest cosine."""
    return F.cosine_similarity(memory, gradient[None], dim=1).max()
