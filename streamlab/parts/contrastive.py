"""Contrastive losses on a batch and what is replayed beside it, and the second view that they need."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..augmentation.operations import Flip, Grey, Jitter, ResizedCrop
from ..augmentation.protocol import Operation
from ..augmentation.views import Views


def second_views(seed: int, channels: int) -> Views:
    """SCR's and PCR's views: a part of 20 to 100 %, a flip, changed colours (chance 0.8), greys (0.2).

    Of images that have no colours (channels is not 3), brightness and contrast alone.
    """
    plain: tuple[Operation, ...] = (ResizedCrop(scale=(0.2, 1.0)), Flip())
    if channels != 3:
        return Views((*plain, Jitter(0.4, 0.4, chance=0.8)), seed, "second", "view")
    return Views((*plain, Jitter(0.4, 0.4, 0.4, 0.1, chance=0.8), Grey(0.2)), seed, "second", "view")


def supervised_contrastive_loss(views: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Each view is near to those of its class: views (n, V, D) of length 1, labels (n,); a scalar >= 0.

    -log of a view's share among all others, the mean over those of its class, and over all views. Source:
    Khosla et al., NeurIPS 2020, eq. 2 (L_out), over both views.
    """
    points, classes = views.transpose(0, 1).flatten(0, 1), labels.repeat(views.shape[1])
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    logits = (points @ points.T / temperature).masked_fill(itself, float("-inf"))
    shares = F.log_softmax(logits, 1).masked_fill(itself, 0)
    alike = (classes[:, None] == classes) & ~itself
    return -((shares * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()


def proxy_contrastive_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Each sample is near to its class's proxy, among the proxies of the samples of its batch; a scalar >= 0.

    logits: (n, K) cosines to the proxies over the temperature; labels: (n,). A class counts as often as the
    batch has it, and one that it has not does not compete. Source: Lin et al., CVPR 2023, eq. 7.
    """
    counts = (labels[:, None] == torch.arange(logits.shape[1], device=labels.device)).sum(0)
    rivals = (logits + counts.to(logits.dtype).log()).logsumexp(1)
    return (rivals - logits.gather(1, labels[:, None])[:, 0]).mean()
