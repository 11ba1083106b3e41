"""Weight averaging of consecutive experiences, after WiSE-FT (Wortsman et al., CVPR 2022, arXiv 2109.01903).

A network that was learned further is mixed with what it was before, weight by weight: (1 - alpha) · before +
alpha · after (their eq. 1, of a fine-tuned and a zero-shot model). Here it is done at the end of every
experience from the second on, and the mixture goes on (ours). The classifier's rows of classes that came in
this experience stay as they were learned; what batch normalisation has counted is mixed too. Beside it the
network learns as experience replay does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from streamlab.config import Choice, Range, Searched, at_least, within
from streamlab.needs import Needs
from streamlab.nets.network import frozen_copy
from streamlab.parts.metric_losses import MetricTerms
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{wortsman2022robust,
  title = {Robust Fine-Tuning of Zero-Shot Models},
  author = {Wortsman, Mitchell and Ilharco, Gabriel and Kim, Jong Wook and Li, Mike and Kornblith, Simon and
    Roelofs, Rebecca and Gontijo-Lopes, Raphael and Hajishirzi, Hannaneh and Farhadi, Ali and Namkoong,
    Hongseok and Schmidt, Ludwig},
  booktitle = {CVPR},
  year = {2022},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """alpha: the share of the weights after an experience; replay_size: exemplars replayed beside each batch
    (0: none, and no buffer). icnn, proto_triplet, margin: metric losses on new and replayed features
    (`streamlab.parts.metric_losses`).
    """

    alpha: float = 0.5
    replay_size: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        within("wise-ft", "alpha", self.alpha, 0, 1)
        at_least("wise-ft", "replay_size", self.replay_size, 0)


class WeightAveraging(Strategy):
    """Replay, and a mixture of the weights before and after each experience."""

    options: Options
    needs = Needs(boundaries=True)
    smooths_labels = True
    ledger_kinds: ClassVar[Mapping[str, str]] = {"before": "extra models", "learned": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "alpha": Choice((0.3, 0.5, 0.7, 0.9)),
    }  # fmt: skip

    def setup(self) -> None:
        self.buffer = self.make_buffer() if self.options.replay_size else None
        self.before: nn.Module | None = None
        self.learned = torch.zeros_like(self.exposed)  # classes of earlier experiences

    def begin_experience(self, view: ExperienceView) -> None:
        if bool(self.learned.any()):
            self.before = frozen_copy(self.net)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined = batch
        if self.buffer is not None:
            combined = batch.joined(self.buffer.draw(self.options.replay_size))
        features = self.net.features(combined.images)
        task = self.cross_entropy(self.net.head(features), combined.labels)
        return {"task": task, **self.options.of(features, combined.labels)}

    def remember(self, batch: Batch) -> None:
        if self.buffer is not None:
            self.buffer.add(batch)

    @torch.no_grad()
    def end_experience(self, view: ExperienceView) -> None:
        if self.before is not None:
            head = self.net.head
            after = {name: value.clone() for name, value in head.state_dict().items()}
            mix(self.net, self.before, self.options.alpha)
            for name, value in head.state_dict().items():
                value[~self.learned] = after[name][~self.learned]
        self.before, self.learned = None, self.exposed.clone()

    def bytes_to_come(self, experiences: int = 1) -> int:
        return 0 if self.before else sum(tensor.nbytes for tensor in self.net.state_dict().values())


def mix(network: nn.Module, before: nn.Module, alpha: float) -> None:
    """Move all that is no integer of a network to (1 - alpha) · before + alpha · itself."""
    for now, old in zip(network.state_dict().values(), before.state_dict().values(), strict=True):
        if now.dtype.is_floating_point:
            now.lerp_(old.to(now.dtype), 1 - alpha)
