"""InfLoRA: interference-free low-rank adaptation (Liang and Li, CVPR 2024, arXiv 2404.00228).

A frozen transformer whose keys and values have low-rank terms, one a session. The map down of a session is
not learned: it is the main directions of the inputs that the session's images give, without those in which
earlier sessions' inputs lie (eq. 8), so that learning the map up does not disturb them. The space of old
inputs is kept, or what is left beside it where that is the smaller (DualGPM). A classifier a session; when
one learns, its classes alone compete.

Differs: where the first session's inputs fill more than half of a block's space, the space beside them is
kept (the authors' code stops there, by an assertion).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from streamlab.config import at_least, within
from streamlab.errors import StreamlabError
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.adapters import LowRank
from streamlab.nets.transformer import as_transformer
from streamlab.parts.heads import rows_kept
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{liang2024inflora,
  title = {{InfLoRA}: Interference-Free Low-Rank Adaptation for Continual Learning},
  author = {Liang, Yan-Shuo and Li, Wu-Jun},
  booktitle = {CVPR},
  year = {2024},
}
"""


@dataclass(frozen=True)
class Options:
    """rank: of a session's terms; tasks: sessions that are to come in all; least, most: the share of what
    the inputs span that is kept of the first session, and of the last (epsilon, which rises by session).
    """

    rank: int = 10
    tasks: int = 10
    least: float = 0.95
    most: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rank", "tasks"):
            at_least("inflora", name, getattr(self, name), 1)
        within("inflora", "least", self.least, 0, 1)
        within("inflora", "most", self.most, self.least, 1)


class InterferenceFree(Strategy):
    """Low-rank terms whose inputs avoid those of earlier sessions."""

    options: Options
    needs = Needs(kinds=SESSIONS, boundaries=True)
    smooths_labels = True
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "name": "adam",
        "lr": 0.0005,
        "schedule": "quarter-cosine",
    }
    ledger_kinds: ClassVar[dict[str, str]] = {"spaces": "statistics"}
    known_failures: ClassVar[dict[str, str]] = {
        "stops_growing": "the method: low-rank terms a session, whatever the session shows"
    }

    def setup(self) -> None:
        self.transformer = as_transformer("inflora", self.net.backbone)
        self.transformer.requires_grad_(False)
        size = self.transformer.feature_size
        if self.options.rank > size:
            raise StreamlabError(
                f"inflora: rank is {self.options.rank}, and the backbone has {size} channels"
            )
        self.layers = []
        for block in self.transformer.model.blocks:
            block.attn.qkv = LowRank(block.attn.qkv, self.options.rank)
            self.layers.append(block.attn.qkv)
        self.spaces = [Space(torch.zeros(size, 0, device=self.setting.device)) for _ in self.layers]
        self.optimizer = self.make_optimizer(self.trained_parameters())

    def begin_experience(self, view: ExperienceView) -> None:
        if view.number >= self.options.tasks:
            raise StreamlabError(
                f"it keeps spaces for {self.options.tasks} tasks, and this is task "
                f"{view.number + 1}; raise tasks"
            )
        for layer, space, moment in zip(self.layers, self.spaces, self.moments(view), strict=True):
            left = torch.linalg.svd(space.open(moment), full_matrices=False).U
            layer.begin(left[:, : self.options.rank].T / math.sqrt(3))
        self.optimizer = self.make_optimizer(self.trained_parameters())

    @torch.no_grad()
    def moments(self, view: ExperienceView) -> list[Tensor]:
        """Of each block's inputs to attention, the mean x xᵀ (C, C) over all tokens of the images."""
        size, tokens = self.transformer.feature_size, 0
        sums = [torch.zeros(size, size, device=self.setting.device) for _ in self.layers]

        def take(number: int, inputs: Tensor) -> None:
            nonlocal tokens
            rows = inputs.flatten(0, 1)
            sums[number] += rows.T @ rows
            tokens += len(rows) if number == 0 else 0

        blocks = self.transformer.model.blocks
        handles = [
            block.norm1.register_forward_hook(lambda module, given, made, number=number: take(number, made))
            for number, block in enumerate(blocks)
        ]
        try:
            for batch in view.batches(1, self.net.images_at_once(self.setting.image_shape)):
                self.features_of(batch.images)
        finally:
            for handle in handles:
                handle.remove()
        return [total / max(1, tokens) for total in sums]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.net(batch.images)
        return {"task": self.cross_entropy(logits, batch.labels, self.current_classes)}

    def apply_gradients(self) -> None:
        with rows_kept(self.net.head, ~self.current_classes):
            super().apply_gradients()

    def end_experience(self, view: ExperienceView) -> None:
        options = self.options
        share = options.least + (options.most - options.least) * view.number / options.tasks
        for space, moment in zip(self.spaces, self.moments(view), strict=True):
            space.take(moment, share)

    def bytes_to_come(self, experiences: int = 1) -> int:
        size, held = self.transformer.feature_size, sum(space.basis.nbytes for space in self.spaces)
        spaces = len(self.layers) * 4 * size * (size // 2)
        terms = len(self.layers) * 4 * 3 * size * self.options.rank
        return max(0, spaces - held) + experiences * terms

    def parameters_to_come(self, experiences: int = 1) -> int:
        return experiences * len(self.layers) * 3 * self.transformer.feature_size * self.options.rank


class Space:
    """Where a block's old inputs lie.

    basis: (C, r), orthonormal; beside: whether it spans what is left beside them instead.
    """

    def __init__(self, basis: Tensor) -> None:
        self.basis, self.beside = basis, False

    def open(self, moment: Tensor) -> Tensor:
        """(C, C) less what lies in the old inputs' space."""
        inside = self.basis @ (self.basis.T @ moment)
        return inside if self.beside else moment - inside

    def take(self, moment: Tensor, share: float) -> None:
        """Take in a session's inputs (C, C), so that the space holds this share of their squared length.

        Squared singular values of the moment are counted, as in the authors' code.
        """
        whole = torch.linalg.svdvals(moment).square().sum()
        directions, lengths, _ = torch.linalg.svd(self.open(moment), full_matrices=False)
        free = lengths.square() / whole
        missing = free.sum() - free.cumsum(0)  # what each number of directions more would leave out
        missing = torch.cat([free.sum()[None], missing]).tolist()
        if self.beside:
            count = sum(left >= 1 - share for left in missing[:-1])
            if count:
                rest = self.basis - directions[:, :count] @ (directions[:, :count].T @ self.basis)
                self.basis = torch.linalg.svd(rest).U[:, : self.basis.shape[1] - count]
        elif self.basis.shape[1] == 0:
            count = int((free.cumsum(0) < share).sum())
            self.basis = directions[:, : max(1, count)]
        else:
            count = sum(1 - left < share for left in missing[:-1])
            self.basis = torch.cat([self.basis, directions[:, :count]], dim=1)[:, : len(moment)]
        if not self.beside and self.basis.shape[1] > len(moment) / 2:
            self.basis = torch.linalg.svd(self.basis).U[:, self.basis.shape[1] :]
            self.beside = True
