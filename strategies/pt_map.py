"""PT-MAP (Hu, Gripon and Pateux, ICANN 2021, arXiv 2006.03806): power transform, and optimal transport.

Features of an ordinary classifier of the meta-training classes, frozen, are raised to a power, brought to
length 1, centred over the supports and over the queries apart, and brought to length 1 again (section 3.2).
Then, in turn, queries are assigned to class centres by optimal transport, as many to each class, under the
cost of squared distances (Sinkhorn), and centres move towards the means of what they are assigned (section
3.3, algorithm 1).

Transductive: all queries of an episode are classified together, and every class is taken to have as many of
them. Equal to the authors' code (tests/vectors/method_pt_map_a), less their reduction by a QR decomposition,
which changes no distance. Differs: Sinkhorn's iterations end for each episode by itself; a negative feature,
which theirs never are, is raised with its sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.base_training import LinearBase
from streamlab.config import at_least, within
from streamlab.needs import EPISODES, Needs
from streamlab.parts.metric_losses import prototypes_of
from streamlab.strategy import Strategy

CITATION = """
@inproceedings{hu2021leveraging,
  title = {Leveraging the Feature Distribution in Transfer-Based Few-Shot Learning},
  author = {Hu, Yuqing and Gripon, Vincent and Pateux, St{\\'e}phane},
  booktitle = {ICANN},
  year = {2021},
}
"""
_SMALL, _MOST = 1e-6, 1000


@dataclass(frozen=True)
class Options:
    """power: that features are raised to (beta). sharpness: of the transport (lambda). step: of a centre
    towards its mean (alpha). iterations: of transport and moving.
    """

    power: float = 0.5
    sharpness: float = 10.0
    step: float = 0.2
    iterations: int = 20

    def __post_init__(self) -> None:
        within("pt-map", "step", self.step, 0, 1)
        at_least("pt-map", "iterations", self.iterations, 1)
        at_least("pt-map", "sharpness", self.sharpness, 1e-9)
        at_least("pt-map", "power", self.power, 1e-9)


class PowerTransformMap(Strategy):
    """Class centres by optimal transport of power-transformed features (transductive)."""

    options: Options
    needs = Needs(kinds=EPISODES, transductive=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    base = LinearBase()
    frozen = True
    scores_are_logits = False
    search_space: ClassVar[dict[str, Any]] = {}

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        way, options = int(support_labels.max()) + 1, self.options
        support, query = (_spread(part, options.power) for part in (support, query))
        centres = prototypes_of(support, support_labels, way)
        own = F.one_hot(support_labels, way).to(support)
        samples = torch.cat([support, query], 1)
        for _ in range(options.iterations):
            shares = transported(torch.cdist(query, centres).square(), options.sharpness)
            assigned = torch.cat([own, shares], 1)
            means = assigned.mT @ samples / assigned.sum(1)[..., None]
            centres = centres + options.step * (means - centres)
        return transported(torch.cdist(query, centres).square(), options.sharpness)


def _spread(features: Tensor, power: float) -> Tensor:
    """(E, N, D) -> (E, N, D): raised, of length 1, centred, of length 1."""
    raised = features.sign() * (features.abs() + _SMALL).pow(power)
    raised = torch.where(features == 0, _SMALL**power, raised)
    unit = F.normalize(raised, dim=-1)
    return F.normalize(unit - unit.mean(1, keepdim=True), dim=-1)


def transported(costs: Tensor, sharpness: float) -> Tensor:
    """(E, Q, W) costs -> (E, Q, W): how much of each query goes to each class, 1 of a query and Q / W to a
    class (Cuturi 2013), each episode's until its queries' sums change by a millionth at most.
    """
    queries, way = costs.shape[1:]
    found = (-sharpness * costs).exp()
    found = found / found.sum((1, 2), keepdim=True)
    before = torch.zeros_like(found[:, :, 0])
    for _ in range(_MOST):
        sums = found.sum(2)
        going = ((before - sums).abs().amax(1) > _SMALL)[:, None]
        if not going.any():
            break
        scaled = found / sums[..., None]
        scaled = scaled * (queries / way / scaled.sum(1, keepdim=True))
        found = torch.where(going[..., None], scaled, found)
        before = torch.where(going, sums, before)
    return found
