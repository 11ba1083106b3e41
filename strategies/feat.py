"""FEAT (Ye et al., CVPR 2020): self-attention adapts an episode's prototypes to one another.

Class means of the support go through one attention layer with a residual and layer normalisation, as a set
(section 3.2, eqs. 6 to 8); a query is classified by its squared distance to them, or by its product with
their directions, over a temperature. Beside cross-entropy stands a contrastive term (eq. 9): each class's
supports and queries are adapted as a set of their own, and every one of them is classified by the means of
these.

Equal to the authors' code, losses and steps included (tests/vectors/method_feat_*; dropout aside, whose draws
are ours). Differs: they begin with a backbone that was trained to classify; here it is begun with as the
section `backbone` says (`streamlab pretrain` makes one), and several episodes a step are side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least, within
from streamlab.needs import EPISODES, Needs
from streamlab.parts.metric_losses import prototypes_of
from streamlab.strategy import EpisodeBatch, Strategy

CITATION = """
@inproceedings{ye2020fewshot,
  title = {Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions},
  author = {Ye, Han-Jia and Hu, Hexiang and Zhan, De-Chuan and Sha, Fei},
  booktitle = {CVPR},
  year = {2020},
}
"""


@dataclass(frozen=True)
class Options:
    """metric: how queries are compared with prototypes. temperature: divides the logits;
    contrast_temperature: those of the contrastive term; balance: its weight (lambda). dropout: of what
    attention gives; attention_dropout: of attention itself.
    """

    metric: Literal["euclidean", "cosine"] = "euclidean"
    temperature: float = 64.0
    contrast_temperature: float = 32.0
    balance: float = 0.01
    dropout: float = 0.5
    attention_dropout: float = 0.1

    def __post_init__(self) -> None:
        at_least("feat", "temperature", self.temperature, 1e-9)
        at_least("feat", "contrast_temperature", self.contrast_temperature, 1e-9)
        at_least("feat", "balance", self.balance, 0)
        within("feat", "dropout", self.dropout, 0, 1)
        within("feat", "attention_dropout", self.attention_dropout, 0, 1)


class SetAttention(nn.Module):
    """One head of self-attention over a set of features, with a residual and layer normalisation."""

    def __init__(self, size: int, options: Options) -> None:
        super().__init__()
        self.asked, self.keyed, self.valued = (nn.Linear(size, size, bias=False) for _ in range(3))
        for part in (self.asked, self.keyed, self.valued):
            nn.init.normal_(part.weight, 0.0, math.sqrt(1 / size))
        self.normed, self.mixed = nn.LayerNorm(size), nn.Linear(size, size)
        nn.init.xavier_normal_(self.mixed.weight)
        self.dropout, self.attention_dropout = (
            nn.Dropout(options.dropout),
            nn.Dropout(options.attention_dropout),
        )

    def forward(self, points: Tensor) -> Tensor:
        """(N, K, D) -> (N, K, D), whatever the order of the K."""
        agreement = self.asked(points) @ self.keyed(points).mT / math.sqrt(points.shape[-1])
        attention = self.attention_dropout(agreement.softmax(-1))
        found = self.dropout(self.mixed(attention @ self.valued(points)))
        return cast(Tensor, self.normed(found + points))


class EmbeddingAdaptation(Strategy):
    """Nearest of prototypes that know of one another."""

    options: Options
    needs = Needs(kinds=EPISODES, learning_backbone=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.001, "backbone_lr": 0.1}
    ledger_kinds: ClassVar[dict[str, str]] = {"attention": "model"}

    def setup(self) -> None:
        self.attention = SetAttention(self.net.backbone.feature_size, self.options).to(self.setting.device)
        self.optimizer = self.make_optimizer([*self.net.parameters(), *self.attention.parameters()])

    def train_mode(self, training: bool) -> None:
        super().train_mode(training)
        self.attention.train(training)

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        support, query = episodes.parted(self.net.features(episodes.images))
        options = self.options
        logits = self.classify_episodes(support, episodes.support_labels, query)
        losses = {"task": F.cross_entropy(logits.flatten(0, 1), episodes.query_labels.flatten())}
        if options.balance:
            points = torch.cat([support, query], 1)
            labels = torch.cat([episodes.support_labels, episodes.query_labels], 1)
            centres = self._centres(points, labels, episodes.way)
            contrast = self._compared(points, centres) / options.contrast_temperature
            losses["contrast"] = options.balance * F.cross_entropy(contrast.flatten(0, 1), labels.flatten())
        return losses

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        way = int(support_labels.max()) + 1
        prototypes = self.attention(prototypes_of(support, support_labels, way))
        return self._compared(query, prototypes) / self.options.temperature

    def _centres(self, points: Tensor, labels: Tensor, way: int) -> Tensor:
        """(E, N, D), (E, N), as many of each class -> (E, way, D): means of points adapted within a class."""
        order = labels.argsort(dim=1, stable=True)
        sets = points.gather(1, order[..., None].expand_as(points))
        sets = sets.reshape(len(points) * way, -1, points.shape[2])
        return cast(Tensor, self.attention(sets)).mean(1).view(len(points), way, -1)

    def _compared(self, query: Tensor, prototypes: Tensor) -> Tensor:
        """(E, Q, D), (E, W, D) -> (E, Q, W)."""
        if self.options.metric == "euclidean":
            return -(query[:, :, None] - prototypes[:, None]).square().sum(-1)
        return query @ F.normalize(prototypes, dim=-1).mT
