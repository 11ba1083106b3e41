"""Meta-SGD (Li et al. 2017, arXiv 1707.09835) through learn2learn: MAML with a learned rate for each weight.

Differs as `maml` does; the rates begin at `inner_lr`.
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
@article{li2017metasgd,
  title = {Meta-SGD: Learning to Learn Quickly for Few-Shot Learning},
  author = {Li, Zhenguo and Zhou, Fengwei and Chen, Fei and Li, Hang},
  journal = {arXiv:1707.09835},
  year = {2017},
}
"""


class MetaSGD(Strategy):
    """The whole network is adapted, each weight at its own learned rate."""

    options: InnerLoop
    needs = Needs(kinds=EPISODES, learning_backbone=True, same_way=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.001}
    ledger_kinds: ClassVar[dict[str, str]] = {"learner": "model"}

    def setup(self) -> None:
        self.net.head = nn.Linear(self.net.backbone.feature_size, self.setting.way).to(self.setting.device)
        options = self.options
        self.learner = library().algorithms.MetaSGD(self.net, options.inner_lr, options.first_order)
        self.optimizer = self.make_optimizer(self.learner.parameters())

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        """Algorithm 1: the loss on queries of theta' = theta - alpha ∘ gradient, by theta and alpha."""
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
