"""ANIL (Raghu et al., ICLR 2020, arXiv 1909.09157) through learn2learn: only the head adapts to a support.

As `maml`, with the features the same before and after: what MAML mostly learns is features (the paper's
finding). Differs as `maml` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from streamlab.interop.learn2learn import library
from streamlab.strategy import EpisodeBatch, Strategy

from .adaptation import InnerLoop, losses_after_adaptation, predict_after_adaptation

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
    kinds: ClassVar[frozenset[str]] = frozenset({"episodes"})
    fixed_way = True
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.001}
    ledger_kinds: ClassVar[dict[str, str]] = {"learner": "model"}

    def setup(self) -> None:
        self.net.head = nn.Linear(self.net.backbone.feature_size, self.setting.way).to(self.setting.device)
        options = self.options
        self.learner = library().algorithms.MAML(self.net.head, options.inner_lr, options.first_order)
        self.optimizer = self.make_optimizer(self.net.parameters())

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        return losses_after_adaptation(self.learner, episodes, self.options, self.net.features)

    def predict_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        return predict_after_adaptation(
            self.learner, support, support_labels, query, self.options, self.net.features
        )
