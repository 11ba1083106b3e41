"""Maximally interfered retrieval (Aljundi et al., NeurIPS 2019): replay what the next step would hurt most.

As the paper's algorithm 1 with its first criterion: of `candidates` exemplars drawn, the `replay_size`
whose loss rises most under a plain gradient step on the incoming batch (of the rate that the optimizer
gives the head then) are replayed beside it, and one step is taken on both. The authors' code sums the two
means (`combine = sum`), a step twice as long; it also replays from the second task on alone, and leaves out
the current task's exemplars, which a stream without tasks has no way to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.parts.gradients import after_a_step
from streamlab.parts.metric_losses import MetricTerms
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{aljundi2019mir,
  title = {Online Continual Learning with Maximally Interfered Retrieval},
  author = {Aljundi, Rahaf and Caccia, Lucas and Belilovsky, Eugene and Caccia, Massimo and Lin, Min and
    Charlin, Laurent and Tuytelaars, Tinne},
  booktitle = {NeurIPS},
  year = {2019},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch; candidates: drawn to choose them from; combine: one
    mean over both (joint: the paper's), or the sum of two means (sum: the authors' code). icnn,
    proto_triplet, margin: metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 10
    candidates: int = 50
    combine: Literal["joint", "sum"] = "joint"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("mir", "replay_size", self.replay_size, 1)
        if self.candidates < self.replay_size:
            raise StreamlabError(
                f"mir: candidates is {self.candidates}, and must be at least replay_size ({self.replay_size})"
            )


class MaximallyInterferedRetrieval(Strategy):
    """One cross-entropy over new samples and those whose loss the new ones would raise most."""

    options: Options
    smooths_labels = True

    def setup(self) -> None:
        self.parameters = self.trained_parameters()
        self.buffer = self.make_buffer("reservoir")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        drawn = self.buffer.draw(self.options.candidates)
        if len(drawn) > self.options.replay_size:
            drawn = drawn.at(self.most_interfered(batch, drawn))
        combined = batch.joined(drawn)
        features = self.net.features(combined.images)
        logits, terms = self.net.head(features), self.options.of(features, combined.labels)
        if self.options.combine == "joint" or not len(drawn):
            return {"task": self.cross_entropy(logits, combined.labels), **terms}
        new, replayed = logits.split([len(batch), len(drawn)])
        return {
            "task": self.cross_entropy(new, batch.labels),
            "replay": self.cross_entropy(replayed, drawn.labels),
            **terms,
        }  # fmt: skip

    def most_interfered(self, batch: Batch, drawn: Batch) -> Tensor:
        """(replay_size,) rows of those drawn whose loss rises most by a step on the batch, the most first."""
        incoming = F.cross_entropy(self.net(batch.images), batch.labels)
        gradients = torch.autograd.grad(incoming, self.parameters)
        with torch.no_grad():
            before = F.cross_entropy(self.net(drawn.images), drawn.labels, reduction="none")
            with after_a_step(self.parameters, gradients, self.rate()):
                after = F.cross_entropy(self.net(drawn.images), drawn.labels, reduction="none")
        return (after - before).topk(self.options.replay_size).indices

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)
