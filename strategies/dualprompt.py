"""DualPrompt: complementary prompting (Wang et al., ECCV 2022, arXiv 2204.04799).

A frozen transformer with two kinds of prompts: general ones G, shared by all, in the first blocks, and
expert ones E, chosen by the image's query, in those that follow. An image learns with its task's expert
where the method knows the task, or with that of the nearest key; at prediction it is always the nearest
key's. Three codes carry this name; `preset` follows one of them, and each option may be set beside it:

- si-blurry (where boundaries are hidden, the default: its paper's rows): the nearest key's expert while
  learning too, 20 rows an expert, appended to a block's tokens with the class token's position (its script;
  `projected-prefix` are its prefixes, which go through the block's own projection), all classes seen compete;
- dualprompt-pytorch (where they are shown, the default): the task's expert, which begins as the task's
  before, prefixes of 5 rows that are keys and values themselves, gradients clipped to length 1, the
  current classes alone compete while learning, the optimizer begins anew with each experience;
- google (the authors', for ImageNet-R): as that, with experts of 20 rows.

Differs: the port reshapes a batch's prefixes without a transposition, which mixes samples, and keys with
values, and in testing gives a whole batch its most frequent expert; neither is repeated (the tests put the
reshape in, and then all numbers are equal).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.needs import Needs
from streamlab.nets.transformer import (
    Prompting,
    PromptRows,
    as_transformer,
    begin_as_timm,
    cosine_distances,
)
from streamlab.parts.current_batch import CurrentBatch
from streamlab.parts.presets import settled
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
Selection = Literal["query", "task"]


@dataclass(frozen=True)
class Details:
    """What a preset settles: see `Options`."""

    pool_size: int
    length_g: int
    length_e: int
    prompting: Prompting
    pull: float
    selection: Selection
    class_mask: bool
    clip: float
    begins_anew: bool
    starts_as_before: bool

    def __post_init__(self) -> None:
        for name in ("pool_size", "length_g", "length_e"):
            at_least("dualprompt", name, getattr(self, name), 1)
        for name in ("pull", "clip"):
            at_least("dualprompt", name, getattr(self, name), 0)


_PORT: dict[str, Any] = {
    "pool_size": 10, "length_g": 5, "length_e": 5, "prompting": "prefix", "pull": 1.0, "selection": "task",
    "class_mask": True, "clip": 1.0, "begins_anew": True, "starts_as_before": True,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "si-blurry": {
        **_PORT, "length_e": 20, "prompting": "append", "selection": "query", "class_mask": False,
        "clip": 0.0, "begins_anew": False, "starts_as_before": False,
    },
    "dualprompt-pytorch": _PORT,
    "google": {**_PORT, "length_e": 20},
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """preset: whose code is followed (auto: by whether boundaries are shown; see above); positions_g,
    positions_e: blocks of the prompts. What is not given is the preset's: pool_size: expert prompts;
    length_g, length_e: rows of a prompt; prompting: appended to tokens, or prefixes to keys and values; pull:
    weight of the keys' loss; selection: whose expert an image learns with, its task's or the nearest key's;
    class_mask: current classes alone compete while learning; clip: the longest gradient (0: any);
    begins_anew: the optimizer, with each experience; starts_as_before: a task's expert, as the task's
    before. replay_size: exemplars replayed beside each batch, drawn anew for each update (0: none).
    """

    preset: Literal["auto", "si-blurry", "dualprompt-pytorch", "google"] = "auto"
    positions_g: tuple[int, ...] = (0, 1)
    positions_e: tuple[int, ...] = (2, 3, 4)
    pool_size: int | None = None
    length_g: int | None = None
    length_e: int | None = None
    prompting: Prompting | None = None
    pull: float | None = None
    selection: Selection | None = None
    class_mask: bool | None = None
    clip: float | None = None
    begins_anew: bool | None = None
    starts_as_before: bool | None = None
    replay_size: int = 0

    def __post_init__(self) -> None:
        at_least("dualprompt", "replay_size", self.replay_size, 0)
        for shows in (False, True):
            if details_of(self, shows).selection == "task" and self.replay_size:
                raise StreamlabError(
                    "dualprompt: an image learns with its task's expert, so that nothing can be replayed; "
                    "set selection=query or replay_size=0"
                )

    @property
    def needs_boundaries(self) -> bool:
        return details_of(self, False).selection == "task"


@cache
def details_of(options: Options, shows_boundaries: bool) -> Details:
    """All details, where boundaries are shown or hidden."""
    by_stream = "dualprompt-pytorch" if shows_boundaries and not options.replay_size else "si-blurry"
    return settled(Details, PRESETS[by_stream if options.preset == "auto" else options.preset], options)


class DualPrompt(Strategy):
    """Eq. 6: task loss + pull · (mean distance of queries to the keys of their experts)."""

    options: Options
    smooths_labels = True
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.005}
    frozen = True
    ledger_kinds: ClassVar[dict[str, str]] = {"general": "prompts", "expert": "prompts", "keys": "keys"}

    @property
    def details(self) -> Details:
        """What the preset and the options settle for this stream."""
        return details_of(self.options, self.setting.shows_boundaries)

    @classmethod
    def needs_with(cls, options: Options) -> Needs:
        return dataclasses.replace(cls.needs, boundaries=options.needs_boundaries)

    def setup(self) -> None:
        details = self.details
        size, device, options = self.net.backbone.feature_size, self.setting.device, self.options
        self.transformer = as_transformer("dualprompt", self.net.backbone)
        self.transformer.check_positions("dualprompt", options.positions_g + options.positions_e)
        general = PromptRows(1, options.positions_g, details.length_g, size, details.prompting)
        expert = PromptRows(details.pool_size, options.positions_e, details.length_e, size, details.prompting)
        self.general, self.expert = general.to(device), expert.to(device)
        self.keys = nn.Parameter(torch.empty(details.pool_size, size, device=device).uniform_(-1, 1))
        begin_as_timm(self.net.head)
        self.learned = [self.general.rows, self.expert.rows, self.keys, *self.net.head.parameters()]
        self.optimizer = self.make_optimizer(self.learned)
        self.buffer = self.make_buffer("reservoir") if options.replay_size else None
        self.current = CurrentBatch()
        self.task = 0

    def begin_experience(self, view: ExperienceView) -> None:
        self.task = view.number
        if self.details.selection == "task":
            if self.task >= self.details.pool_size:
                raise StreamlabError(
                    f"it has {self.details.pool_size} expert prompts, and this is task {self.task + 1}; "
                    f"raise pool_size"
                )
            if self.details.starts_as_before and self.task:
                with torch.no_grad():
                    self.expert.rows[self.task] = self.expert.rows[self.task - 1]
        if self.details.begins_anew:
            self.optimizer = self.make_optimizer(self.learned)

    def embed(self, images: Tensor) -> Tensor:
        """The query q(x): the class token without prompts, after the final norm."""
        return self.features_of(images)

    def logits(self, images: Tensor, experts: Tensor) -> Tensor:
        """(B, K), with the prompts of these experts (B,)."""
        position = self.transformer.class_position
        general = self.general.at(torch.zeros_like(experts), position)
        features = self.transformer(self.net.scaled(images), {**general, **self.expert.at(experts, position)})
        logits: Tensor = self.net.head(features)
        return logits

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined, query = self.current.with_replay(batch, self.buffer, self.options.replay_size, self.embed)
        distances = cosine_distances(query, self.keys)
        experts = distances.detach().argmin(1)
        if self.details.selection == "task":
            experts = torch.full_like(experts, self.task)
        masked = self.details.class_mask and self.setting.shows_boundaries and self.buffer is None
        among = self.current_classes if masked else self.exposed
        task = self.cross_entropy(self.logits(combined.images, experts), combined.labels, among)
        return {"task": task, "pull": self.details.pull * distances.gather(1, experts[:, None]).mean()}

    def apply_gradients(self) -> None:
        if self.details.clip:
            nn.utils.clip_grad_norm_(self.learned, self.details.clip)
        super().apply_gradients()

    def remember(self, batch: Batch) -> None:
        self.current.end()
        if self.buffer is not None:
            self.buffer.add(batch)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return self.logits(images, cosine_distances(embedding, self.keys).argmin(1))
