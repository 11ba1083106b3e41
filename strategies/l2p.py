"""L2P: learning to prompt (Wang et al., CVPR 2022, arXiv 2112.08654).

A frozen transformer and a pool of prompts: an image's query (its class token without prompts) picks
the nearest keys, their prompts go through all blocks beside the image's tokens, with the class token's
position, and the head acts on the mean of what becomes of them.

Four codes carry this name, and their figures differ; `preset` follows one of them, and each option may
be set beside it:

- si-blurry (where boundaries are hidden, the default: its paper's rows): keys never move (its pull term
  reads what is never written), every image picks its own prompts, all classes seen compete;
- l2p-pytorch (where they are shown, the default: the port that most comparisons run): pull 0.1, a batch
  takes its most frequent prompts, gradients clipped to length 1, the current classes alone compete while
  learning, the optimizer begins anew with each experience;
- google (the authors'): as that, with prompts of length 10, 4 an image, pull 1, drawn from 0 to 0.01;
- pilot (LAMDA-PILOT): as l2p-pytorch, without clipping.

Differs: a batch's most frequent prompts are shared while learning alone (the codes do it in testing too,
where test batches are of one task: `batchwise = always`); no penalty on frequent prompts, which has no
effect in any of the codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.nets.transformer import as_transformer, begin_as_timm, cosine_distances
from streamlab.parts.counting import occurrences
from streamlab.parts.current_batch import CurrentBatch
from streamlab.parts.presets import settled
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{wang2022l2p,
  title = {Learning to Prompt for Continual Learning},
  author = {Wang, Zifeng and Zhang, Zizhao and Lee, Chen-Yu and Zhang, Han and Sun, Ruoxi
            and Ren, Xiaoqi and Su, Guolong and Perot, Vincent and Dy, Jennifer and Pfister, Tomas},
  booktitle = {CVPR},
  year = {2022},
}
"""
Batchwise = Literal["never", "learning", "always"]


@dataclass(frozen=True)
class Details:
    """What a preset settles: see `Options`."""

    pool_size: int
    selection: int
    length: int
    pull: float
    batchwise: Batchwise
    class_mask: bool
    clip: float
    begins_anew: bool
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("pool_size", "selection", "length"):
            at_least("l2p", name, getattr(self, name), 1)
        for name in ("pull", "clip"):
            at_least("l2p", name, getattr(self, name), 0)
        if self.pool_size < self.selection:
            raise StreamlabError(
                f"l2p: pool_size is {self.pool_size}, and each image takes {self.selection} prompts of it"
            )


_PORT: dict[str, Any] = {
    "pool_size": 10, "selection": 5, "length": 5, "pull": 0.1, "batchwise": "learning", "class_mask": True,
    "clip": 1.0, "begins_anew": True, "low": -1.0, "high": 1.0,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "si-blurry": {
        **_PORT, "pull": 0.0, "batchwise": "never", "class_mask": False, "clip": 0.0, "begins_anew": False,
    },
    "l2p-pytorch": _PORT,
    "google": {**_PORT, "selection": 4, "length": 10, "pull": 1.0, "low": 0.0, "high": 0.01},
    "pilot": {**_PORT, "clip": 0.0},
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """preset: whose code is followed (auto: by whether boundaries are shown; see above). What is not given
    is the preset's: pool_size: prompts; selection: how many an image takes; length: rows of one; pull: weight
    of the keys' loss (lambda of eq. 5); batchwise: when a batch shares its most frequent prompts; class_mask:
    current classes alone compete while learning; clip: the longest gradient (0: any); begins_anew: the
    optimizer, with each experience; low, high: what prompts and keys are drawn between. replay_size:
    exemplars replayed beside each batch, drawn anew for each update (0: none).
    """

    preset: Literal["auto", "si-blurry", "l2p-pytorch", "google", "pilot"] = "auto"
    pool_size: int | None = None
    selection: int | None = None
    length: int | None = None
    pull: float | None = None
    batchwise: Batchwise | None = None
    class_mask: bool | None = None
    clip: float | None = None
    begins_anew: bool | None = None
    low: float | None = None
    high: float | None = None
    replay_size: int = 0

    def __post_init__(self) -> None:
        at_least("l2p", "replay_size", self.replay_size, 0)
        for shows in (False, True):
            details_of(self, shows)  # refused here, not later


@cache
def details_of(options: Options, shows_boundaries: bool) -> Details:
    """All details, where boundaries are shown or hidden."""
    by_stream = "l2p-pytorch" if shows_boundaries else "si-blurry"
    return settled(Details, PRESETS[by_stream if options.preset == "auto" else options.preset], options)


def most_frequent(taken: Tensor, pool_size: int) -> Tensor:
    """(B, n) prompts of each image -> (B, n): those n that most images of the batch take, for all of them."""
    counts = occurrences(taken.flatten(), pool_size)
    return counts.sort(descending=True, stable=True).indices[: taken.shape[1]].expand_as(taken)


class LearningToPrompt(Strategy):
    """Eq. 5: task loss + pull · (mean over images of the distances to the keys that they took)."""

    options: Options
    smooths_labels = True
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.005}
    frozen = True
    ledger_kinds: ClassVar[dict[str, str]] = {"prompts": "prompts", "keys": "keys"}

    @property
    def details(self) -> Details:
        """What the preset and the options settle for this stream."""
        return details_of(self.options, self.setting.shows_boundaries)

    def setup(self) -> None:
        details = self.details
        size, device = self.net.backbone.feature_size, self.setting.device
        self.transformer = as_transformer("l2p", self.net.backbone)
        rows = torch.empty(details.pool_size, details.length, size, device=device)
        keys = torch.empty(details.pool_size, size, device=device)
        self.prompts = nn.Parameter(rows.uniform_(details.low, details.high))
        self.keys = nn.Parameter(keys.uniform_(details.low, details.high))
        begin_as_timm(self.net.head)
        self.learned = [self.prompts, self.keys, *self.net.head.parameters()]
        self.optimizer = self.make_optimizer(self.learned)
        self.buffer = self.make_buffer("reservoir") if self.options.replay_size else None
        self.current = CurrentBatch()

    def begin_experience(self, view: ExperienceView) -> None:
        if self.details.begins_anew:
            self.optimizer = self.make_optimizer(self.learned)

    def embed(self, images: Tensor) -> Tensor:
        """The query q(x): the class token without prompts, after the final norm."""
        return self.features_of(images)

    def prompted(self, images: Tensor, query: Tensor, batchwise: bool) -> tuple[Tensor, Tensor]:
        """(B, K) logits, and (B, selection) distances to the keys taken (eq. 3), by query (B, D)."""
        distances = cosine_distances(query, self.keys)
        taken = distances.topk(self.details.selection, dim=1, largest=False).indices
        if batchwise:
            taken = most_frequent(taken, self.details.pool_size)
        rows = self.prompts[taken] + self.transformer.class_position  # (B, selection, length, D)
        tokens = self.transformer.through(self.net.scaled(images), rows.flatten(1, 2))
        return self.net.head(tokens.mean(1)), distances.gather(1, taken)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        combined, query = self.current.with_replay(batch, self.buffer, self.options.replay_size, self.embed)
        logits, near = self.prompted(combined.images, query, self.details.batchwise != "never")
        masked = self.details.class_mask and self.setting.shows_boundaries and self.buffer is None
        among = self.current_classes if masked else self.exposed
        task = self.cross_entropy(logits, combined.labels, among)
        return {"task": task, "pull": self.details.pull * near.sum(1).mean()}

    def apply_gradients(self) -> None:
        if self.details.clip:
            nn.utils.clip_grad_norm_(self.learned, self.details.clip)
        super().apply_gradients()

    def remember(self, batch: Batch) -> None:
        self.current.end()
        if self.buffer is not None:
            self.buffer.add(batch)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return self.prompted(images, embedding, self.details.batchwise == "always")[0]
