"""ANIL (Raghu et al., ICLR 2020, arXiv 1909.09157) through learn2learn: only the head adapts to a support.

As `maml`, with the features the same before and after: what MAML mostly learns is features (the paper's
finding). Differs as `maml` does.
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
@inproceedings{raghu2020anil,
  title = {Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML},
  author = {Raghu, Aniruddh and Raghu, Maithra and Bengio, Samy and Vinyals, Oriol},
  booktitle = {ICLR},
  year = {2020},
}
"""


class AlmostNoInnerLoop(Strategy):
    """The head alone is adapted to each support."""

    options: InnerLoop
    needs = Needs(kinds=EPISODES, same_way=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.001}
    ledger_kinds: ClassVar[dict[str, str]] = {"learner": "model"}

    def setup(self) -> None:
        self.net.head = nn.Linear(self.net.backbone.feature_size, self.setting.way).to(self.setting.device)
        options = self.options
        self.learner = library().algorithms.MAML(self.net.head, options.inner_lr, options.first_order)
        self.optimizer = self.make_optimizer(self.net.parameters())

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        """The loss on queries of a head adapted to each support; features learn in the outer step alone."""
        supports, queries = zip(episodes.support, episodes.support_labels, strict=True), episodes.query
        losses = []
        for (support, labels), query, answers in zip(supports, queries, episodes.query_labels, strict=True):
            learner = adapted(self.learner, self.net.features(support), labels, self.options)
            losses.append(F.cross_entropy(learner(self.net.features(query)), answers))
        return {"task": torch.stack(losses).mean()}

    def predict_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        scores = []
        for images, labels, asked in zip(support, support_labels, query, strict=True):
            learner = adapted_in_testing(self.learner, self.net.features(images), labels, self.options)
            scores.append(learner(self.net.features(asked)).detach())
        return torch.stack(scores)
