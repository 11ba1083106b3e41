"""CODA-Prompt: prompts decomposed into components (Smith et al., CVPR 2023, arXiv 2211.13218).

A frozen transformer. Each of its first blocks has M components: a prompt p_m, a key k_m and an attention
a_m. An image's prompt is the sum of all p_m, weighted by the cosine of q(x) ⊙ a_m to k_m (eq. 3 to 5), where
q(x) is the class token without prompts. Every task adds M / tasks components, drawn at random and made
orthogonal to those before by Gram and Schmidt; they learn with the classifier, and earlier ones are frozen.

As the authors' code: prompts are keys and values themselves, the task's classes alone compete while it is
learned, the optimizer begins anew with each task, and the rate follows a quarter of a cosine
(`optimizer.schedule=quarter-cosine`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.needs import Needs
from streamlab.nets.transformer import Prefixed, as_transformer
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{smith2023coda,
  title = {{CODA-Prompt}: {COntinual} Decomposed Attention-based Prompting for Rehearsal-Free Continual
           Learning},
  author = {Smith, James Seale and Karlinsky, Leonid and Gutta, Vyshnavi and Cascante-Bonilla, Paola and
            Kim, Donghyun and Arbelle, Assaf and Panda, Rameswar and Feris, Rogerio and Kira, Zsolt},
  booktitle = {CVPR},
  year = {2023},
}
"""


@dataclass(frozen=True)
class Options:
    """components: of all tasks together, in each block; tasks: that share them; length: rows of a prompt,
    half of them keys and half values; blocks: the first so many have prompts; ortho: weight of the penalty
    for components that are not orthogonal (eq. 7; the published tables have 0).
    """

    components: int = 100
    tasks: int = 10
    length: int = 8
    blocks: int = 5
    ortho: float = 0.0

    def __post_init__(self) -> None:
        for name in ("components", "tasks", "blocks"):
            at_least("coda-prompt", name, getattr(self, name), 1)
        at_least("coda-prompt", "ortho", self.ortho, 0)
        if self.length < 2 or self.length % 2:
            raise StreamlabError(f"coda-prompt: length is {self.length}, and must be even: keys and values")
        if self.tasks > self.components:
            raise StreamlabError(
                f"coda-prompt: {self.components} components cannot be shared by {self.tasks} tasks"
            )


class Components(nn.Module):
    """M components of some blocks: prompts (blocks, M, L · C), keys and attention (blocks, M, C).

    They are 0 before their task. used: how many there are so far; fresh: how many of them are the task's.
    """

    def __init__(self, blocks: int, count: int, length: int, size: int) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.zeros(blocks, count, length * size))
        self.keys = nn.Parameter(torch.zeros(blocks, count, size))
        self.attention = nn.Parameter(torch.zeros(blocks, count, size))
        self.used, self.fresh = 0, 0

    @torch.no_grad()
    def grow(self, count: int) -> None:
        """So many more, drawn and made orthogonal to those before."""
        for table in (self.prompts, self.keys, self.attention):
            for block in table:
                block[self.used : self.used + count] = orthogonal(block[: self.used], count)
        self.used, self.fresh = self.used + count, count

    def _known(self, table: Tensor, learning: bool) -> Tensor:
        if not learning:
            return table[:, : self.used]
        old = self.used - self.fresh
        return torch.cat([table[:, :old].detach(), table[:, old : self.used]], dim=1)

    def mixed(self, query: Tensor, learning: bool) -> Tensor:
        """(B, C) queries -> (blocks, B, L · C) prompts (eq. 3 to 5)."""
        keys, attention = self._known(self.keys, learning), self._known(self.attention, learning)
        towards = attention * F.normalize(keys, dim=2)
        lengths = (query.square() @ attention.square().transpose(1, 2)).sqrt().clamp(min=1e-12)
        weights = (query @ towards.transpose(1, 2)) / lengths
        return weights @ self._known(self.prompts, learning)

    def penalty(self) -> Tensor:
        """Eq. 7: mean squared distance of inner products to the identity, summed over tables and blocks."""
        tables = [self._known(table, learning=True) for table in (self.keys, self.attention, self.prompts)]
        one = torch.eye(self.used, device=tables[0].device)
        return torch.stack([(t @ t.transpose(1, 2) - one).square().mean((1, 2)).sum() for t in tables]).sum()


def orthogonal(before: Tensor, count: int) -> Tensor:
    """(n, D) rows, which may have any angles -> (count, D) random rows of length 1.

    From each drawn row its projections on every row before it, theirs and ours, are taken away, all of the
    drawn row's (classical Gram-Schmidt, as in the authors' code).
    """
    rows = before
    for _ in range(count):
        drawn = torch.randn(before.shape[1], device=before.device)
        shares = rows @ drawn / rows.square().sum(1).clamp(min=1e-8)
        rows = torch.cat([rows, (drawn - shares @ rows)[None]])
    return F.normalize(rows[len(before) :], dim=1)


class CodaPrompt(Strategy):
    """Prompts from components, under a classifier of all classes."""

    options: Options
    needs = Needs(boundaries=True)
    smooths_labels = True
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {
        "name": "adam",
        "lr": 0.001,
        "schedule": "quarter-cosine",
        "unit": "share",
    }
    frozen = True
    ledger_kinds: ClassVar[dict[str, str]] = {"components": "prompts"}

    def setup(self) -> None:
        options, size = self.options, self.net.backbone.feature_size
        self.transformer = as_transformer("coda-prompt", self.net.backbone)
        self.transformer.check_positions("coda-prompt", tuple(range(options.blocks)))
        made = Components(options.blocks, options.components, options.length, size)
        self.components = made.to(self.setting.device)
        self.learned = [*self.components.parameters(), *self.net.head.parameters()]
        self.optimizer = self.make_optimizer(self.learned)

    def begin_experience(self, view: ExperienceView) -> None:
        if view.number >= self.options.tasks:
            raise StreamlabError(
                f"its components are shared by {self.options.tasks} tasks, and this is task "
                f"{view.number + 1}; raise tasks"
            )
        self.components.grow(self.options.components // self.options.tasks)
        self.optimizer = self.make_optimizer(self.learned)

    def embed(self, images: Tensor) -> Tensor:
        """The query q(x): the class token without prompts, after the final norm."""
        return self.features_of(images)

    def logits(self, images: Tensor, query: Tensor, learning: bool) -> Tensor:
        """(B, K), with the prompts of these queries (B, C)."""
        mixed = self.components.mixed(query, learning)
        runs = mixed.view(len(mixed), len(query), 2, -1, query.shape[1])
        prompts = {block: Prefixed(run[:, 0], run[:, 1], projected=False) for block, run in enumerate(runs)}
        made: Tensor = self.net.head(self.transformer(self.net.scaled(images), prompts))
        return made

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.logits(batch.images, self.embed(batch.images), learning=True)
        losses = {"task": self.cross_entropy(logits, batch.labels, self.current_classes)}
        if self.options.ortho:
            losses["ortho"] = self.options.ortho * self.components.penalty()
        return losses

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return self.logits(images, embedding, learning=False)
