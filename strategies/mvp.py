"""MVP: mask and visual prompt tuning (Moon et al., ICCV 2023, arXiv 2308.09303), of Si-Blurry.

A frozen transformer, a pool of prompts chosen by a query, and four parts, each of which can be left
out: an instance-wise logit mask, a contrastive prompt loss, a gradient-similarity focal loss and
adaptive feature scaling. Equal to the authors' code number for number (tests/vectors/mvp_*).

Differs: labels are not renumbered by their first appearance (nothing depends on it); the list of all
queries ever seen is not kept (it is used for nothing); the gradient-similarity score is computed in
closed form, not by a backward pass a sample. `weighting` is the authors' code (reference: the mean
weight times the mean cross-entropy) or the paper's equation (paper: each sample's own). Masks begin at -1,
prompts and keys as standard normals and the head as timm's, as theirs. The query is taken before the last
block, as their script has it (`query = before-last`); their constructor's default, and so perhaps the
paper, takes it after all blocks (`after-all`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least, within
from streamlab.nets.transformer import PromptRows, as_transformer, begin_as_timm, cosine_distances
from streamlab.parts.counting import occurrences
from streamlab.parts.current_batch import CurrentBatch
from streamlab.strategy import Batch, Strategy

CITATION = """
@inproceedings{moon2023siblurry,
  title = {Online Class Incremental Learning on Stochastic Blurry Task Boundary
           via Mask and Visual Prompt Tuning},
  author = {Moon, Jun-Yeong and Park, Keon-Hee and Kim, Jung Uk and Park, Gyeong-Moon},
  booktitle = {ICCV},
  year = {2023},
}
"""


def choose(distance: Tensor, counts: Tensor, contrastive: bool) -> Tensor:
    """(B,) the entry that each query chooses: the nearest, those chosen often counting as farther."""
    weighed = distance * (counts + 1) if contrastive else distance
    return weighed.detach().argmin(1)


def contrastive_prompt_loss(distance: Tensor, keys: Tensor, choice: Tensor, counts: Tensor) -> Tensor:
    """Sec. 4.2: -log(neg / (pos + neg) + 1e-6); chosen keys near their queries, keys apart.

    distance: (B, P); keys: (P, D); choice: (B,); counts: (P,) before the update. The masses of the
    samples pair with all samples and not with their own alone, as the authors' broadcasting has it.
    """
    masses = counts[choice] + 1
    near = distance.gather(1, choice[:, None])  # (B, 1)
    positive = torch.exp(near / masses[None]).mean()
    between = cosine_distances(keys, keys)[choice]  # (B, P)
    negative = torch.exp(between[:, None] / masses[None, :, None]).mean()
    return -torch.log(negative / (positive + negative) + 1e-6)


@torch.no_grad()
def ignore_scores(logits: Tensor, labels: Tensor, masks: Tensor, features: Tensor) -> Tensor:
    """(B,) 1 - cosine of each sample's gradient, by its label's head row, to the batch's mean one.

    logits: (B, K), masked, -inf where unexposed; masks: (B, K) what logits were multiplied by;
    features: (B, D), unscaled. Closed form: with R = (softmax - onehot) · mask, sample i's gradient
    by row y_i is R[i, y_i] · f_i and the batch's mean one (Rᵀ F)[y_i] / B.
    """
    residuals = logits.softmax(1)
    residuals[torch.arange(len(labels), device=labels.device), labels] -= 1
    residuals *= masks
    gradients = residuals.gather(1, labels[:, None]) * features
    mean = (residuals.T @ features / len(labels))[labels]
    return 1 - F.cosine_similarity(gradients, mean, dim=1, eps=1e-8)


@torch.no_grad()
def compensation_scores(features: Tensor, labels: Tensor, weights: Tensor, margin: float) -> Tensor:
    """(B,) what a feature is divided by: 1 - cosine to its label's head row, plus the margin."""
    return 1 - F.cosine_similarity(weights[labels], features, dim=1, eps=1e-8) + margin


def weighted_loss(
    each: Tensor, scores: Tensor, alpha: float, gamma: float, weighting: Literal["reference", "paper"]
) -> Tensor:
    """Sec. 4.3: cross-entropies (B,) weighted by (1 - alpha) + alpha · score^gamma."""
    weights = (1 - alpha) + alpha * scores**gamma
    return weights.mean() * each.mean() if weighting == "reference" else (weights * each).mean()


@dataclass(frozen=True)
class Options:
    """The paper's setting by default; each of its four parts can be left out.

    pool_size: E-prompts to choose from; length_g, length_e: rows of a prompt; positions_g, positions_e:
    blocks; prompting: rows appended to tokens, or prefixed to what keys and values are projected from; query:
    see above. mask, contrastive, gradient_focus, feature_scaling: the parts. alpha, gamma: of the focal
    weights; margin: of the scaling; weighting: see above. replay_size: exemplars replayed beside each
    batch, drawn anew for each update (0: none).
    """

    pool_size: int = 10
    length_g: int = 5
    length_e: int = 20
    positions_g: tuple[int, ...] = (0, 1)
    positions_e: tuple[int, ...] = (2, 3, 4)
    prompting: Literal["append", "projected-prefix"] = "append"
    query: Literal["before-last", "after-all"] = "before-last"
    mask: bool = True
    contrastive: bool = True
    gradient_focus: bool = True
    feature_scaling: bool = True
    alpha: float = 0.5
    gamma: float = 2.0
    margin: float = 0.5
    weighting: Literal["reference", "paper"] = "reference"
    replay_size: int = 0

    def __post_init__(self) -> None:
        for name in ("pool_size", "length_g", "length_e"):
            at_least("mvp", name, getattr(self, name), 1)
        at_least("mvp", "replay_size", self.replay_size, 0)
        within("mvp", "alpha", self.alpha, 0, 1)


class MaskAndVisualPrompts(Strategy):
    """Eq. 10: focal task loss on scaled features + contrastive prompt loss."""

    options: Options
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"name": "adam", "lr": 0.005}
    frozen = True
    ledger_kinds: ClassVar[dict[str, str]] = {
        "general": "prompts",
        "expert": "prompts",
        "keys": "keys",
        "masks": "masks",
        "counts": "statistics",
    }

    def setup(self) -> None:
        options, device = self.options, self.setting.device
        self.transformer = as_transformer("mvp", self.net.backbone)
        self.transformer.check_positions("mvp", options.positions_g + options.positions_e)
        size, pool = self.net.backbone.feature_size, options.pool_size
        general = PromptRows(1, options.positions_g, options.length_g, size, options.prompting)
        expert = PromptRows(pool, options.positions_e, options.length_e, size, options.prompting)
        for prompts in (general, expert):
            nn.init.normal_(prompts.rows)
        self.general, self.expert = general.to(device), expert.to(device)
        self.keys = nn.Parameter(torch.randn(pool, size, device=device))
        self.masks = nn.Parameter(torch.full((pool, self.setting.num_classes), -1.0, device=device))
        self.counts = torch.zeros(pool, device=device)
        begin_as_timm(self.net.head)
        learned = [self.general.rows, self.expert.rows, self.keys, self.masks, *self.net.head.parameters()]
        self.optimizer = self.make_optimizer(learned)
        self.buffer = self.make_buffer("reservoir") if options.replay_size else None
        self.current = CurrentBatch()

    def embed(self, images: Tensor) -> Tensor:
        """The query q: the class token without prompts."""
        before_last = self.options.query == "before-last"
        blocks = self.transformer.depth - 1 if before_last else None
        return self.transformer.query(self.net.scaled(images), blocks)

    def prompted(self, images: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Distances (B, P), choice (B,), features with prompts (B, D) and masks m (B, K), by query (B, D)."""
        distance = cosine_distances(query, self.keys)
        choice = choose(distance, self.counts, self.options.contrastive)
        prompts = {**self.general.at(torch.zeros_like(choice)), **self.expert.at(choice)}
        features = self.transformer(self.net.scaled(images), prompts)
        masks = 2 * torch.sigmoid(self.masks[choice])
        return distance, choice, features, masks if self.options.mask else torch.ones_like(masks)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        options, head = self.options, self.net.head
        assert isinstance(head, nn.Linear)
        combined, query = self.current.with_replay(batch, self.buffer, options.replay_size, self.embed)
        labels, hidden = combined.labels, ~self.exposed
        distance, choice, features, masks = self.prompted(combined.images, query)
        scaled = features
        if options.feature_scaling:
            divisor = compensation_scores(features, labels, head.weight, options.margin)
            scaled = features / divisor[:, None]
        logits = (head(scaled) * masks).masked_fill(hidden, float("-inf"))
        each = F.cross_entropy(logits, labels, reduction="none")
        if options.gradient_focus:
            unscaled = (head(features.detach()) * masks).masked_fill(hidden, float("-inf"))
            scores = ignore_scores(unscaled, labels, masks, features)
            task = weighted_loss(each, scores, options.alpha, options.gamma, options.weighting)
        else:
            task = each.mean()
        if options.contrastive:
            prompt_loss = contrastive_prompt_loss(distance, self.keys, choice, self.counts)
        else:
            prompt_loss = distance.gather(1, choice[:, None]).mean()
        self.counts = self.counts + occurrences(choice, options.pool_size)
        return {"task": task, "prompts": prompt_loss}

    def remember(self, batch: Batch) -> None:
        self.current.end()
        if self.buffer is not None:
            self.buffer.add(batch)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        _, _, features, masks = self.prompted(images, embedding)
        logits: Tensor = self.net.head(features) * masks
        return logits
