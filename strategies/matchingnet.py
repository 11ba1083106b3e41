"""Matching networks (Vinyals et al., NeurIPS 2016): attention over supports says a query's label.

Supports are seen in the context of one another by a bidirectional LSTM (g, section 2.1.2 and appendix A.2),
a query in that of the supports by an LSTM that attends to them (f, appendix A.1); attention is a softmax
over cosines. Without full context (`context=false`) features are compared as they are.

The authors published no code; equal to that of Chen et al. (ICLR 2019), by which the field compares it,
losses and steps included (tests/vectors/method_matchingnet_a): cosines below 0 count as 0, and are multiplied
by 100 before the softmax, and 1e-6 is added to probabilities before the logarithm. Differs: several episodes
a step are side by side. What a support is told from hangs on the order of supports, which is the plan's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.needs import EPISODES, Needs
from streamlab.strategy import EpisodeBatch, Strategy

CITATION = """
@inproceedings{vinyals2016matching,
  title = {Matching Networks for One Shot Learning},
  author = {Vinyals, Oriol and Blundell, Charles and Lillicrap, Timothy and Kavukcuoglu, Koray and
    Wierstra, Daan},
  booktitle = {NeurIPS},
  year = {2016},
}
"""
_LEAST, _LENGTH = 1e-6, 1e-5  # added to probabilities, and to lengths


@dataclass(frozen=True)
class Options:
    """context: whether features are seen in the context of the support. sharpness: what cosines are
    multiplied by before the softmax.
    """

    context: bool = True
    sharpness: float = 100.0

    def __post_init__(self) -> None:
        at_least("matchingnet", "sharpness", self.sharpness, 0)


class Contexts(nn.Module):
    """Three LSTM cells: along the supports, back along them, and of a query that attends to them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.forth, self.back = nn.LSTMCell(size, size), nn.LSTMCell(size, size)
        self.query = nn.LSTMCell(2 * size, size)


class MatchingNetwork(Strategy):
    """Attention over the support, in features learned over episodes."""

    options: Options
    needs = Needs(kinds=EPISODES, learning_backbone=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.001}
    ledger_kinds: ClassVar[dict[str, str]] = {"contexts": "model"}

    def setup(self) -> None:
        self.contexts: Contexts | None = None
        learned = list(self.net.parameters())
        if self.options.context:
            self.contexts = Contexts(self.net.backbone.feature_size).to(self.setting.device)
            learned += self.contexts.parameters()
        self.optimizer = self.make_optimizer(learned)

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        support, query = episodes.parted(self.net.features(episodes.images))
        logarithms = self.classify_episodes(support, episodes.support_labels, query)
        return {"task": F.nll_loss(logarithms.flatten(0, 1), episodes.query_labels.flatten())}

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        """(E, Q, way) logarithms of the attention that each class gets."""
        way = int(support_labels.max()) + 1
        if self.contexts is not None:
            support = _of_supports(support, self.contexts.forth, self.contexts.back)
            query = _of_queries(query, support, self.contexts.query)
        cosines = _directions(query) @ _directions(support).mT
        attention = (self.options.sharpness * cosines.relu()).softmax(-1)
        chances = attention @ F.one_hot(support_labels, way).to(attention)
        return (chances + _LEAST).log()


def _of_supports(support: Tensor, forth: nn.LSTMCell, back: nn.LSTMCell) -> Tensor:
    """g: (E, S, D) -> (E, S, D), each with both passes over all supports added (appendix A.2)."""
    return support + _passed(support, forth) + _passed(support.flip(1), back).flip(1)


def _passed(points: Tensor, cell: nn.LSTMCell) -> Tensor:
    """(E, S, D) -> (E, S, D), what an LSTM says at each of a set's points, one after another."""
    hidden = state = torch.zeros_like(points[:, 0])
    said = []
    for point in points.unbind(1):
        hidden, state = _moved(cell, point, hidden, state)
        said.append(hidden)
    return torch.stack(said, 1)


def _of_queries(query: Tensor, support: Tensor, cell: nn.LSTMCell) -> Tensor:
    """f: (E, Q, D) queries, (E, S, D) supports -> (E, Q, D), after as many steps of attention as there are
    supports (appendix A.1, eqs. 3 to 6)."""
    flat = query.flatten(0, 1)
    hidden, state = flat, torch.zeros_like(flat)
    for _ in range(support.shape[1]):
        attention = (hidden.view_as(query) @ support.mT).softmax(-1)
        read = (attention @ support).flatten(0, 1)
        moved, state = _moved(cell, torch.cat([flat, read], 1), hidden, state)
        hidden = moved + flat
    return hidden.view_as(query)


def _moved(cell: nn.LSTMCell, points: Tensor, hidden: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """A step of an LSTM, written out since torch's fused one is not on every device: new (hidden, state)."""
    gates = F.linear(points, cell.weight_ih, cell.bias_ih) + F.linear(hidden, cell.weight_hh, cell.bias_hh)
    enter, keep, new, leave = gates.chunk(4, 1)
    state = keep.sigmoid() * state + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * state.tanh(), state


def _directions(features: Tensor) -> Tensor:
    lengths: Tensor = features.norm(dim=-1, keepdim=True)
    return features / (lengths + _LENGTH)
