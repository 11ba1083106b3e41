"""Networks that grow: extractors side by side, all but the newest frozen.

What dynamic networks share (DER, Yan et al., CVPR 2021; MEMO, Zhou et al., ICLR 2023; FOSTER, Wang et
al., ECCV 2022): the features of all extractors are joined, and the classifier's weights for old
features stay as they were.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..nets.network import Backbone
from .losses import cross_entropy


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
        self.precision = backbone.precision
        self.own_size = backbone.feature_size
        self.general: nn.Module = nn.Identity()
        self.newest: nn.Module = backbone
        if shared:
            self.general, self.newest = backbone.split()
        self.earlier = _Earlier()

    @property
    def feature_size(self) -> int:  # type: ignore[override]  # a backbone's is an attribute
        """Features of all extractors."""
        return self.own_size * (1 + len(self.earlier))

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

    def freeze_general(self) -> None:
        """Train the shared layers no more."""
        frozen(self.general)

    @property
    def growth_parameters(self) -> int:
        """Parameters of one extractor more."""
        return sum(parameter.numel() for parameter in self.newest.parameters())

    def growth_bytes(self, num_classes: int) -> int:
        """Bytes of one extractor more, its statistics and the classifier's new columns included."""
        own: int = sum(tensor.nbytes for tensor in self.newest.state_dict().values())
        return own + 4 * num_classes * self.own_size


def frozen(module: nn.Module) -> nn.Module:
    """The module itself, no gradient reaching it from now on."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return module.eval()


def widened(head: nn.Module, features: int) -> nn.Linear:
    """A linear classifier of more features: old weights copied, the new ones drawn anew."""
    assert isinstance(head, nn.Linear)
    wider = nn.Linear(head.in_features + features, head.out_features).to(head.weight.device)
    with torch.no_grad():
        wider.weight[:, : head.in_features] = head.weight
        wider.bias.copy_(head.bias)
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
    """Makes the newest extractor learn what is new: its features alone, old classes taken as one.

    (B, D) features of the newest extractor; Source: DER, eq. 5 and 6.
    """

    def __init__(self, feature_size: int, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(feature_size, num_classes + 1)

    def loss(self, features: Tensor, labels: Tensor, own: Tensor) -> Tensor:
        """labels: (B,) int64; own: (K,) bool, the classes of the experience that is on. A scalar >= 0."""
        old = len(own)
        targets = labels.where(own[labels], torch.full_like(labels, old))
        among = torch.cat([own, torch.ones_like(own[:1])])
        return cross_entropy(self.head(features), targets, among)
