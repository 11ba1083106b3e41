"""Two phases: a network learns as experience replay does, and its classifier is then learned anew, balanced.

What a network sees is a matter of all samples, what it says of how many of each class there were (Kang et
al., ICLR 2020: classifier retraining, cRT; Buda et al. 2018 retrain the last layer too). Before every
evaluation a classifier of its own is trained on the features of the memory, whose classes are balanced: by
drawing the rare more often, the frequent less, or making new features between (SMOTE, Chawla et al. 2002).
The network goes on with its own head, so that how often it is evaluated changes nothing. The papers retrain
on the whole training set, which a stream does not keep.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.needs import Needs
from streamlab.nets.optimizer import SGD
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.resampling import oversampled, shuffled, smote, undersampled
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{kang2020decoupling,
  title = {Decoupling Representation and Classifier for Long-Tailed Recognition},
  author = {Kang, Bingyi and Xie, Saining and Rohrbach, Marcus and Yan, Zhicheng and Gordo, Albert and Feng,
    Jiashi and Kalantidis, Yannis},
  booktitle = {ICLR},
  year = {2020},
}

@article{chawla2002smote,
  title = {{SMOTE}: Synthetic Minority Over-sampling Technique},
  author = {Chawla, Nitesh V. and Bowyer, Kevin W. and Hall, Lawrence O. and Kegelmeyer, W. Philip},
  journal = {Journal of Artificial Intelligence Research},
  year = {2002},
}
"""


@dataclass(frozen=True)
class Options(MetricTerms):
    """replay_size: exemplars replayed beside each batch; selection: how the buffer chooses; balance: of the
    classifier's features; ratio: the most frequent class over the rarest then; neighbours: of smote; epochs,
    batch_size, rate: the classifier's. icnn, proto_triplet, margin: metric losses on new and replayed
    features (`streamlab.parts.metric_losses`).
    """

    replay_size: int = 10
    selection: Literal["reservoir", "balanced"] = "reservoir"
    balance: Literal["none", "over", "under", "smote"] = "over"
    ratio: float = 1.0
    neighbours: int = 5
    epochs: int = 20
    batch_size: int = 64
    rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("replay_size", "ratio", "neighbours", "epochs", "batch_size"):
            at_least("head-retraining", name, getattr(self, name), 1)


class HeadRetraining(Strategy):
    """Experience replay, and before an evaluation a classifier anew."""

    options: Options
    needs = Needs(exemplars_per_class=1)
    smooths_labels = True
    ledger_kinds: ClassVar[Mapping[str, str]] = {"classifier": "extra models"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "rate": Choice((0.01, 0.1, 1.0)),
    }  # fmt: skip

    def setup(self) -> None:
        self.buffer = self.make_buffer(self.options.selection)
        self.classifier = copy.deepcopy(self.net.head)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined = batch.joined(self.buffer.draw(self.options.replay_size))
        features = self.net.features(combined.images)
        task = self.cross_entropy(self.net.head(features), combined.labels)
        return {"task": task, **self.options.of(features, combined.labels)}

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)

    def consolidate(self) -> None:
        """Train the classifier from where the head is, on balanced features of what is held."""
        held = self.buffer.everything()
        if not len(held):
            return
        self.classifier.load_state_dict(self.net.head.state_dict())
        features, labels = self.balanced(self.features_of(held.images), held.labels)
        parameters = list(self.classifier.parameters())
        optimizer = SGD(parameters, self.options.rate, 0.9, 0.0)
        for _ in range(self.options.epochs):
            order = shuffled(torch.arange(len(labels), device=labels.device))
            for rows in torch.split(order, self.options.batch_size):
                optimizer.zero_grad()
                logits = self.classifier(features[rows]).masked_fill(~self.exposed, float("-inf"))
                torch.autograd.backward(F.cross_entropy(logits, labels[rows]))
                optimizer.step()
        optimizer.zero_grad()

    def balanced(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(n, D), (n,) -> (m, D), (m,): as many of one class as of another, or `ratio` times."""
        classes, ratio = self.setting.num_classes, self.options.ratio
        if self.options.balance == "smote":
            return smote(features, labels, classes, ratio, self.options.neighbours)
        if self.options.balance == "none":
            return features, labels
        rows = {"over": oversampled, "under": undersampled}[self.options.balance](labels, classes, ratio)
        return features[rows], labels[rows]

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        scores: Tensor = self.classifier(embedding)
        return scores
