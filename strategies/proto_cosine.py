"""The frozen prototype classifier: cosine to class means (the baseline that TEEN calibrates).

A network is trained in the base session and frozen; every class's row of the cosine classifier is the
mean feature of its samples (ProtoNet's rule in sessions, as in Zhang et al., CVPR 2021, before their
graph). On a backbone that is frozen from the start nothing is trained at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from streamlab.base_training import CosineBase
from streamlab.needs import SESSIONS, Needs
from streamlab.parts.prototypes import class_means, set_rows
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{zhang2021cec,
  title = {Few-Shot Incremental Learning with Continually Evolved Classifiers},
  author = {Zhang, Chi and Song, Nan and Lin, Guosheng and Zheng, Yun and Pan, Pan and Xu, Yinghui},
  booktitle = {CVPR},
  year = {2021},
}
"""


class CosinePrototypes(Strategy):
    """scale · cos(feature, class mean).

    `base` says what the network learns in the base session: cross-entropy under a cosine classifier. Then it
    is `frozen`, and each session, the base session too, only sets its classes' rows to their mean features.
    """

    needs = Needs(kinds=SESSIONS)
    backbone: ClassVar[Mapping[str, Any]] = {"name": "convnet", "blocks": 3}
    base = CosineBase()
    frozen = True

    def observe(self, batch: Batch) -> dict[str, Tensor]:
        return {}  # nothing is learned by gradient

    def end_experience(self, view: ExperienceView) -> None:
        classes, means = class_means(view.embeddings(self), view.labels)
        set_rows(self.net.head, classes, means)
