"""OCM: online learning that keeps mutual information high (Guo et al., ICML 2022).

Each image is turned in sixteen ways, which are classes of their own. Projections of turned images and of a
second view of each lie near those of their class (InfoNCE), and near a part of the features, drawn anew with
every step. From the second experience on the same is asked of exemplars, whose projections stay near those of
the network as it was when the last experience ended, as their logits of earlier classes do; labels are
learned of exemplars alone (in the first experience, of the batch).

As the authors' code of CIFAR-10, equal to it in a test: weights, what is drawn, the old network normalises by
batch too. The second view is a flip, greys (a quarter of them) and a part of 30 to 100 %; theirs turns the
part by a sampling grid of its own. A step passes 32 images for each of the batch, and as many for each
exemplar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import Choice, Range, Searched, at_least
from streamlab.needs import Needs
from streamlab.nets.network import Network, frozen_copy
from streamlab.parts.mutual_information import (
    ProjectingHead,
    info_nce,
    info_nce_of_pairs,
    passed,
    seen_turned,
)
from streamlab.parts.passes import statistics_kept
from streamlab.parts.turning import check_square, turned_labels, turning_views
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{guo2022ocm,
  title = {Online Continual Learning through Mutual Information Maximization},
  author = {Guo, Yiduo and Liu, Bing and Zhao, Dongyan},
  booktitle = {ICML},
  year = {2022},
}
"""


@dataclass(frozen=True)
class Options:
    """replay_size: exemplars of a step, at most `per_class` times the classes seen; projection: its width (at
    most the number of features); temperature: of InfoNCE.
    """

    replay_size: int = 64
    per_class: int = 7
    projection: int = 128
    temperature: float = 0.07

    def __post_init__(self) -> None:
        for name in ("replay_size", "per_class", "projection"):
            at_least("ocm", name, getattr(self, name), 1)
        at_least("ocm", "temperature", self.temperature, 1e-3)


class MutualInformation(Strategy):
    """InfoNCE over turned images, new and replayed, beside cross-entropy."""

    options: Options
    needs = Needs(boundaries=True, learning_backbone=True)
    smooths_labels = True
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "name": "adam", "lr": 0.001, "weight_decay": 1e-4, "options": {"betas": (0.9, 0.99)},
    }  # fmt: skip
    ledger_kinds: ClassVar[dict[str, str]] = {"before": "extra models", "old": "statistics"}
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.0001, 0.01), "temperature": Choice((0.07, 0.1, 0.2)),
    }  # fmt: skip

    def setup(self) -> None:
        setting, size = self.setting, self.net.backbone.feature_size
        check_square("ocm", setting.image_shape)
        self.replace_head(ProjectingHead(size, setting.num_classes, self.options.projection))
        self.buffer = self.make_buffer()
        self.second = turning_views(setting.seed, setting.image_shape[0])
        self.before: Network | None = None
        self.old = torch.zeros(setting.num_classes, dtype=torch.bool, device=setting.device)
        self.known: set[int] = set()  # classes that have come

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.known.update(batch.label_list)
        if self.before is not None and len(self.buffer):
            return self.losses_beside(batch, self.before)
        (new,) = seen_turned(self.net, self.second, batch.images)
        labels = turned_labels(batch.labels, self.setting.num_classes).repeat(2)
        return {
            "information": info_nce_of_pairs(new.similar, labels, self.options.temperature),
            "task": self.cross_entropy(self.net(self.second.of(batch.images)), batch.labels),
        }

    def losses_beside(self, batch: Batch, before: Network) -> dict[str, Tensor]:
        """From the second experience on: exemplars beside the batch, and the network as it was."""
        temperature, classes = self.options.temperature, self.setting.num_classes
        held = self.buffer.draw(min(self.options.replay_size, self.options.per_class * len(self.known)))
        new, replayed = seen_turned(self.net, self.second, batch.images, held.images)
        labels = [turned_labels(part.labels, classes) for part in (batch, held)]
        turned = len(labels[1])  # without their second views
        logits = self.net(self.second.of(held.images))
        with torch.no_grad(), statistics_kept(before):
            was, _ = passed(before, replayed.images[:turned])
            logits_before = before(self.second.of(held.images))
        to_before = F.normalize(replayed.projected[:turned]) @ F.normalize(was).T
        squares = ((logits - logits_before).square() * self.old).sum(1) / self.old.sum().clamp(min=1)
        return {
            "information": info_nce_of_pairs(new.similar / 2, labels[0].repeat(2), temperature),
            "replayed": info_nce(replayed.similar / 2, labels[1].repeat(2), temperature),
            "before": info_nce(to_before, labels[1], temperature),
            "task": self.cross_entropy(logits, held.labels),
            "logits": squares.mean(),
        }

    def remember(self, batch: Batch) -> None:
        self.buffer.add(batch)

    def end_experience(self, view: ExperienceView) -> None:
        self.before = frozen_copy(self.net).train()
        self.old[view.labels] = True

    def bytes_to_come(self, experiences: int = 1) -> int:
        held = sum(tensor.nbytes for tensor in self.net.state_dict().values())
        return held if self.before is None else 0
