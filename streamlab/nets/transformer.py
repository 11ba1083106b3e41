"""A frozen vision transformer that takes prompts: timm's, through one thin wrapper.

Tokens, the query (class token without prompts), blocks with appended or prefixed prompts, and the
feature (class token after the final norm). Expects timm's pre-norm blocks (norm1, attn with a fused
qkv, norm2, mlp) and a class token that comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import StreamlabError
from .network import Backbone
from .precision import full, in_precision


@dataclass(frozen=True, eq=False)
class Appended:
    """Prompt tuning: rows (B, L, C) joined to a block's input tokens, and removed after the block."""

    rows: Tensor


@dataclass(frozen=True, eq=False)
class Prefixed:
    """Prefix tuning: rows (B, L, C) for a block's keys, and as many for its values.

    projected: they are joined to what keys and values are projected from (as Si-Blurry's code); otherwise
    they are keys and values themselves, joined after the projection (as DualPrompt's).
    """

    keys: Tensor
    values: Tensor
    projected: bool = True


Prompts = Mapping[int, Appended | Prefixed]


class Switched(nn.Module):
    """A small learner inside a backbone, which can be switched off (adapters.py)."""

    on: bool = True


class PromptedTransformer(Backbone):
    """timm's VisionTransformer with prompts at chosen blocks.

    normalisation: mean and deviation of each channel that the weights expect (None: as they come).
    interpolation: of images of another size, which are adapted here, in the batch, as those of fewer channels
    are. Raises StreamlabError where the model has no blocks or no class token.
    """

    def __init__(
        self,
        model: Any,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__()
        self.interpolation = interpolation
        if not hasattr(model, "blocks") or getattr(model, "cls_token", None) is None:
            raise StreamlabError(
                f"{type(model).__name__} is no vision transformer with blocks and a class token, "
                f"and cannot take prompts"
            )
        for block in model.blocks:
            if not all(
                hasattr(block, part) for part in ("norm1", "ls1", "norm2", "ls2", "mlp")
            ) or not hasattr(getattr(block, "attn", None), "qkv"):
                raise StreamlabError(
                    f"{type(block).__name__} is no pre-norm block with a fused qkv, and cannot take prompts"
                )
        self.model = model
        self.visual_prompts: Switched | None = None
        self.feature_size = int(model.embed_dim)
        self.depth = len(model.blocks)
        self.side = int(model.patch_embed.img_size[0])
        self.channels = int(model.patch_embed.proj.in_channels)
        self.mean: Tensor
        self.deviation: Tensor
        self.expect(*(normalisation or ((0.0,), (1.0,))))

    def expect(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> bool:
        """Normalise pixels (0..1) by these, one number or one a channel; raises StreamlabError for others."""
        if len(mean) not in (1, self.channels):
            raise StreamlabError(
                f"preprocess: mean has {len(mean)} numbers, and the backbone takes images of {self.channels} "
                f"channel{'s' if self.channels > 1 else ''}"
            )
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])
        return True

    def adapted(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in 0..1 -> (B, channels, side, side), normalised."""
        if images.shape[1] != self.channels:
            images = images.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)
        if images.shape[-1] != self.side or images.shape[-2] != self.side:
            images = F.interpolate(images, (self.side, self.side), mode=self.interpolation, antialias=True)
        return (images - self.mean) / self.deviation

    def check_positions(self, where: str, positions: tuple[int, ...]) -> None:
        """Raise StreamlabError for prompts at blocks that there are not."""
        for position in positions:
            if not 0 <= position < self.depth:
                raise StreamlabError(
                    f"{where}: a prompt at block {position}, and the backbone has 0 to {self.depth - 1}"
                )

    def tokens(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images -> (B, 1 + patches, C): class token first, positions added."""
        patches = self.model.patch_embed(self.adapted(images))
        return cast(Tensor, self.model.norm_pre(self.model._pos_embed(patches)))

    @property
    def class_position(self) -> Tensor:
        """(C,) the position that is added to the class token; zeros where it has none."""
        table, prefix = self.model.pos_embed, int(getattr(self.model, "num_prefix_tokens", 1))
        patches = int(self.model.patch_embed.num_patches)
        if table is None or table.shape[1] != patches + prefix:
            return torch.zeros_like(self.model.cls_token[0, 0])
        return cast(Tensor, table[0, 0])

    @torch.no_grad()
    def query(self, images: Tensor, blocks: int | None = None) -> Tensor:
        """(B, C) the class token without prompts after so many blocks (None means all), not normed."""
        with in_precision(self.precision, images.device):
            return full(self._through_blocks(self.tokens(images), {}, FIRST, blocks)[:, 0])

    def through(self, images: Tensor, rows: Tensor) -> Tensor:
        """(B, L, C) what becomes of rows (B, L, C) that go through all blocks beside the image's tokens.

        After the final norm. They have no position but what they bring.
        """
        with in_precision(self.precision, images.device):
            tokens = torch.cat([self.tokens(images), rows], dim=1)
            ended = self._through_blocks(tokens, {}, slice(-rows.shape[1], None))
            return full(self.model.norm(ended))

    def forward(self, images: Tensor, prompts: Prompts | None = None) -> Tensor:
        """(B, C) the class token after the final norm, with prompts at the blocks that they name."""
        with in_precision(self.precision, images.device):
            tokens, prompts = self._with_visual_prompts(self.tokens(images), prompts or {})
            ended = self._through_blocks(tokens, prompts, FIRST)
            return full(self.model.norm(ended)[:, 0])

    def _with_visual_prompts(self, tokens: Tensor, prompts: Prompts) -> tuple[Tensor, Prompts]:
        """Learned rows (adapters.VisualPrompts): shallow ones among the tokens, deep ones at every block."""
        if self.visual_prompts is None or not self.visual_prompts.on:
            return tokens, prompts
        rows = self.visual_prompts.rows
        assert isinstance(rows, Tensor)
        several = [run.expand(len(tokens), -1, -1) for run in rows]
        if len(several) == 1 and self.depth > 1:
            return torch.cat([tokens, several[0]], dim=1), prompts
        return tokens, {**{block: Appended(run) for block, run in enumerate(several)}, **prompts}

    def _through_blocks(
        self, tokens: Tensor, prompts: Prompts, wanted: slice, blocks: int | None = None
    ) -> Tensor:
        """The wanted tokens after so many blocks; in the last of them nothing else is computed."""
        count = self.depth if blocks is None else blocks
        for number, block in enumerate(self.model.blocks[:count]):
            last = number == count - 1
            tokens = _block(block, tokens, prompts.get(number), wanted if last else ALL)
        return tokens


FIRST, ALL = slice(0, 1), slice(None)


def _block(block: Any, tokens: Tensor, prompt: Appended | Prefixed | None, wanted: slice) -> Tensor:
    """A pre-norm block for the wanted tokens alone: what others see of a prompt are its keys and values.

    Appended rows are removed after the block and other tokens are not wanted, so that neither asks
    for anything nor goes through the MLP: the same numbers as the whole block's, for less.
    Prefixed rows are not normed, and projected where the prompt says so.
    """
    attention = block.attn
    if isinstance(prompt, Appended):
        seen = block.norm1(torch.cat([tokens, prompt.rows], dim=1))
        asking, keys, values = seen[:, : tokens.shape[1]][:, wanted], seen, seen
    else:
        normed = block.norm1(tokens)
        asking, keys, values = normed if wanted is ALL else normed[:, wanted], normed, normed
        if prompt is not None and prompt.projected:
            keys, values = torch.cat([prompt.keys, normed], 1), torch.cat([prompt.values, normed], 1)
    size, heads = tokens.shape[-1], attention.num_heads
    query, key, value = (
        rows.view(*rows.shape[:2], heads, size // heads).transpose(1, 2)
        for rows in _projected(attention.qkv, (asking, keys, values), size)
    )
    query, key = attention.q_norm(query), attention.k_norm(key)
    if isinstance(prompt, Prefixed) and not prompt.projected:
        given_keys, given_values = (
            rows.view(*rows.shape[:2], heads, size // heads).transpose(1, 2)
            for rows in (prompt.keys, prompt.values)
        )
        key, value = torch.cat([given_keys, key], 2), torch.cat([given_values, value], 2)
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    mixed = attention.norm(mixed) if hasattr(attention, "norm") else mixed
    tokens = tokens[:, wanted] + block.ls1(attention.proj(mixed))
    made = tokens + block.ls2(block.mlp(block.norm2(tokens)))
    branch = getattr(block, "branch", None)  # adapters.Branch
    return cast(Tensor, made + branch(tokens) if branch is not None and branch.on else made)


def _projected(qkv: nn.Module, rows: Sequence[Tensor], size: int) -> list[Tensor]:
    """What asks, keys and values (B, L, C) of their rows, by a fused layer.

    One without a weight of its own (LoRA's) is asked for all three of the same rows at once.
    """
    if not hasattr(qkv, "weight"):
        made = {id(one): one for one in rows}
        whole = {place: qkv(one) for place, one in made.items()}
        return [whole[id(one)][..., n * size : (n + 1) * size] for n, one in enumerate(rows)]
    biases = (None, None, None) if qkv.bias is None else torch.split(cast(Tensor, qkv.bias), size)
    weights = torch.split(cast(Tensor, qkv.weight), size)
    return [F.linear(one, weight, bias) for one, weight, bias in zip(rows, weights, biases, strict=True)]


def as_transformer(where: str, backbone: Backbone) -> PromptedTransformer:
    """The backbone as one that takes prompts; raises StreamlabError where it is none."""
    if not isinstance(backbone, PromptedTransformer):
        raise StreamlabError(
            f"{where} needs a backbone with blocks that take prompts, as vit; "
            f"{type(backbone).__name__.strip('_')} has none"
        )
    return backbone


Prompting = Literal["append", "prefix", "projected-prefix"]


class PromptRows(nn.Module):
    """Learned rows for several blocks: one run of `length` rows a block, two where they are prefixes.

    rows: (entries, runs · length, C), drawn from -1 to 1, in the order of positions; with prefixes each block
    has its run for keys, then its run for values. prompting: appended to a block's tokens, or prefixes,
    which are projected by the block or not.
    """

    def __init__(
        self, entries: int, positions: tuple[int, ...], length: int, size: int, prompting: Prompting
    ) -> None:
        super().__init__()
        self.positions, self.length, self.prompting = positions, length, prompting
        runs = len(positions) * (1 if prompting == "append" else 2)
        self.rows = nn.Parameter(torch.empty(entries, runs * length, size).uniform_(-1, 1))

    def at(self, entries: Tensor, position: Tensor | float = 0.0) -> dict[int, Appended | Prefixed]:
        """By block the prompts of these entries (B,); position: (C,), added to appended rows."""
        runs = torch.split(self.rows[entries], self.length, dim=1)
        if self.prompting == "append":
            return {block: Appended(run + position) for block, run in zip(self.positions, runs, strict=True)}
        projected = self.prompting == "projected-prefix"
        return {
            block: Prefixed(runs[2 * place], runs[2 * place + 1], projected)
            for place, block in enumerate(self.positions)
        }


def begin_as_timm(head: nn.Module) -> None:
    """Give a linear classifier timm's initial values: truncated normals of deviation 0.02, biases 0."""
    assert isinstance(head, nn.Linear)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)


def cosine_distances(left: Tensor, right: Tensor) -> Tensor:
    """(B, D), (P, D) -> (B, P): 1 - cosine."""
    return 1 - F.normalize(left, dim=1) @ F.normalize(right, dim=1).T
