"""MAML (Finn et al., ICML 2017, arXiv 1703.03400) through learn2learn: weights that adapt in a few steps.

The network is adapted to a support by gradient steps, and its loss on the queries is differentiated
through them (first_order leaves out the second derivatives): algorithm 2, whose outer step is the
optimizer's. Differs: group normalisation, so that no query's answer depends on the others; the weights at
first are the kernel's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.interop.learn2learn import library
from streamlab.needs import EPISODES, Needs
from streamlab.parts.adapted import InnerLoop, adapted, adapted_in_testing
from streamlab.strategy import EpisodeBatch, Strategy

CITATION = """
@inproceedings{finn2017maml,
  title = {Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks},
  author = {Finn, Chelsea and Abbeel, Pieter and Levine, Sergey},
  booktitle = {ICML},
  year = {2017},
}

@article{arnold2020learn2learn,
  title = {learn2learn: A Library for Meta-Learning Research},
  author = {Arnold, S{\\'e}bastien M. R. and Mahajan, Praateek and Datta, Debajyoti and Bunner, Ian and
    Zarkias, Konstantinos Saitas},
  journal = {arXiv:2008.12284},
  year = {2020},
}
"""


class ModelAgnosticMetaLearning(Strategy):
    """The whole network is adapted to each support."""

    options: InnerLoop
    needs = Needs(kinds=EPISODES, learning_backbone=True, same_way=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.001}
    ledger_kinds: ClassVar[dict[str, str]] = {"learner": "model"}

    def setup(self) -> None:
        self.net.head = nn.Linear(self.net.backbone.feature_size, self.setting.way).to(self.setting.device)
        options = self.options
        self.learner = library().algorithms.MAML(self.net, options.inner_lr, options.first_order)
        self.optimizer = self.make_optimizer(self.net.parameters())

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        """Algorithm 2, lines 4 to 10: the loss on queries of theta', the weights adapted to each support."""
        supports, queries = zip(episodes.support, episodes.support_labels, strict=True), episodes.query
        losses = []
        for (support, labels), query, answers in zip(supports, queries, episodes.query_labels, strict=True):
            learner = adapted(self.learner, support, labels, self.options)
            losses.append(F.cross_entropy(learner(query), answers))
        return {"task": torch.stack(losses).mean()}

    def predict_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        scores = []
        for images, labels, asked in zip(support, support_labels, query, strict=True):
            learner = adapted_in_testing(self.learner, images, labels, self.options)
            scores.append(learner(asked).detach())
        return torch.stack(scores)
