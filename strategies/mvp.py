"""MVP: mask and visual prompt tuning (Moon et al., ICCV 2023, arXiv 2308.09303), of Si-Blurry.

A frozen transformer, a pool of prompts chosen by a query, and four parts, each of which can be left
out: an instance-wise logit mask, a contrastive prompt loss, a gradient-similarity focal loss and
adaptive feature scaling. Equal to the authors' code number for number (tests/vectors/mvp_*).

Differs: labels are not renumbered by their first appearance (nothing depends on it); the list of all
queries ever seen is not kept (it is used for nothing); the gradient-similarity score is computed in
closed form, not by a backward pass a sample. `weighting` is the authors' code (reference: the mean
weight times the mean cross-entropy) or the paper's equation (paper: each sample's own).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import at_least, within
from streamlab.nets.transformer import PromptRows, as_transformer, cosine_distances
from streamlab.parts.serving import Serving
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
    own = residuals.gather(1, labels[:, None]) * features
    mean = (residuals.T @ features / len(labels))[labels]
    return 1 - F.cosine_similarity(own, mean, dim=1, eps=1e-8)


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
    blocks; prompting: rows appended to tokens, or prefixed to keys and values. mask, contrastive,
    gradient_focus, feature_scaling: the parts. alpha, gamma: of the focal weights; margin: of the
    scaling; weighting: see above. replay_size: exemplars replayed beside each batch (0: none).
    """

    pool_size: int = 10
    length_g: int = 5
    length_e: int = 20
    positions_g: tuple[int, ...] = (0, 1)
    positions_e: tuple[int, ...] = (2, 3, 4)
    prompting: Literal["append", "prefix"] = "append"
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
    frozen = "query"
    ledger_kinds: ClassVar[dict[str, str]] = {
        "general": "prompts",
        "expert": "prompts",
        "keys": "keys",
        "masks": "masks",
        "counts": "statistics",
    }

    def setup(self) -> None:
        chosen = self.options
        self.transformer = as_transformer("mvp", self.net.backbone)
        self.transformer.check_positions("mvp", chosen.positions_g + chosen.positions_e)
        size, device = self.net.backbone.feature_size, self.setting.device
        prefix = chosen.prompting == "prefix"
        self.general = PromptRows(1, chosen.positions_g, chosen.length_g, size, prefix).to(device)
        self.expert = PromptRows(chosen.pool_size, chosen.positions_e, chosen.length_e, size, prefix).to(
            device
        )
        self.keys = nn.Parameter(torch.randn(chosen.pool_size, size, device=device))
        self.masks = nn.Parameter(torch.randn(chosen.pool_size, self.setting.num_classes, device=device))
        self.counts = torch.zeros(chosen.pool_size, device=device)
        learned = [self.general.rows, self.expert.rows, self.keys, self.masks, *self.net.head.parameters()]
        self.optimizer = self.make_optimizer(learned)
        self.buffer = self.make_buffer("reservoir") if self.options.replay_size else None
        self.serving = Serving()

    def _forward(self, images: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(distance (B, P), choice (B,), features (B, D), masks (B, K))."""
        distance = cosine_distances(query, self.keys)
        choice = choose(distance, self.counts, self.options.contrastive)
        prompts = {**self.general.at(torch.zeros_like(choice)), **self.expert.at(choice)}
        features = self.transformer(images, prompts)
        masks = 2 * torch.sigmoid(self.masks[choice])
        return distance, choice, features, masks if self.options.mask else torch.ones_like(masks)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        both, query = self.serving.of(batch, self.buffer, self.options.replay_size, self.query)
        distance, choice, features, masks = self._forward(self.net.scaled(both.images), query)
        head, labels, chosen = self.net.head, both.labels, self.options
        assert isinstance(head, nn.Linear)
        hidden = ~self.exposed
        scaled = features
        if chosen.feature_scaling:
            divisor = compensation_scores(features, labels, head.weight, chosen.margin)
            scaled = features / divisor[:, None]
        logits = (head(scaled) * masks).masked_fill(hidden, float("-inf"))
        each = F.cross_entropy(logits, labels, reduction="none")
        if chosen.gradient_focus:
            plain = (head(features.detach()) * masks).masked_fill(hidden, float("-inf"))
            scores = ignore_scores(plain, labels, masks, features)
            task = weighted_loss(each, scores, chosen.alpha, chosen.gamma, chosen.weighting)
        else:
            task = each.mean()
        if chosen.contrastive:
            prompts = contrastive_prompt_loss(distance, self.keys, choice, self.counts)
        else:
            prompts = distance.gather(1, choice[:, None]).mean()
        self.counts = self.counts + torch.bincount(choice, minlength=chosen.pool_size)
        return {"task": task, "prompts": prompts}

    def remember(self, batch: Batch) -> None:
        self.serving.end()
        if self.buffer is not None:
            self.buffer.add(batch)

    def query(self, images: Tensor) -> Tensor:
        return self.transformer.query(self.net.scaled(images))

    def predict_given(self, images: Tensor, given: Tensor) -> Tensor:
        _, _, features, masks = self._forward(self.net.scaled(images), given)
        logits: Tensor = self.net.head(features) * masks
        return logits
