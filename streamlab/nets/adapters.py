"""Small learners inside a frozen backbone: AdaptFormer's branches, SSF, visual prompts, LoRA.

Each can be switched off: the backbone is then the pretrained one, to the bit, so that both features are had
from one network. What learns is in no weights file, and so in the checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import at_least
from ..errors import StreamlabError
from .lora import put_in
from .network import Backbone, frozen_copy
from .transformer import PromptedTransformer, Switched

AdapterKind = Literal["adapter", "ssf", "vpt-shallow", "vpt-deep", "lora", "fine-tuning"]
KINDS: tuple[AdapterKind, ...] = get_args(AdapterKind)


class Adaptation(Protocol):
    """Small learners in a backbone. parameters: what they learn."""

    @property
    def parameters(self) -> list[nn.Parameter]: ...

    def without(self, backbone: Backbone, images: Tensor) -> Tensor:
        """(B, C, H, W) scaled images -> (B, D) features of the backbone as it was before."""
        ...


class Branch(Switched):
    """AdaptFormer's branch beside a block's MLP (Chen et al. 2022): 0.1 · up(dropout(relu(down(x)))).

    Begins at nothing: up is 0, down as LoRA's (Kaiming uniform with a = √5), biases 0; dropout 0.1.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(size, width), nn.Linear(width, size)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for tensor in (self.up.weight, self.up.bias, self.down.bias):
            nn.init.zeros_(tensor)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = F.dropout(F.relu(self.down(tokens)), 0.1, self.training)
        return cast(Tensor, 0.1 * self.up(hidden))


class Choice(Switched):
    """One of several tasks' branches beside a block's MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        self.number = 0

    def forward(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.branches[self.number](tokens))


class BranchSets:
    """Sets of branches in one frozen transformer, of which the newest learns and one is on.

    There is one set at first. width: of their bottlenecks.
    """

    def __init__(self, backbone: PromptedTransformer, width: int) -> None:
        self.size, self.width = backbone.feature_size, width
        self.device = next(backbone.parameters()).device
        self.choices = [Choice() for _ in range(backbone.depth)]
        for block, choice in zip(backbone.model.blocks, self.choices, strict=True):
            block.branch = choice
        self.grow()

    def __len__(self) -> int:
        return len(self.choices[0].branches)

    def grow(self, anew: bool = True) -> None:
        """One set more, which is on; those before are frozen. anew: or it begins as the newest ended."""
        for choice in self.choices:
            choice.branches.requires_grad_(False)
            made = Branch(self.size, self.width).to(self.device)
            if not anew:
                made.load_state_dict(choice.branches[-1].state_dict())
            choice.branches.append(made)
            choice.number = len(choice.branches) - 1

    @torch.no_grad()
    def merge(self, share: float) -> None:
        """Move the newest set by this share towards the mean of those before, if there are any."""
        for choice in self.choices:
            newest, earlier = choice.branches[-1], choice.branches[:-1]
            for name, parameter in newest.named_parameters() if len(earlier) else ():
                mean = torch.stack([one.get_parameter(name) for one in earlier]).mean(0)
                parameter.lerp_(mean, share)

    @property
    def parameters_each(self) -> int:
        """Parameters of one set."""
        return sum(p.numel() for choice in self.choices for p in choice.branches[0].parameters())

    def features(self, backbone: Backbone, images: Tensor) -> Tensor:
        """(B, C, H, W) scaled images -> (B, sets · D): the backbone's features with each set on."""
        parts = []
        for number in range(len(self)):
            with self.chosen(number):
                parts.append(backbone(images))
        return torch.cat(parts, dim=1)

    @contextmanager
    def chosen(self, number: int) -> Iterator[None]:
        """Another set is on meanwhile."""
        before = self.choices[0].number
        for choice in self.choices:
            choice.number = number
        try:
            yield
        finally:
            for choice in self.choices:
                choice.number = before


class LowRank(nn.Module):
    """A fused qkv layer whose keys and values have low-rank terms: W + sum of up · down over sessions.

    down: (rank, C), given and not learned, the same for keys and values; up: (2, C, rank), learned, from 0.
    Source: InfLoRA (Liang and Li 2024), eq. 3; weight, bias: of the whole layer.
    """

    def __init__(self, inner: nn.Linear, rank: int) -> None:
        super().__init__()
        self.inner, self.rank = inner, rank
        size, like = inner.in_features, inner.weight
        self.old_down: Tensor
        self.old_up: Tensor
        self.register_buffer("old_down", like.new_zeros(0, size))
        self.register_buffer("old_up", like.new_zeros(2, size, 0))
        self.down: Tensor
        self.register_buffer("down", like.new_zeros(rank, size))
        self.up = nn.Parameter(like.new_zeros(2, size, rank))

    @torch.no_grad()
    def begin(self, down: Tensor) -> None:
        """A session begins with this map (rank, C); what the one before learned stays."""
        if bool(self.down.any()):
            self.old_down = torch.cat([self.old_down, self.down])
            self.old_up = torch.cat([self.old_up, self.up], dim=2)
        self.down = down.clone()
        self.up = nn.Parameter(torch.zeros_like(self.up))

    @property
    def weight(self) -> Tensor:
        size = self.inner.weight.shape[1]
        terms = torch.cat([self.old_up, self.up], dim=2) @ torch.cat([self.old_down, self.down])
        return torch.cat([self.inner.weight[:size], self.inner.weight[size:] + terms.flatten(0, 1)])

    @property
    def bias(self) -> Tensor | None:
        bias = self.inner.bias
        assert bias is None or isinstance(bias, Tensor)
        return bias


class Scaled(Switched):
    """SSF (Lian et al. 2022): what a layer gives, scaled and shifted a channel; begins near 1 and 0.

    weight, bias: of a linear layer with scale and shift merged into it.
    """

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__()
        self.inner = inner
        self.scale = nn.Parameter(torch.empty(size).normal_(1, 0.02))
        self.shift = nn.Parameter(torch.empty(size).normal_(0, 0.02))

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.inner(images)
        if not self.on:
            return made
        if isinstance(self.inner, nn.Conv2d):
            return made * self.scale[:, None, None] + self.shift[:, None, None]
        return made * self.scale + self.shift

    @property
    def weight(self) -> Tensor:
        weight = self.inner.weight
        assert isinstance(weight, Tensor)
        return weight * self.scale[:, None] if self.on else weight

    @property
    def bias(self) -> Tensor | None:
        bias = self.inner.bias
        assert bias is None or isinstance(bias, Tensor)
        if not self.on:
            return bias
        return self.shift if bias is None else bias * self.scale + self.shift


class VisualPrompts(Switched):
    """VPT (Jia et al. 2022): rows (blocks, L, C) joined to the tokens of each block, or of the first.

    Deep ones, of all blocks, are removed after their block; shallow ones go through all. They begin at 0, as
    PILOT's do.
    """

    def __init__(self, blocks: int, length: int, size: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(blocks, length, size))


class _Learners:
    """Switched modules inside a backbone."""

    def __init__(self, modules: list[Switched]) -> None:
        self.modules = modules

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What they learn: not the layers that they stand around."""
        return [p for module in self.modules for p in module.parameters() if p.requires_grad]

    def without(self, backbone: Backbone, images: Tensor) -> Tensor:
        with self._off():
            features: Tensor = backbone(images)
        return features

    @contextmanager
    def _off(self) -> Iterator[None]:
        for module in self.modules:
            module.on = False
        try:
            yield
        finally:
            for module in self.modules:
                module.on = True


class _Tuned:
    """The whole backbone learns; a copy stays as it was."""

    def __init__(self, backbone: Backbone) -> None:
        self.before, self.backbone = frozen_copy(backbone), backbone

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.backbone.parameters())

    def without(self, backbone: Backbone, images: Tensor) -> Tensor:
        features: Tensor = self.before(images)
        return features


@dataclass(frozen=True)
class Adapting:
    """Options of small learners. width: of an adapter's bottleneck; prompts: rows of visual prompts; rank,
    alpha, layers: of LoRA's terms, whose factor is alpha / rank, beside the layers of these names.
    """

    width: int = 64
    prompts: int = 5
    rank: int = 8
    alpha: int = 8
    layers: tuple[str, ...] = ("qkv",)

    def __post_init__(self) -> None:
        for name in ("width", "prompts", "rank"):
            at_least("adapt", name, getattr(self, name), 1)
        if not self.layers:
            raise StreamlabError("adapt: layers names no layer")


def adapt(where: str, backbone: Backbone, kind: AdapterKind, options: Adapting) -> Adaptation:
    """Put small learners into a backbone and freeze all else; returns what switches them.

    They are drawn from torch's global generator. Raises StreamlabError for adapters and prompts on a backbone
    without a transformer's blocks, and for SSF and LoRA on one without layers that they stand beside.
    """
    backbone.requires_grad_(kind == "fine-tuning")
    if kind == "fine-tuning":
        return _Tuned(backbone)
    if kind == "ssf":
        return _Learners(_scale_all(where, backbone))
    if kind == "lora":
        return _Learners(put_in(where, backbone, options.layers, options.rank, options.alpha))
    if not isinstance(backbone, PromptedTransformer):
        raise StreamlabError(
            f"{where}: adapt is {kind}, and {type(backbone).__name__.strip('_')} has no blocks of a "
            f"transformer; ssf, lora and fine-tuning take any backbone"
        )
    device = next(backbone.parameters()).device
    if kind == "adapter":
        branches = [Branch(backbone.feature_size, options.width).to(device) for _ in range(backbone.depth)]
        for block, branch in zip(backbone.model.blocks, branches, strict=True):
            block.branch = branch
        return _Learners([*branches])
    blocks = backbone.depth if kind == "vpt-deep" else 1
    backbone.visual_prompts = VisualPrompts(blocks, options.prompts, backbone.feature_size).to(device)
    return _Learners([backbone.visual_prompts])


def _scale_all(where: str, backbone: Backbone) -> list[Switched]:
    """Every linear layer, convolution and layer norm of a backbone, scaled; in the order of its modules."""
    found: list[Switched] = []
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            size = _channels(child)
            if size:
                scaled = Scaled(child, size).to(next(child.parameters()).device)
                setattr(parent, name, scaled)
                found.append(scaled)
    if not found:
        raise StreamlabError(f"{where}: adapt is ssf, and the backbone has no layer to scale")
    return found


def _channels(module: nn.Module) -> int:
    """Of what a layer gives: 0 where it is no layer that SSF scales."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[0]
    return 0
