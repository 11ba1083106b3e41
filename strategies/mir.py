"""Maximally interfered retrieval (Aljundi et al., NeurIPS 2019): replay what the next step would hurt most.

As the paper's algorithm 1 with its first criterion: of `candidates` exemplars drawn, the `replay_size`
whose loss rises most under a plain gradient step on the incoming batch (of the optimizer's lr) are
replayed beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.parts.gradients import after_a_step
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
class Options:
    """replay_size: exemplars replayed beside each batch; candidates: drawn to choose them from."""

    replay_size: int = 10
    candidates: int = 50

    def __post_init__(self) -> None:
        at_least("mir", "replay_size", self.replay_size, 1)
        if self.candidates < self.replay_size:
            raise StreamlabError(
                f"mir: candidates is {self.candidates}, and must be at least replay_size ({self.replay_size})"
            )


class MaximallyInterferedRetrieval(Strategy):
    """One cross-entropy over new samples and those whose loss the new ones would raise most."""

    options: Options

    def setup(self) -> None:
        self.parameters = self.trained_parameters()
        self.buffer = self.make_buffer("reservoir")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        drawn = self.buffer.draw(self.options.candidates)
        if len(drawn) > self.options.replay_size:
            drawn = self._most_interfered(batch, drawn)
        both = batch.joined(drawn)
        return {"task": F.cross_entropy(self.net(both.images), both.labels)}

    def _most_interfered(self, batch: Batch, drawn: Batch) -> Batch:
        """Those of the drawn whose loss rises most by a step on the batch."""
        incoming = F.cross_entropy(self.net(batch.images), batch.labels)
        gradients = torch.autograd.grad(incoming, self.parameters)
        with torch.no_grad():
            before = F.cross_entropy(self.net(drawn.images), drawn.labels, reduction="none")
            with after_a_step(self.parameters, gradients, self.setting.optimizer.lr):
                after = F.cross_entropy(self.net(drawn.images), drawn.labels, reduction="none")
        rows = (after - before).topk(self.options.replay_size).indices
        return Batch(drawn.images[rows], drawn.labels[rows])

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)
