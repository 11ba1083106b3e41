"""DualPrompt: complementary prompting (Wang et al., ECCV 2022, arXiv 2204.04799).

A frozen transformer with two kinds of prefix prompts: general ones, shared by all, in the first
blocks, and expert ones, chosen by the image's query, in those that follow.

`selection` decides whose expert an image learns with: its task's (task: the paper, where boundaries
are shown), or the nearest key's (query: as in the Si-Blurry paper's comparison, where there are no
tasks to know). At prediction it is always the nearest key's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.nets.transformer import PromptRows, as_transformer, cosine_distances
from streamlab.parts.losses import cross_entropy
from streamlab.parts.serving import Serving
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{wang2022dualprompt,
  title = {{DualPrompt}: Complementary Prompting for Rehearsal-free Continual Learning},
  author = {Wang, Zifeng and Zhang, Zizhao and Ebrahimi, Sayna and Sun, Ruoxi and Zhang, Han
            and Lee, Chen-Yu and Ren, Xiaoqi and Su, Guolong and Perot, Vincent and Dy, Jennifer
            and Pfister, Tomas},
  booktitle = {ECCV},
  year = {2022},
}
"""


@dataclass(frozen=True)
class Options:
    """pool_size: expert prompts; length_g, length_e: rows of a prompt; positions_g, positions_e: blocks;
    prompting: prefixes to keys and values, or rows appended to tokens; pull: weight of the keys'
    loss. selection: see above. replay_size: exemplars replayed beside each batch (0: none).
    """

    pool_size: int = 10
    length_g: int = 5
    length_e: int = 20
    positions_g: tuple[int, ...] = (0, 1)
    positions_e: tuple[int, ...] = (2, 3, 4)
    prompting: Literal["prefix", "append"] = "prefix"
    pull: float = 1.0
    selection: Literal["query", "task"] = "query"
    replay_size: int = 0

    def __post_init__(self) -> None:
        for name in ("pool_size", "length_g", "length_e"):
            at_least("dualprompt", name, getattr(self, name), 1)
        for name in ("pull", "replay_size"):
            at_least("dualprompt", name, getattr(self, name), 0)
        if self.selection == "task" and self.replay_size:
            raise StreamlabError("dualprompt: with selection=task nothing is replayed; set replay_size=0")

    @property
    def needs_boundaries(self) -> bool:
        return self.selection == "task"


class DualPrompt(Strategy):
    """Eq. 6: task loss + pull · (mean distance of queries to the keys of their experts)."""

    options: Options
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.005}
    frozen = "query"
    ledger_kinds: ClassVar[dict[str, str]] = {"general": "prompts", "expert": "prompts", "keys": "keys"}

    def setup(self) -> None:
        chosen, device = self.options, self.setting.device
        size, prefix = self.net.backbone.feature_size, chosen.prompting == "prefix"
        self.transformer = as_transformer("dualprompt", self.net.backbone)
        self.transformer.check_positions("dualprompt", chosen.positions_g + chosen.positions_e)
        general = PromptRows(1, chosen.positions_g, chosen.length_g, size, prefix)
        expert = PromptRows(chosen.pool_size, chosen.positions_e, chosen.length_e, size, prefix)
        self.general, self.expert = general.to(device), expert.to(device)
        self.keys = nn.Parameter(torch.empty(chosen.pool_size, size, device=device).uniform_(-1, 1))
        learned = [self.general.rows, self.expert.rows, self.keys, *self.net.head.parameters()]
        self.optimizer = self.make_optimizer(learned)
        self.buffer = self.make_buffer("reservoir") if self.options.replay_size else None
        self.serving = Serving()
        self.task = 0

    def begin_experience(self, view: ExperienceView) -> None:
        self.task = view.number
        if self.options.selection == "task" and self.task >= self.options.pool_size:
            raise StreamlabError(
                f"it has {self.options.pool_size} expert prompts, and this is task {self.task + 1}; "
                f"raise pool_size"
            )

    def query(self, images: Tensor) -> Tensor:
        return self.features_of(images)

    def logits(self, images: Tensor, experts: Tensor) -> Tensor:
        """(B, K), with the prompts of these experts (B,)."""
        prompts = {**self.general.at(torch.zeros_like(experts)), **self.expert.at(experts)}
        logits: Tensor = self.net.head(self.transformer(self.net.scaled(images), prompts))
        return logits

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        both, query = self.serving.of(batch, self.buffer, self.options.replay_size, self.query)
        distance = cosine_distances(query, self.keys)
        experts = distance.detach().argmin(1)
        if self.options.selection == "task":
            experts = torch.full_like(experts, self.task)
        task = cross_entropy(self.logits(both.images, experts), both.labels, self.exposed)
        return {"task": task, "pull": self.options.pull * distance.gather(1, experts[:, None]).mean()}

    def remember(self, batch: Batch) -> None:
        self.serving.end()
        if self.buffer is not None:
            self.buffer.add(batch)

    def predict_given(self, images: Tensor, given: Tensor) -> Tensor:
        return self.logits(images, cosine_distances(given, self.keys).argmin(1))
