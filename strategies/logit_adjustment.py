"""Class priors taken out of what is learned, or of what is predicted, beside replay.

A network that learns from few samples of a class says that class seldom. Balanced softmax (Ren et al.,
NeurIPS 2020, eq. 3) and the logit-adjusted loss (Menon et al., ICLR 2021, eq. 10) add the log prior to the
logits while learning, so that what the head says is without it: `where = loss`, and strength 1 is the
former. Adjusting afterwards (eq. 9), which at strength 1 is the thresholding of Buda et al. (2018: outputs
divided by priors), subtracts it from the scores: `where = scores`. The papers know the priors of a fixed
set; here they are the shares of the classes among all samples learned from, new and replayed, or among those
of the last updates (`window`; Huang et al. 2024 for streams, arXiv 2311.06460). A class that nothing was
learned of does not compete while learning, and counts as one sample in scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.parts.metric_losses import MetricTerms
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{menon2021logit,
  title = {Long-tail Learning via Logit Adjustment},
  author = {Menon, Aditya Krishna and Jayasumana, Sadeep and Rawat, Ankit Singh and Jain, Himanshu and Veit,
    Andreas and Kumar, Sanjiv},
  booktitle = {ICLR},
  year = {2021},
}

@inproceedings{ren2020balanced,
  title = {Balanced Meta-Softmax for Long-Tailed Visual Recognition},
  author = {Ren, Jiawei and Yu, Cunjun and Sheng, Shunan and Ma, Xiao and Zhao, Haiyu and Yi, Shuai and Li,
    Hongsheng},
  booktitle = {NeurIPS},
  year = {2020},
}

@article{buda2018imbalance,
  title = {A Systematic Study of the Class Imbalance Problem in Convolutional Neural Networks},
  author = {Buda, Mateusz and Maki, Atsuto and Mazurowski, Maciej A.},
  journal = {Neural Networks},
  year = {2018},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """where: the prior is taken out of the loss or of the scores; strength: how often (tau); replay_size:
    exemplars replayed beside each batch (0: none); window: updates that priors are counted over (0: all).
    icnn, proto_triplet, margin: metric losses on new and replayed features (`streamlab.parts.metric_losses`).
    """

    where: Literal["loss", "scores"] = "loss"
    strength: float = 1.0
    replay_size: int = 10
    window: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("strength", "replay_size", "window"):
            at_least("logit-adjustment", name, getattr(self, name), 0)


class LogitAdjustment(Strategy):
    """Cross-entropy of new and replayed samples, without the classes' shares."""

    options: Options
    smooths_labels = True
    ledger_kinds: ClassVar[Mapping[str, str]] = {"counts": "statistics", "latest": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "strength": Choice((0.5, 1.0, 1.5)),
    }  # fmt: skip

    def setup(self) -> None:
        classes, device = self.setting.num_classes, self.setting.device
        self.buffer = self.make_buffer() if self.options.replay_size else None
        self.counts = torch.zeros(classes, device=device)
        self.latest = torch.zeros(self.options.window, classes, device=device)  # a row an update
        self.updates = 0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined = batch
        if self.buffer is not None:
            combined = batch.joined(self.buffer.draw(self.options.replay_size))
        self.count(combined.labels)
        features = self.net.features(combined.images)
        logits, terms = self.net.head(features), self.options.of(features, combined.labels)
        if self.options.where == "scores":
            return {"task": self.cross_entropy(logits, combined.labels), **terms}
        adjusted = logits + self.options.strength * log_priors(self.counts)
        return {"task": self.cross_entropy(adjusted, combined.labels, self.counts > 0), **terms}

    def count(self, labels: Tensor) -> None:
        """Take the labels of an update into the shares, and those that leave the window out."""
        fresh = torch.zeros_like(self.counts).scatter_add_(0, labels, torch.ones_like(labels).to(self.counts))
        if self.options.window:
            row = self.updates % self.options.window
            self.counts.add_(fresh - self.latest[row])
            self.latest[row].copy_(fresh)
            self.updates += 1
        else:
            self.counts.add_(fresh)

    def remember(self, batch: Batch) -> None:
        if self.buffer is not None:
            self.buffer.add(batch)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        scores = super().score(embedding, images)
        if self.options.where == "scores":
            scores = scores - self.options.strength * log_priors(self.counts)
        return scores


def log_priors(counts: Tensor) -> Tensor:
    """(K,) samples of each class -> (K,) the logs of their shares, a class without any counted once."""
    counts = counts.clamp(min=1)
    return (counts / counts.sum()).log()
