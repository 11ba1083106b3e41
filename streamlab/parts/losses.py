"""Losses that several methods are sums of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, among: Tensor | None = None) -> Tensor:
    """Cross-entropy where only some classes compete.

    logits: (B, K); labels: (B,) int64, each among them; among: (K,) bool, None: all. A scalar >= 0.
    """
    if among is not None:
        logits = logits.masked_fill(~among, float("-inf"))
    return F.cross_entropy(logits, labels)


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Divergence between softened outputs, T² times (Hinton et al. 2015; LwF's eq. 2 and 3 less a constant).

    student, teacher: (B, K) logits. Returns a scalar >= 0.
    """
    targets = F.softmax(teacher / temperature, dim=1)
    log_outputs = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_outputs, targets, reduction="batchmean") * temperature**2
