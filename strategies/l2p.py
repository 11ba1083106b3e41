"""L2P: learning to prompt (Wang et al., CVPR 2022, arXiv 2112.08654).

A frozen transformer and a pool of prompts: an image's query (its class token without prompts) picks
the nearest keys, their prompts go through all blocks beside the image's tokens, and the head acts on
the mean of what becomes of them.

Differs: every image picks its own prompts (the authors' code gives a whole batch its most frequent
ones, so that a prediction depends on its neighbours); no penalty on frequent prompts, which the
paper uses only where tasks are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.nets.transformer import as_transformer, cosine_distances
from streamlab.parts.losses import cross_entropy
from streamlab.parts.serving import Serving
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{wang2022l2p,
  title = {Learning to Prompt for Continual Learning},
  author = {Wang, Zifeng and Zhang, Zizhao and Lee, Chen-Yu and Zhang, Han and Sun, Ruoxi
            and Ren, Xiaoqi and Su, Guolong and Perot, Vincent and Dy, Jennifer and Pfister, Tomas},
  booktitle = {CVPR},
  year = {2022},
}
"""


@dataclass(frozen=True)
class Options:
    """pool_size: prompts; selection: how many an image takes; length: rows of one; pull: weight of the
    keys' loss (lambda of eq. 5). replay_size: exemplars replayed beside each batch (0: none).
    """

    pool_size: int = 10
    selection: int = 5
    length: int = 5
    pull: float = 0.5
    replay_size: int = 0

    def __post_init__(self) -> None:
        for name in ("pool_size", "selection", "length"):
            at_least("l2p", name, getattr(self, name), 1)
        for name in ("pull", "replay_size"):
            at_least("l2p", name, getattr(self, name), 0)
        if self.pool_size < self.selection:
            raise StreamlabError(
                f"l2p: pool_size is {self.pool_size}, and each image takes {self.selection} prompts of it"
            )


class LearningToPrompt(Strategy):
    """Eq. 5: task loss + pull · (mean over images of the distances to the keys that they took)."""

    options: Options
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.005}
    frozen = "query"
    ledger_kinds: ClassVar[dict[str, str]] = {"prompts": "prompts", "keys": "keys"}

    def setup(self) -> None:
        chosen, device = self.options, self.setting.device
        size = self.net.backbone.feature_size
        self.transformer = as_transformer("l2p", self.net.backbone)
        rows = torch.empty(chosen.pool_size, chosen.length, size, device=device)
        self.prompts = nn.Parameter(rows.uniform_(-1, 1) * size**-0.5)
        self.keys = nn.Parameter(torch.empty(chosen.pool_size, size, device=device).uniform_(-1, 1))
        self.optimizer = self.make_optimizer([self.prompts, self.keys, *self.net.head.parameters()])
        self.buffer = self.make_buffer("reservoir") if self.options.replay_size else None
        self.serving = Serving()

    def query(self, images: Tensor) -> Tensor:
        return self.features_of(images)

    def forward(self, images: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) logits, and (B, selection) distances to the keys taken (eq. 3)."""
        near, taken = cosine_distances(query, self.keys).topk(self.options.selection, dim=1, largest=False)
        rows = self.prompts[taken].flatten(1, 2)  # (B, selection · length, D)
        return self.net.head(self.transformer.through(self.net.scaled(images), rows).mean(1)), near

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        both, query = self.serving.of(batch, self.buffer, self.options.replay_size, self.query)
        logits, near = self.forward(both.images, query)
        task = cross_entropy(logits, both.labels, self.exposed)
        return {"task": task, "pull": self.options.pull * near.sum(1).mean()}

    def remember(self, batch: Batch) -> None:
        self.serving.end()
        if self.buffer is not None:
            self.buffer.add(batch)

    def predict_given(self, images: Tensor, given: Tensor) -> Tensor:
        return self.forward(images, given)[0]
