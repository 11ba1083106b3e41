"""The strategy plugin: one class that learns from batches and predicts.

Two levels. Easy: define `losses(batch)`, and the kernel sums, steps and logs. Full: define
`observe(batch)` yourself (GEM, streaming LDA, a prototype rule). Everything else is optional.
Strategies are final: derive from `Strategy`, never from another strategy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from .base_training import BaseTraining
from .batch import Batch, EpisodeBatch
from .config import Range, Searched
from .errors import StreamlabError
from .learner import Learner
from .needs import Needs
from .setting import ExperienceView, NoOptions, Setting

__all__ = ["Batch", "EpisodeBatch", "ExperienceView", "Needs", "NoOptions", "Setting", "Strategy"]


class Strategy(Learner):
    """Base of all strategies; what it can use is in `Learner`.

    Class attributes to set, all of them optional:
    options: an annotation, `options: YourOptions`, a frozen dataclass of typed options with defaults.
    needs: what must be there before it can learn (needs.py).
    backbone, default_optimizer: the options used unless the user sets some.
    frozen: `embed` always says the same of an image, so that each test image is embedded once a run.
    base: how the network is trained before the first experience. The base session is then not served in
        batches. Of episodes, the meta-training classes are the base session.
    learns_jointly: it is trained once on everything, a ceiling that no budget bounds; its options have
        `epochs` and `batch_size`.
    scores_are_logits: whether softmax of its scores means something.
    smooths_labels: its losses are `self.cross_entropy`, which smooths labels as the optimizer's section says;
        of others the option is refused.
    ledger_kinds: attribute -> kind of memory, for what is neither the network nor a buffer.
    search_space: option, or `optimizer.lr` and the like -> what a tuner may try.
    known_failures: check -> why this strategy does not pass it, for `streamlab check`.
    accounting: how its memory and state are accounted for, where the walk over attributes does not do.
    """

    options: Any
    needs: ClassVar[Needs] = Needs()
    backbone: ClassVar[Mapping[str, Any]] = {"name": "mlp"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {}
    frozen: ClassVar[bool] = False
    base: ClassVar[BaseTraining | None] = None
    learns_jointly: ClassVar[bool] = False
    scores_are_logits: ClassVar[bool] = True
    smooths_labels: ClassVar[bool] = False
    ledger_kinds: ClassVar[Mapping[str, str]] = {}
    search_space: ClassVar[Mapping[str, Searched]] = {"optimizer.lr": Range(0.001, 0.3)}
    known_failures: ClassVar[Mapping[str, str]] = {}

    # Learning from a stream. `setup()` comes first: make buffers and further modules there.

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of one incoming batch; the kernel sums them and steps."""
        raise StreamlabError(f"{type(self).__name__} defines neither losses(batch) nor observe(batch)")

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        """Learn from one incoming batch; returns named numbers (0-dim tensors) for the log."""
        losses = self.losses(batch)
        if not isinstance(losses, Mapping) or not all(isinstance(v, Tensor) for v in losses.values()):
            raise StreamlabError(
                f"losses returned {type(losses).__name__}, and must return named scalars: {{'task': loss}}"
            )
        self.step(losses)
        return losses

    def arrive(self, images: Tensor) -> None:
        """Images (B, C, H, W) uint8 have come whose labels come later (`clock.delay`): learn from them here.

        Called once a batch, when it arrives; its samples are observed when their labels have come.
        """

    def remember(self, batch: Batch) -> None:
        """Offer a batch's samples to buffers here. Called after all its updates, so once a sample: in
        sessions of several epochs, in the last.
        """

    def begin_experience(self, view: ExperienceView) -> None:
        """Called where boundaries are shown, before an experience's first batch."""

    def end_experience(self, view: ExperienceView) -> None:
        """Called where boundaries are shown, after an experience's last batch."""

    def consolidate(self) -> None:
        """Called before every evaluation and timed as training: class means and the like."""

    # Predicting: image -> embedding (`embed`) -> scores.

    def predict(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, classes) scores; the kernel masks classes not yet exposed."""
        return self.score(self.embed(images), images)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        """(B, D) embeddings and the images they are of -> (B, classes) scores."""
        return cast(Tensor, self.net.head(embedding))

    # Where options have a say in what is declared above.

    def base_training(self) -> BaseTraining | None:
        """How its network is trained in a base session: `base`, unless options have a say in it."""
        return self.base

    @classmethod
    def needs_with(cls, options: Any) -> Needs:
        """What it needs with these options: `needs`, unless they have a say in it."""
        return cls.needs

    # Learning from episodes.

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, Tensor]:
        """Named scalar losses of a batch of training episodes; the kernel sums them and steps."""
        raise StreamlabError(
            f"{type(self).__name__} defines neither episode_losses(episodes) nor observe_episodes(episodes)"
        )

    def observe_episodes(self, episodes: EpisodeBatch) -> Mapping[str, Tensor]:
        """Learn from a batch of training episodes; returns named numbers (0-dim tensors) for the log."""
        losses = self.episode_losses(episodes)
        self.step(losses)
        return losses

    def predict_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        """(E, S, C, H, W) uint8, (E, S) int64 in [0, way), (E, Q, C, H, W) uint8 -> (E, Q, way) scores.

        The strategy is afterwards as it was. Where scores follow from features, `classify_episodes` is
        defined instead; then each image is computed once, in however many episodes it appears.
        """
        images = torch.cat([support.flatten(0, 1), query.flatten(0, 1)])
        features = self.embed(images)
        cut = support.shape[0] * support.shape[1]
        return self.classify_episodes(
            features[:cut].view(*support.shape[:2], -1),
            support_labels,
            features[cut:].view(*query.shape[:2], -1),
        )

    def classify_episodes(self, support: Tensor, support_labels: Tensor, query: Tensor) -> Tensor:
        """Features (E, S, D), labels (E, S) int64, features (E, Q, D) -> (E, Q, way) scores."""
        raise StreamlabError(f"{type(self).__name__} defines neither classify_episodes nor predict_episodes")


def embeds_features(strategy: Strategy) -> bool:
    """Whether what it embeds images as are its network's features."""
    return type(strategy).embed is Strategy.embed


def embeds_the_same(strategy: Strategy) -> bool:
    """Whether `embed` always says the same of an image: declared, or of a backbone that learns nothing."""
    if strategy.frozen:
        return True
    plain = embeds_features(strategy) and type(strategy).predict is Strategy.predict
    return plain and not any(parameter.requires_grad for parameter in strategy.net.backbone.parameters())
