"""Prototypical networks (Snell et al., NeurIPS 2017), with ICNN and proto-triplet losses beside or instead.

A query is classified by its squared distance to each class's mean support feature (eq. 2). `loss` names
what is trained on: cross-entropy on these logits (eq. 2), `proto-triplet`, and `icnn` in four variants
(Mendez-Ruiz et al. 2023, arXiv 2305.09062); several are averaged, as there, unless weights are given.
The losses are equal to the authors' code (tests/vectors/icnn_prototriplet_*).

Differs: group normalisation unless the backbone says otherwise, so that no query's answer depends on the
other queries; learning rate and training way are the user's (the papers: 30-way for 1-shot, 20-way for
5-shot, Adam at 1e-3, halved every 20 epochs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch.nn.functional as F
from torch import Tensor

from streamlab.config import at_least
from streamlab.errors import StreamlabError, unknown
from streamlab.needs import EPISODES, Needs
from streamlab.parts.metric_losses import VARIANTS, Variant, icnn_loss, proto_triplet_loss, prototypes_of
from streamlab.strategy import EpisodeBatch, Strategy

CITATION = """
@inproceedings{snell2017prototypical,
  title = {Prototypical Networks for Few-shot Learning},
  author = {Snell, Jake and Swersky, Kevin and Zemel, Richard},
  booktitle = {NeurIPS},
  year = {2017},
}

@article{mendezruiz2023icnn,
  title = {SuSana Distancia is all you need: Enforcing class separability in metric learning via two
    novel distance-based loss functions for few-shot image classification},
  author = {Mendez-Ruiz, Mauricio and Gonzalez-Zapata, Jorge and Reyes-Amezcua, Ivan and Flores-Araiza,
    Daniel and Lopez-Tiro, Francisco and Mendez-Vazquez, Andres and Ochoa-Ruiz, Gilberto},
  journal = {arXiv:2305.09062},
  year = {2023},
}
"""
LOSSES = ("cross-entropy", "proto-triplet", "icnn", *(f"icnn-{variant}" for variant in VARIANTS))


@dataclass(frozen=True)
class Options:
    """loss: one or several of cross-entropy, proto-triplet and icnn, joined by +; weights: of each, in
    order (empty means their plain mean). icnn: which points' neighbours `icnn` looks at (all, support,
    query-support, query-prototypes); icnn-support and the like name a variant, of which a mix may hold
    several; corrected: count the nearest target where it is not the point itself, which the
    authors' code leaves out. margin: of the proto-triplet. temperature: divides the squared distances.
    """

    loss: str = "cross-entropy"
    weights: tuple[float, ...] = ()
    icnn: str = "all"
    corrected: bool = False
    margin: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in self.losses:
            if name not in LOSSES:
                raise unknown("loss of protonet", name, LOSSES)
        if self.icnn not in VARIANTS:
            raise unknown("icnn variant of protonet", self.icnn, VARIANTS)
        if self.weights and len(self.weights) != len(self.losses):
            raise StreamlabError(f"protonet: {len(self.losses)} losses, and {len(self.weights)} weights")
        at_least("protonet", "margin", self.margin, 0)
        at_least("protonet", "temperature", self.temperature, 1e-9)

    @property
    def losses(self) -> list[str]:
        """The losses' names, in order."""
        return [name.strip() for name in self.loss.split("+")]


class PrototypicalNetwork(Strategy):
    """Nearest mean of the support, in features learned over episodes."""

    options: Options
    needs = Needs(kinds=EPISODES, learning_backbone=True)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.001}

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        support, query = episodes.parted(self.net.features(episodes.images))
        prototypes = prototypes_of(support, episodes.support_labels, episodes.way)
        names, answers = self.options.losses, episodes.query_labels
        weights = self.options.weights or (1 / len(names),) * len(names)
        losses = {}
        for name, weight in zip(names, weights, strict=True):
            if name == "cross-entropy":
                logits = _logits(query, prototypes) / self.options.temperature
                value = F.cross_entropy(logits.flatten(0, 1), answers.flatten())
            elif name == "proto-triplet":
                value = proto_triplet_loss(query, answers, prototypes, self.options.margin)
            else:
                named = name.removeprefix("icnn").removeprefix("-") or self.options.icnn
                _check_neighbours(named, support.shape[1], episodes.way)
                variant, drops = cast(Variant, named), not self.options.corrected
                labels = episodes.support_labels
                value = icnn_loss(support, labels, query, answers, episodes.way, variant, drops)
            losses[name] = weight * value
        return losses

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        way = int(support_labels.max()) + 1
        return _logits(query, prototypes_of(support, support_labels, way)) / self.options.temperature


def _logits(query: Tensor, prototypes: Tensor) -> Tensor:
    """Eq. 2: (E, Q, D), (E, W, D) -> (E, Q, W), negative squared distances, less what a softmax ignores."""
    return 2 * query @ prototypes.mT - prototypes.square().sum(-1).unsqueeze(-2)


def _check_neighbours(variant: str, support: int, way: int) -> None:
    """Refuse episodes too small for the variant."""
    points = {"query-prototypes": way, "all": way + 1}.get(variant, support)
    if points <= 2:
        raise StreamlabError(
            f"icnn={variant} looks for neighbours among {points} points, and needs at least 3; "
            f"give an episode more shots or a higher way"
        )
    if variant == "support" and support == way:
        raise StreamlabError(
            "icnn=support looks for neighbours of the same class, and a support of one shot has none; "
            "set scenario.train_shot=2 or more, or another variant"
        )
