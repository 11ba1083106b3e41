"""The strategy plugin: one class that learns from batches and predicts.

Two levels. Easy: define `losses(batch)`, and the kernel sums, steps and logs. Full: define
`observe(batch)` yourself (GEM, streaming LDA, a prototype rule). Everything else is optional.
Strategies are final: derive from `Strategy`, never from another strategy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, cast, get_type_hints

import torch
from torch import Tensor, nn

from .base_training import BaseTraining
from .batch import Batch, EpisodeBatch
from .config import Budget, Range, Searched, readable_bytes
from .errors import StreamlabError, unknown
from .memory.buffer import Buffer
from .memory.ledger import Ledger, measure
from .memory.policies import POLICIES, HerdedBuffer
from .memory.state import StateReader, StateWriter, reachable
from .nets.network import Network, build_network
from .nets.optimizer import Optimizer, build_optimizer, gradients_of, set_rate
from .nets.precision import LossScale
from .randomness import global_randomness
from .setting import ExperienceView, NoOptions, Setting

__all__ = ["Batch", "EpisodeBatch", "ExperienceView", "NoOptions", "Setting", "Strategy"]


def embeds_features(strategy: Strategy) -> bool:
    """Whether what it embeds images as are its network's features."""
    return type(strategy).embed is Strategy.embed


class Strategy:
    """Base of all strategies.

    Class attributes to set: `options: YourOptions`, an annotation (YourOptions is a frozen dataclass
    of typed options with defaults); kinds (experiences it takes); needs_boundaries; learns_jointly
    (trained once on everything: a ceiling, exempt from budgets); scores_are_logits; ledger_kinds
    (attribute -> kind of memory, for what is neither the network nor a buffer); backbone and
    needs_new_classes (every experience must bring classes that none before had);
    needs_learning_backbone (a frozen one is refused: there would be nothing to learn);
    default_optimizer (options used unless the user sets some); least_per_class (exemplars a class
    that its buffers must hold);
    frozen (`embed` always says the same of an image, so that each test image's embedding is computed once
    a run); base (how the network is trained in
    a base session, which is then not served batch by batch; such a strategy needs one, or episodes,
    whose meta-training classes it is then); fixed_way (it has an output for each class of an episode, and
    is tested in the way that it was trained in);
    search_space (option, or `optimizer.lr` and the like -> what a tuner may try);
    begins_anew (why its state cannot be checkpointed: a run of it that is killed starts over, to the
    same bits); known_failures (check -> why this strategy does not pass it, for `streamlab check`).

    What the kernel keeps up to date, each (classes,) bool: `exposed`, the classes seen so far;
    `current_classes`, those of the experience that is on, where boundaries are shown (else all).
    """

    options: Any
    kinds: ClassVar[frozenset[str]] = frozenset({"online", "sessions"})
    needs_boundaries: ClassVar[bool] = False
    needs_new_classes: ClassVar[bool] = False
    needs_learning_backbone: ClassVar[bool] = False
    learns_jointly: ClassVar[bool] = False
    scores_are_logits: ClassVar[bool] = True
    ledger_kinds: ClassVar[Mapping[str, str]] = {}
    backbone: ClassVar[Mapping[str, Any]] = {"name": "mlp"}
    default_optimizer: ClassVar[Mapping[str, Any]] = {}
    least_per_class: ClassVar[int] = 0
    frozen: ClassVar[bool] = False
    base: ClassVar[BaseTraining | None] = None
    fixed_way: ClassVar[bool] = False
    search_space: ClassVar[Mapping[str, Searched]] = {"optimizer.lr": Range(0.001, 0.3)}
    begins_anew: ClassVar[str] = ""
    known_failures: ClassVar[Mapping[str, str]] = {}

    def __init__(self, setting: Setting, options: Any = None) -> None:
        self.setting = setting
        self.options = self.options_type()() if options is None else options
        self.exposed = torch.zeros(setting.num_classes, dtype=torch.bool, device=setting.device)
        self.current_classes = torch.ones_like(self.exposed)
        self.steps = self.buffers_made = 0
        self.loss_scale = LossScale() if setting.precision == "float16" else None
        with global_randomness(setting.seed, "setup"):
            self.net = self.make_network()
            if self.needs_learning_backbone and not any(
                parameter.requires_grad for parameter in self.net.backbone.parameters()
            ):
                name = str((setting.backbone or self.backbone).get("name"))
                raise StreamlabError(
                    f"{type(self).__name__} learns a whole network, and the backbone {name} is frozen"
                )
            self.optimizer: Optimizer | None = self.make_optimizer(self.net.parameters())
            self.setup()

    # What a plugin defines.

    def setup(self) -> None:
        """Make buffers, statistics and further modules. `self.net` and `self.optimizer` exist."""

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

    def remember(self, batch: Batch) -> None:
        """Offer a batch's samples to buffers here. Called after all its updates, so once a sample: in
        sessions of several epochs, in the last.
        """

    def predict(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, classes) scores; the kernel masks classes not yet exposed."""
        return self.score(self.embed(images), images)

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, D) embeddings: the network's features, unless a method has its own."""
        return self.net.features(images)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        """(B, D) embeddings and the images they are of -> (B, classes) scores."""
        return cast(Tensor, self.net.head(embedding))

    def base_training(self) -> BaseTraining | None:
        """How its network is trained in a base session: `base`, unless options have a say in it."""
        return self.base

    def begin_experience(self, view: ExperienceView) -> None:
        """Called where boundaries are shown, before an experience's first batch."""

    def end_experience(self, view: ExperienceView) -> None:
        """Called where boundaries are shown, after an experience's last batch."""

    def consolidate(self) -> None:
        """Called before every evaluation and timed as training: class means and the like."""

    def bytes_to_come(self, experiences: int = 1) -> int:
        """Bytes beyond today's that it may hold in so many coming experiences (a teacher, say).

        They are set aside in a budget. What grows with every experience may depend on `experiences`;
        where boundaries are shown, the kernel asks again before each.
        """
        return 0

    def parameters_to_come(self, experiences: int = 1) -> int:
        """Parameters beyond today's that its network at rest will have after them, heads left out."""
        return 0

    # What a plugin of episodes defines.

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
        """Features (E, S, D), labels (E, S) int64 in [0, way), features (E, Q, D) -> (E, Q, way) scores."""
        raise StreamlabError(f"{type(self).__name__} defines neither classify_episodes nor predict_episodes")

    # What a plugin uses.

    def step(self, losses: Mapping[str, Tensor]) -> None:
        """One optimizer step on the sum of the losses."""
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        first, *others = losses.values()
        total = sum(others, first)
        if self.loss_scale is None:
            torch.autograd.backward(total)
        else:
            torch.autograd.backward(total * self.loss_scale.scale)
            if not self.loss_scale.unscale(gradients_of(self.optimizer)):
                return
        self.apply_gradients()

    def apply_gradients(self) -> None:
        """One optimizer step by the gradients that the parameters hold; the rate falls where it is due."""
        assert self.optimizer is not None
        self.optimizer.step()
        self.steps += 1
        every = self.setting.optimizer.halve_every
        if every and self.steps % every == 0:
            set_rate(self.optimizer, self.rate())

    def features_of(self, images: Tensor) -> Tensor:
        """(n, C, H, W) uint8 -> (n, D) the network's features as at an evaluation."""
        return self._in_evaluation(self.net.features, images)

    def embeddings_of(self, images: Tensor) -> Tensor:
        """(n, C, H, W) uint8 -> (n, D) embeddings as at an evaluation."""
        return self._in_evaluation(self.embed, images)

    @torch.no_grad()
    def _in_evaluation(self, of: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """No gradient, 500 images at a time."""
        training = self.net.training
        self.train_mode(False)
        parts = [of(part) for part in torch.split(images, 500)]
        self.train_mode(training)
        return torch.cat(parts)

    def make_network(self) -> Network:
        """A new network as the run's configuration says, drawn from torch's global generator."""
        setting = self.setting
        options = setting.backbone or self.backbone
        made = build_network(
            options, setting.image_shape, setting.num_classes, setting.pixels, setting.precision
        )
        return made.to(setting.device)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Those of the network that learn: all but a frozen backbone's."""
        return [parameter for parameter in self.net.parameters() if parameter.requires_grad]

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The configured optimizer over these parameters, its rate as far down as the steps taken say."""
        made = build_optimizer(self.setting.optimizer, list(parameters))
        set_rate(made, self.rate())
        return made

    def rate(self) -> float:
        """The learning rate now: it falls where the configuration says so."""
        config = self.setting.optimizer
        return config.lr * 0.5 ** (self.steps // config.halve_every) if config.halve_every else config.lr

    def replace_head(self, head: nn.Module) -> None:
        """Classify by another head (D) -> (classes), trained by an optimizer made anew."""
        self.net.head = head.to(self.setting.device)
        trained = self.trained_parameters()
        self.optimizer = self.make_optimizer(trained) if trained else None

    def make_buffer(
        self, policy: str = "reservoir", extras: dict[str, tuple[int, ...]] | None = None
    ) -> Buffer:
        """A buffer whose capacity the budget decides; extras are columns, name -> shape of one."""
        if policy not in POLICIES:
            raise unknown("buffer policy", policy, POLICIES)
        name = f"buffer-{self.buffers_made}"
        self.buffers_made += 1
        make = POLICIES[policy]
        setting = self.setting
        return make(setting.image_shape, setting.device, setting.seed, name, extras)

    def make_herded_buffer(self) -> HerdedBuffer:
        """A buffer that is filled by herding at the end of an experience."""
        made = self.make_buffer("herding")
        assert isinstance(made, HerdedBuffer)
        return made

    # What the kernel uses.

    @classmethod
    def options_type(cls) -> type:
        """The dataclass that the class's annotation `options: …` names."""
        found = get_type_hints(cls).get("options")
        return found if isinstance(found, type) and dataclasses.is_dataclass(found) else NoOptions

    @property
    def buffers(self) -> list[Buffer]:
        """The buffers that it holds, in lists and other objects too, in order."""
        return list(reachable(self._state(), Buffer))  # type: ignore[type-abstract]  # any of its kind

    def ledger(self) -> Ledger:
        """What it holds now, in bytes by kind."""
        held = sum(len(buffer) for buffer in self.buffers)
        pixels = sum(len(buffer) * buffer.pixel_bytes for buffer in self.buffers)
        claims = {"net": "model", **self.ledger_kinds}
        return measure(self._state(), claims, held, pixels)

    def exemplar_sizes(self, budget: Budget) -> list[int]:
        """Bytes that one exemplar of each of its buffers counts against a budget; none: it keeps none."""
        survey = budget.accounting == "survey"
        return [buffer.pixel_bytes if survey else buffer.exemplar_bytes for buffer in self.buffers]

    def needs(self, budget: Budget, experiences: int = 1) -> int:
        """Bytes that count against a budget in so many coming experiences, exemplars left out."""
        survey = budget.accounting == "survey"
        to_come = 4 * self.parameters_to_come(experiences) if survey else self.bytes_to_come(experiences)
        return self.ledger().beside_exemplars(budget) + to_come

    def allot(self, budget: Budget) -> None:
        """Turn what a budget leaves after the strategy's own state into exemplars.

        floor((bytes - own state - bytes to come) / bytes of one exemplar), shared equally between
        buffers; asked again before an experience, buffers can only shrink. Raises StreamlabError where
        not even the own state fits, or a buffer is smaller than the method needs.
        """
        own = self.needs(budget)
        if budget.bytes is not None and own > budget.bytes:
            raise StreamlabError(
                f"it needs {readable_bytes(own)} for its own state, and the budget is {budget}: "
                f"{self.ledger().describe()}"
            )
        buffers = self.buffers
        sizes = self.exemplar_sizes(budget)
        for number, (buffer, each) in enumerate(zip(buffers, sizes, strict=True)):
            if budget.bytes is not None:
                capacity = (budget.bytes - own) // len(buffers) // each
            else:
                total = 500 if budget.exemplars is None else budget.exemplars
                capacity = total // len(buffers) + (number < total % len(buffers))
            if not buffer.allocated:
                buffer.allocate(capacity)
            elif capacity < buffer.capacity:
                buffer.shrink(capacity)
            least = self.least_per_class * self.setting.num_classes
            if buffer.capacity < least:
                raise StreamlabError(
                    f"its budget ({budget}) buys {buffer.capacity} exemplars, and it needs {least}: "
                    f"{self.least_per_class} of each of {self.setting.num_classes} classes"
                )

    def train_mode(self, training: bool) -> None:
        """Put the network into training or evaluation mode; what is frozen stays in evaluation mode."""
        self.net.train(training)
        if not any(parameter.requires_grad for parameter in self.net.backbone.parameters()):
            self.net.backbone.eval()

    def take_state(self) -> tuple[Any, dict[str, Tensor]]:
        """Its whole state as JSON values and named tensors."""
        writer = StateWriter()
        plain = {name: writer.plain(value, name) for name, value in self._state(everything=True).items()}
        return plain, writer.tensors

    def put_state(self, plain: Any, tensors: dict[str, Tensor]) -> None:
        """Fill this new instance with a state that was taken."""
        reader = StateReader(tensors)
        for name in [name for name in self._state(everything=True) if name not in plain]:
            delattr(self, name)
        for name, value in plain.items():
            setattr(self, name, reader.value(value, getattr(self, name, None)))

    def _state(self, everything: bool = False) -> dict[str, Any]:
        kernel = ("setting", "options") + (() if everything else ("exposed", "current_classes"))
        return {name: value for name, value in vars(self).items() if name not in kernel}
