"""A pretrained backbone that is adapted in the first session and frozen from then on, as APER and RanPAC do.

It is trained as the stream says (`first.epochs`, the optimizer's section), under a cosine classifier with a
learned scale, among the session's classes.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from ..batch import Batch
from ..nets.adapters import AdapterKind, Adapting, adapt
from ..nets.network import CosineHead, Network


class Learns(Protocol):
    """What is adapted: a strategy."""

    net: Network
    current_classes: Tensor

    def replace_head(self, head: nn.Module) -> None: ...

    def cross_entropy(self, logits: Tensor, labels: Tensor, among: Tensor | None = None) -> Tensor: ...


class FirstSession:
    """Adapts a strategy's network while it is `under_way`; made in its `setup`."""

    def __init__(self, strategy: Learns, where: str, kind: AdapterKind, options: Adapting) -> None:
        net = strategy.net
        self.adaptation = adapt(where, net.backbone, kind, options)
        strategy.replace_head(CosineHead(net.backbone.feature_size, net.num_classes, 1.0, learned=True))
        self.under_way = True

    def losses(self, strategy: Learns, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy among the session's classes."""
        logits = strategy.net(batch.images)
        return {"task": strategy.cross_entropy(logits, batch.labels, strategy.current_classes)}

    def end(self, strategy: Learns) -> None:
        """Nothing learns from here on."""
        self.under_way = False
        strategy.net.requires_grad_(False)
        strategy.replace_head(nn.Identity())

    def before(self, strategy: Learns, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, D) features of the network as it was before."""
        return self.adaptation.without(strategy.net.backbone, strategy.net.scaled(images))
