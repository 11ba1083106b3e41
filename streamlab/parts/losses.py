"""Losses that several methods are sums of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, among: Tensor | None = None) -> Tensor:
    """Cross-entropy where only some classes compete.

    logits: (B, K); labels: (B,) int64, each among them; among: (K,) bool, None means all. A scalar >= 0.
    """
    if among is not None:
        logits = logits.masked_fill(~among, float("-inf"))
    return F.cross_entropy(logits, labels)


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Divergence of the student's softened outputs from the teacher's, averaged over the batch.

    student, teacher: (B, K) logits. Returns a scalar >= 0: the cross-entropy of softmax(teacher / T)
    against softmax(student / T), less the teacher's entropy, which has no gradient. It carries no factor
    T² (Hinton et al. 2015 advise one): LwF's eq. 2 and 3, PyCIL's and the class-incremental survey's code
    have none, so that their weights carry over.
    """
    targets = F.softmax(teacher / temperature, dim=1)
    log_outputs = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_outputs, targets, reduction="batchmean")
