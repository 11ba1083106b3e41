"""Networks that grow: extractors side by side, all but the newest frozen.

What dynamic networks share (DER, Yan et al., CVPR 2021; MEMO, Zhou et al., ICLR 2023; FOSTER, Wang et
al., ECCV 2022): the features of all extractors are joined, and the classifier's weights for old
features stay as they were.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..nets.network import Backbone, Network
from .losses import cross_entropy
from .metric_losses import MetricTerms


class _Earlier(nn.ModuleList):
    """The extractors before the newest: frozen, and counted apart."""

    ledger_kind: ClassVar[str] = "extra models"


class ExpandingBackbone(Backbone):
    """Features of every extractor joined, the oldest first: (B, D · extractors).

    made of a whole backbone, which then is the extractor; with `shared`, only its specialised layers
    grow, upon general layers of which there is one copy (Backbone.split).
    """

    def __init__(self, backbone: Backbone, shared: bool = False) -> None:
        super().__init__()
        self.precision, self.side = backbone.precision, backbone.side
        self.extractor_size = self.feature_size = backbone.feature_size
        self.general: nn.Module = nn.Identity()
        self.newest: nn.Module = backbone
        if shared:
            self.general, self.newest = backbone.split()
        self.earlier = _Earlier()

    def forward(self, images: Tensor) -> Tensor:
        general = self.general(images)
        return torch.cat([*(extractor(general) for extractor in self.earlier), self.newest(general)], 1)

    def train(self, mode: bool = True) -> ExpandingBackbone:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        for part in (self.general, self.earlier):
            part.train(mode and any(parameter.requires_grad for parameter in part.parameters()))
        return self

    def grow(self) -> None:
        """Freeze the newest extractor; a copy of it, which is trained, is the newest then."""
        old, self.newest = self.newest, copy.deepcopy(self.newest)
        self.earlier.append(frozen(old))
        self.feature_size += self.extractor_size

    @property
    def growth_parameters(self) -> int:
        """Parameters of one extractor more."""
        return sum(parameter.numel() for parameter in self.newest.parameters())

    def growth_bytes(self, num_classes: int) -> int:
        """Bytes of one extractor more, its statistics and the classifier's new columns included."""
        extractor: int = sum(tensor.nbytes for tensor in self.newest.state_dict().values())
        return extractor + 4 * num_classes * self.extractor_size


def frozen(module: nn.Module) -> nn.Module:
    """The module itself, no gradient reaching it from now on."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return module.eval()


def widened(head: nn.Module, features: int, old: Tensor) -> nn.Linear:
    """A linear classifier of so many features more, drawn anew but for what old classes know.

    old: (K,) bool, the classes whose rows of old features and biases are copied.
    """
    assert isinstance(head, nn.Linear)
    wider = nn.Linear(head.in_features + features, head.out_features).to(head.weight.device)
    with torch.no_grad():
        wider.weight[old, : head.in_features] = head.weight[old]
        wider.bias[old] = head.bias[old]
    return wider


Alignment = Literal["shrink", "paper", "none"]


@torch.no_grad()
def align_weights(head: nn.Module, old: Tensor, new: Tensor, how: Alignment = "shrink") -> None:
    """Scale the new classes' weights so that their mean length is the old ones' (WA, eq. 8 and 9).

    old, new: (K,) bool. Nothing happens where either has no class. how: "paper" always scales; "shrink"
    (ours) only down, since after short training the new weights are the shorter ones, and stretching them
    turns the bias that the method undoes into its opposite. Source: Zhao et al., CVPR 2020.
    """
    assert isinstance(head, nn.Linear)
    if how != "none" and bool(old.any()) and bool(new.any()):
        lengths = head.weight.norm(dim=1)
        ratio = lengths[old].mean() / lengths[new].mean()
        head.weight[new] *= ratio.clamp(max=1.0) if how == "shrink" else ratio


class Auxiliary(nn.Module):
    """A classifier of the newest extractor alone, that makes it learn what is new: old classes count as one.

    (B, D) features of the newest extractor; Source: DER, eq. 5 and 6.
    """

    ledger_kind: ClassVar[str] = "head"

    def __init__(self, feature_size: int, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(feature_size, num_classes + 1)

    def loss(self, features: Tensor, labels: Tensor, new: Tensor) -> Tensor:
        """labels: (B,) int64; new: (K,) bool, the current experience's classes. A scalar >= 0."""
        old = len(new)
        targets = labels.where(new[labels], torch.full_like(labels, old))
        among = torch.cat([new, torch.ones_like(new[:1])])
        return cross_entropy(self.head(features), targets, among)


class Extractors:
    """What DER and MEMO do alike: an extractor a session, under a classifier that widens with them.

    net: the network whose backbone becomes an `ExpandingBackbone`; shared: only its special layers grow.
    """

    def __init__(self, net: Network, shared: bool = False) -> None:
        self.net = net
        net.backbone = ExpandingBackbone(net.backbone, shared)
        weight = next(net.head.parameters())
        self.old_classes = torch.zeros(net.num_classes, dtype=torch.bool, device=weight.device)
        self.auxiliary = self._new_auxiliary()

    @property
    def backbone(self) -> ExpandingBackbone:
        """The network's backbone."""
        return cast(ExpandingBackbone, self.net.backbone)

    def _new_auxiliary(self) -> Auxiliary:
        device = self.old_classes.device
        return Auxiliary(self.backbone.extractor_size, self.net.num_classes).to(device)

    def begin(self, trains_general: bool = True) -> list[nn.Parameter]:
        """A session begins: from the second on a new extractor, a copy of the newest, and a wider classifier.

        Returns all parameters that learn from now on. trains_general: whether shared layers do.
        """
        if bool(self.old_classes.any()):
            self.backbone.grow()
            if not trains_general:
                frozen(self.backbone.general)
            self.net.head = widened(self.net.head, self.backbone.extractor_size, self.old_classes)
            self.auxiliary = self._new_auxiliary()
        parts = (*self.net.parameters(), *self.auxiliary.parameters())
        return [parameter for parameter in parts if parameter.requires_grad]

    def losses(
        self, batch: Batch, new: Tensor, among: Tensor, weight: float, terms: MetricTerms
    ) -> dict[str, Tensor]:
        """Task loss + weight · auxiliary loss, and metric terms of all features.

        new, among: (K,) bool, the current classes, and all that compete.
        """
        features = self.net.features(batch.images)
        losses = {"task": cross_entropy(self.net.head(features), batch.labels, among)}
        if len(self.backbone.earlier):
            newest = features[:, -self.backbone.extractor_size :]
            losses["auxiliary"] = weight * self.auxiliary.loss(newest, batch.labels, new)
        return losses | terms.of(features, batch.labels)

    def end(self, exposed: Tensor, alignment: Alignment) -> None:
        """A session ends: the new classes' weights are aligned. exposed: (K,) bool, all classes so far."""
        align_weights(self.net.head, self.old_classes, exposed & ~self.old_classes, alignment)
        self.old_classes = exposed.clone()

    def to_come(self, experiences: int) -> int:
        """Extractors that so many coming experiences bring; the first is there already."""
        return experiences if bool(self.old_classes.any()) else experiences - 1
