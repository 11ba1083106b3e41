"""Relation networks (Sung et al., CVPR 2018): a small network says how alike a query and a class are.

Feature maps of a class's supports are averaged (the paper sums them), laid beside the query's, and two blocks
of convolution and two linear layers give a relation score in 0..1 (section 3.3, figure 2), which is brought
to 1 for the query's class and 0 for the others by mean squared error (eq. 2), or compared by cross-entropy.

Equal to the code of Chen et al. (ICLR 2019), which follows the authors', losses and steps included
(tests/vectors/method_relationnet_*): batch normalisation in the relation module alone, whose running
statistics are those of the last batch (momentum 1). Differs: several episodes a step are side by side, and
share those statistics; maps too small to be halved are not, so that any network with maps serves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.needs import EPISODES, Needs
from streamlab.parts.metric_losses import prototypes_of
from streamlab.strategy import EpisodeBatch, Strategy

CITATION = """
@inproceedings{sung2018learning,
  title = {Learning to Compare: Relation Network for Few-Shot Learning},
  author = {Sung, Flood and Yang, Yongxin and Zhang, Li and Xiang, Tao and Torr, Philip H. S. and
    Hospedales, Timothy M.},
  booktitle = {CVPR},
  year = {2018},
}
"""
_PADDED = 10  # maps smaller than this are padded
_HIDDEN = 8  # units between the two linear layers


@dataclass(frozen=True)
class Options:
    """loss: of relation scores; mse, as the paper's, or cross-entropy, of scores without bounds."""

    loss: Literal["mse", "cross-entropy"] = "mse"


class RelationNetwork(Strategy):
    """A learned comparison of a query's feature maps with a class's."""

    options: Options
    needs = Needs(kinds=EPISODES, learning_backbone=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet", "blocks": 2}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.001}
    ledger_kinds: ClassVar[dict[str, str]] = {"relation": "model"}
    scores_are_logits = False

    def setup(self) -> None:
        device, shape = self.setting.device, self.setting.image_shape
        with torch.no_grad():
            maps = self.net.eval().staged(torch.zeros((1, *shape), dtype=torch.uint8, device=device))[1][-1]
        self.net.train()
        self.shape = tuple(maps.shape[1:])
        self.relation = relation_module(self.shape).to(device)
        self.optimizer = self.make_optimizer([*self.net.parameters(), *self.relation.parameters()])

    def train_mode(self, training: bool) -> None:
        super().train_mode(training)
        self.relation.train(training)

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, D) the last feature maps, flattened."""
        return self.net.staged(images)[1][-1].flatten(1)

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        support, query = episodes.parted(self.embed(episodes.images))
        scores = self._relations(support, episodes.support_labels, query).flatten(0, 1)
        answers = episodes.query_labels.flatten()
        if self.options.loss == "mse":
            return {"task": F.mse_loss(scores.sigmoid(), F.one_hot(answers, scores.shape[1]).to(scores))}
        return {"task": F.cross_entropy(scores, answers)}

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        return self._relations(support, support_labels, query)

    def _relations(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        """(E, S, D), (E, S), (E, Q, D) -> (E, Q, way) relation scores, before they are bounded."""
        way = int(support_labels.max()) + 1
        of_classes = prototypes_of(support, support_labels, way)[:, None].expand(-1, query.shape[1], -1, -1)
        pairs = torch.cat([of_classes, query[:, :, None].expand_as(of_classes)], -1)
        channels, height, width = self.shape
        maps = pairs.reshape(-1, 2 * channels, height, width)
        return cast(Tensor, self.relation(maps)).view(*query.shape[:2], way)


def relation_module(shape: tuple[int, ...]) -> nn.Sequential:
    """(N, 2 C, H, W) pairs of maps -> (N, 1), for maps of shape (C, H, W)."""
    channels, height, width = shape
    padding = int(min(height, width) < _PADDED)
    layers: list[nn.Module] = []
    for number in range(2):
        convolution = nn.Conv2d(channels * (2 - number), channels, 3, padding=padding)
        nn.init.normal_(convolution.weight, 0.0, math.sqrt(2 / (9 * channels)))
        layers += [convolution, nn.BatchNorm2d(channels, momentum=1.0), nn.ReLU()]
        height, width = (side - 2 + 2 * padding for side in (height, width))
        if min(height, width) > 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    size = channels * height * width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))
