"""Losses that several methods are sums of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(
    logits: Tensor, labels: Tensor, among: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy where only some classes compete.

    logits: (B, K); labels: (B,) int64, each among them; among: (K,) bool, None means all. smoothing: the
    share of a target that is spread over all that compete (Szegedy et al. 2016, section 7). A scalar >= 0.
    """
    if among is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    logits = logits.masked_fill(~among, float("-inf"))
    if not smoothing:
        return F.cross_entropy(logits, labels)
    of_each = -F.log_softmax(logits, 1).masked_fill(~among, 0)
    of_labels = of_each.gather(1, labels[:, None]).mean()
    return (1 - smoothing) * of_labels + smoothing * (of_each.sum(1) / among.sum()).mean()


def distillation(student: Tensor, teacher: Tensor, temperature: float, among: Tensor | None = None) -> Tensor:
    """Divergence of the student's softened outputs from the teacher's, averaged over the batch.

    student, teacher: (B, K) logits; among: (K,) bool, the outputs that are compared (None: all), left out
    by masks, for which a GPU need not wait. Returns a scalar >= 0: the cross-entropy of softmax(teacher / T)
    against softmax(student / T), less the teacher's entropy, which has no gradient. It carries no factor
    T² (Hinton et al. 2015 advise one): LwF's eq. 2 and 3, PyCIL's and the class-incremental survey's code
    have none, so that their weights carry over.
    """
    if among is not None:
        student, teacher = (logits.masked_fill(~among, float("-inf")) for logits in (student, teacher))
    targets = F.softmax(teacher / temperature, dim=1)
    log_outputs = F.log_softmax(student / temperature, dim=1)
    if among is not None:
        log_outputs = log_outputs.masked_fill(~among, 0)
    return F.kl_div(log_outputs, targets, reduction="batchmean")
