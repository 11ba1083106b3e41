"""MetaOptNet (Lee et al., CVPR 2019): features learned so that a convex classifier of the support does well.

Each episode's classifier is the solution of a convex problem: the multi-class support vector machine of
Crammer and Singer (eq. 10 and 11), or ridge regression; its scores of the queries, times a learned scale (eq.
12), are compared by cross-entropy, and gradients pass through the solution.

Equal to the authors' code, losses and steps included (tests/vectors/method_metaoptnet_*), which solves the
same problems by interior points (qpth; to what 40 of its iterations leave). Differs: the machine is solved
by `streamlab.parts.svm`, since qpth is no longer kept up. The authors train on 15 shots, 8 episodes a step,
whatever is tested (scenario.train_shot, stream.batch_size), and drop the rate 0.1 at epochs 20, 40 and 50 of
1,000 steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.needs import EPISODES, Needs
from streamlab.parts.svm import crammer_singer
from streamlab.strategy import EpisodeBatch, Strategy

CITATION = """
@inproceedings{lee2019meta,
  title = {Meta-Learning with Differentiable Convex Optimization},
  author = {Lee, Kwonjoon and Maji, Subhransu and Ravichandran, Avinash and Soatto, Stefano},
  booktitle = {CVPR},
  year = {2019},
}
"""


@dataclass(frozen=True)
class Options:
    """head: the support vector machine, or ridge regression. cost: of what the machine leaves on the wrong
    side (C). ridge: weight of ridge regression's penalty (lambda).
    """

    head: Literal["svm", "ridge"] = "svm"
    cost: float = 0.1
    ridge: float = 50.0

    def __post_init__(self) -> None:
        at_least("metaoptnet", "cost", self.cost, 1e-9)
        at_least("metaoptnet", "ridge", self.ridge, 1e-9)


class MetaOptNet(Strategy):
    """A convex classifier of each support, in features learned through its solution."""

    options: Options
    needs = Needs(kinds=EPISODES, learning_backbone=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4,
    }  # fmt: skip
    ledger_kinds: ClassVar[dict[str, str]] = {"scale": "model"}

    def setup(self) -> None:
        self.scale = nn.Parameter(torch.ones((), device=self.setting.device))
        self.optimizer = self.make_optimizer([*self.net.parameters(), self.scale])

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        support, query = episodes.parted(self.net.features(episodes.images))
        logits = self.classify_episodes(support, episodes.support_labels, query)
        return {"task": F.cross_entropy(logits.flatten(0, 1), episodes.query_labels.flatten())}

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        members = F.one_hot(support_labels, int(support_labels.max()) + 1).to(support)
        kernel = support @ support.mT
        if self.options.head == "svm":
            dual = crammer_singer(kernel, members, self.options.cost)
        else:
            unit = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
            dual = torch.linalg.solve(kernel + self.options.ridge * unit, 2 * members)
        return self.scale * (query @ support.mT @ dual)
