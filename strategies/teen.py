"""TEEN: training-free calibration of prototypes (Wang et al., NeurIPS 2023, arXiv 2312.05229).

A network is trained in the base session and frozen. A class's row of the cosine classifier is the mean
feature of its samples; a novel class's, from a few shots, is moved towards the base classes that it is
near to. Equal to the authors' code (tests/vectors/teen_*). On a backbone that is frozen from the start
(glyph-vit, timm's) nothing is trained at all.

Differs: the base epoch is chosen on held-out base images, not on the test set, and session 0 is judged
by prototypes like every other (`base.paper_compat` chooses on the test set, and the result says so).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.base_training import CosineBase
from streamlab.config import at_least, within
from streamlab.needs import SESSIONS, Needs
from streamlab.parts.prototypes import class_means, set_rows
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{wang2023teen,
  title = {Few-shot Class-Incremental Learning via Training-Free Prototype Calibration},
  author = {Wang, Qi-Wei and Zhou, Da-Wei and Zhang, Yi-Kai and Zhan, De-Chuan and Ye, Han-Jia},
  booktitle = {NeurIPS},
  year = {2023},
}
"""


def calibrate_prototypes(new: Tensor, base: Tensor, softmax_t: float, shift_weight: float) -> Tensor:
    """(N, D) novel prototypes moved towards the base ones (B, D) that they are near to; (N, D).

    Eq. 5 and 6, row by row normalised: w = softmax(softmax_t · p bᵀ), then
    (1 - shift_weight) · p + shift_weight · (w b) / |w b|, which is not normalised again.
    """
    p, b = F.normalize(new, dim=1), F.normalize(base, dim=1)
    w = (softmax_t * p @ b.T).softmax(1)
    return (1 - shift_weight) * p + shift_weight * F.normalize(w @ b, dim=1)


@dataclass(frozen=True)
class Options:
    """softmax_t: how sharply near base classes are preferred; shift: how far prototypes move (0: not)."""

    softmax_t: float = 16.0
    shift: float = 0.1

    def __post_init__(self) -> None:
        at_least("teen", "softmax_t", self.softmax_t, 0)
        within("teen", "shift", self.shift, 0, 1)


class PrototypeCalibration(Strategy):
    """Cosine to class prototypes; those of the base session's classes stay raw means."""

    options: Options
    needs = Needs(kinds=SESSIONS)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet", "blocks": 3}
    base = CosineBase()
    frozen = True
    ledger_kinds: ClassVar[dict[str, str]] = {"base_classes": "statistics"}

    def setup(self) -> None:
        self.base_classes = torch.zeros(0, dtype=torch.int64, device=self.setting.device)

    def observe(self, batch: Batch) -> dict[str, Tensor]:
        return {}  # nothing is learned by gradient

    @torch.no_grad()
    def end_experience(self, view: ExperienceView) -> None:
        classes, means = class_means(view.embeddings(self), view.labels)
        if view.number == 0:
            self.base_classes = classes
        else:
            base = cast(Tensor, self.net.head.weight)[self.base_classes]
            means = calibrate_prototypes(means, base, self.options.softmax_t, self.options.shift)
        set_rows(self.net.head, classes, means)
