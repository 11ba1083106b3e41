"""What every strategy has and uses: its network, its optimizer, steps, and makers of buffers and networks.

What a strategy defines is in strategy.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, get_type_hints

import torch
from torch import Tensor, nn

from .account import Account
from .augmentation.views import Views
from .errors import StreamlabError, unknown
from .memory.buffer import Buffer
from .memory.policies import POLICIES, HerdedBuffer
from .needs import Needs
from .nets.network import Network, build_network
from .nets.optimizer import Optimizer, build_optimizer, gradients_of, parameters_of, retune, scale_rate
from .nets.precision import LossScale
from .parts.losses import cross_entropy
from .randomness import global_randomness
from .setting import NoOptions, Setting
from .training import OptimizerConfig


class Learner:
    """A network that learns by steps.

    What the kernel keeps up to date, each (classes,) bool: `exposed`, the classes seen so far;
    `current_classes`, those of the current experience, where boundaries are shown (else all). views: makes
    further views of images, where the stream is augmented.
    """

    options: Any
    needs: ClassVar[Needs]
    backbone: ClassVar[Mapping[str, Any]]
    ledger_kinds: ClassVar[Mapping[str, str]]
    accounting: ClassVar[type[Account]] = Account

    def __init__(self, setting: Setting, options: Any = None) -> None:
        self.setting = setting
        self.options = self.options_type()() if options is None else options
        self.account = self.accounting(self)
        self.exposed = torch.zeros(setting.num_classes, dtype=torch.bool, device=setting.device)
        self.current_classes = torch.ones_like(self.exposed)
        self.rate_factor, self.buffers_made = 1.0, 0
        self.views = Views(setting.augment.steps, setting.seed, "strategy", "view")
        self.loss_scale = LossScale() if setting.precision == "float16" else None
        with global_randomness(setting.seed, "setup"):
            self.net = self.make_network()
            if self.needs.learning_backbone and not any(
                parameter.requires_grad for parameter in self.net.backbone.parameters()
            ):
                name = str((setting.backbone or self.backbone).get("name"))
                raise StreamlabError(
                    f"{type(self).__name__} learns a whole network, and the backbone {name} is frozen"
                )
            self.optimizer: Optimizer | None = self.make_optimizer(self.net.parameters())
            self.setup()

    @classmethod
    def options_type(cls) -> type:
        """The dataclass that the class's annotation `options: …` names."""
        found = get_type_hints(cls).get("options")
        return found if isinstance(found, type) and dataclasses.is_dataclass(found) else NoOptions

    # What a strategy defines, and the tools below rest on.

    def setup(self) -> None:
        """Make buffers, statistics and further modules. `self.net` and `self.optimizer` exist."""

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, D) embeddings: the network's features, unless a method has its own."""
        return self.net.features(images)

    def bytes_to_come(self, experiences: int = 1) -> int:
        """Bytes beyond today's that it may hold in so many coming experiences (a teacher, say).

        They are set aside in a budget. What grows with every experience may depend on `experiences`;
        where boundaries are shown, the kernel asks again before each.
        """
        return 0

    def parameters_to_come(self, experiences: int = 1) -> int:
        """Parameters beyond today's that its network at rest will have after them, heads left out."""
        return 0

    # Learning.

    def cross_entropy(self, logits: Tensor, labels: Tensor, among: Tensor | None = None) -> Tensor:
        """Cross-entropy of (B, K) logits and (B,) labels, smoothed as the optimizer's section says.

        among: (K,) bool, the classes that compete (None: all).
        """
        return cross_entropy(logits, labels, among, self.setting.optimizer.label_smoothing)

    def step(self, losses: Mapping[str, Tensor]) -> None:
        """One optimizer step on the sum of the losses, from no gradients to none."""
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        first, *others = losses.values()
        total = sum(others, first)
        if self.loss_scale is None:
            torch.autograd.backward(total)
            self.apply_gradients()
        else:
            torch.autograd.backward(total * self.loss_scale.scale)
            if self.loss_scale.unscale(gradients_of(self.optimizer)):
                self.apply_gradients()
        self.optimizer.zero_grad()

    def apply_gradients(self) -> None:
        """One optimizer step by the gradients that the parameters hold, clipped where that is asked for."""
        assert self.optimizer is not None
        if self.setting.optimizer.clip:
            torch.nn.utils.clip_grad_norm_(parameters_of(self.optimizer), self.setting.optimizer.clip)
        self.optimizer.step()

    def rate(self) -> float:
        """The learning rate now, as the schedule has it."""
        return self.setting.optimizer.lr * self.rate_factor

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The configured optimizer over these parameters, its rate where the schedule is."""
        made = build_optimizer(self.setting.optimizer, parameters, self.net.backbone.parameters())
        scale_rate(made, self.rate_factor)
        return made

    def schedule_rate(self, factor: float) -> None:
        """The schedule has come to this share of the rate; called by the kernel before an update."""
        if factor != self.rate_factor and self.optimizer is not None:
            scale_rate(self.optimizer, factor)
        self.rate_factor = factor

    def tune(self, config: OptimizerConfig, restart: bool = False) -> None:
        """An experience has an optimizer configuration of its own; called by the kernel before it begins.

        restart: what the optimizer has gathered (momentum) is forgotten.
        """
        before, self.setting = self.setting.optimizer, dataclasses.replace(self.setting, optimizer=config)
        if self.optimizer is not None and config != before:
            retune(self.optimizer, before, config)
        if self.optimizer is not None and restart:
            self.optimizer.state.clear()

    # The network.

    def features_of(self, images: Tensor) -> Tensor:
        """(n, C, H, W) uint8 -> (n, D) the network's features as at an evaluation."""
        return self._in_evaluation(self.net.features, images)

    def embeddings_of(self, images: Tensor) -> Tensor:
        """(n, C, H, W) uint8 -> (n, D) embeddings as at an evaluation."""
        return self._in_evaluation(self.embed, images)

    @torch.no_grad()
    def _in_evaluation(self, of: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """No gradient, some images at a time (Network.images_at_once)."""
        training = self.net.training
        self.train_mode(False)
        parts = [of(part) for part in torch.split(images, self.net.images_at_once(images.shape[1:]))]
        self.train_mode(training)
        return torch.cat(parts)

    def train_mode(self, training: bool) -> None:
        """Put the network into training or evaluation mode; what is frozen stays in evaluation mode."""
        self.net.train(training)
        if not any(parameter.requires_grad for parameter in self.net.backbone.parameters()):
            self.net.backbone.eval()

    def make_network(self) -> Network:
        """A new network as the run's configuration says, drawn from torch's global generator."""
        setting = self.setting
        options = setting.backbone or self.backbone
        made = build_network(
            options,
            setting.image_shape,
            setting.num_classes,
            setting.pixels,
            setting.precision,
            setting.preprocess,
        )
        return made.to(setting.device)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Those of the network that learn: all but a frozen backbone's."""
        return [parameter for parameter in self.net.parameters() if parameter.requires_grad]

    def replace_head(self, head: nn.Module) -> None:
        """Classify by another head (D) -> (classes), trained by an optimizer made anew."""
        self.net.head = head.to(self.setting.device)
        trained = self.trained_parameters()
        self.optimizer = self.make_optimizer(trained) if trained else None

    # Buffers.

    def make_buffer(
        self, policy: str | type[Buffer] = "reservoir", extras: dict[str, tuple[int, ...]] | None = None
    ) -> Buffer:
        """A buffer whose capacity the budget decides; extras are columns, name -> shape of one.

        policy: by name, or a class of one's own.
        """
        if isinstance(policy, str) and policy not in POLICIES:
            raise unknown("buffer policy", policy, POLICIES)
        kind = POLICIES[policy] if isinstance(policy, str) else policy
        name = f"buffer-{self.buffers_made}"
        self.buffers_made += 1
        setting = self.setting
        made = kind(setting.image_shape, setting.device, setting.seed, name, extras)
        if setting.augment.steps:
            made.views = Views(setting.augment.steps, setting.seed, name, "view")
        return made

    def make_herded_buffer(self) -> HerdedBuffer:
        """A buffer that is filled by herding at the end of an experience."""
        made = self.make_buffer("herding")
        assert isinstance(made, HerdedBuffer)
        return made
