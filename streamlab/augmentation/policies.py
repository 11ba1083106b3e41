"""RandAugment, TrivialAugment and AutoAugment: a few of fourteen changes, drawn for each image.

Changes, magnitudes and policies are torchvision's, which are the papers': Cubuk et al. 2019 (AutoAugment,
tables of its appendix) and 2020 (RandAugment), Mueller and Hutter 2021 (TrivialAugment, its wide space).
Images of one change are changed in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .colour import blended, equalized, posterized, sharpened, solarized, stretched
from .geometry import warped


def _map(images: Tensor, **entries: Tensor | float) -> Tensor:
    """Every image looked up where its map says, to the nearest pixel. entries: of xx, xy, x, yx, yy, y."""
    unmoved = {"xx": 1.0, "xy": 0.0, "x": 0.0, "yx": 0.0, "yy": 1.0, "y": 0.0}
    columns = [
        torch.as_tensor(value, dtype=torch.float32, device=images.device).expand(len(images))
        for value in {**unmoved, **entries}.values()
    ]
    return warped(images, torch.stack(columns, 1).view(-1, 2, 3), "nearest")


def _shear_x(images: Tensor, amounts: Tensor) -> Tensor:
    """About the upper left corner, as the paper's code does."""
    return _map(images, xy=amounts, x=amounts * images.shape[2] / 2)


def _shear_y(images: Tensor, amounts: Tensor) -> Tensor:
    return _map(images, yx=amounts, y=amounts * images.shape[3] / 2)


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise, about the middle."""
    turns = torch.deg2rad(degrees)
    return _map(images, xx=turns.cos(), xy=-turns.sin(), yx=turns.sin(), yy=turns.cos())


CHANGES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda images, amounts: images,
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": lambda images, amounts: _map(images, x=-amounts.trunc()),
    "translate-y": lambda images, amounts: _map(images, y=-amounts.trunc()),
    "rotate": _rotate,
    "brightness": lambda images, amounts: blended(images, "brightness", 1 + amounts),
    "colour": lambda images, amounts: blended(images, "saturation", 1 + amounts),
    "contrast": lambda images, amounts: blended(images, "contrast", 1 + amounts),
    "sharpness": lambda images, amounts: sharpened(images, 1 + amounts),
    "posterize": posterized,
    "solarize": solarized,
    "auto-contrast": lambda images, amounts: stretched(images),
    "equalize": lambda images, amounts: equalized(images),
    "invert": lambda images, amounts: 255 - images,
}
_NAMES = tuple(CHANGES)
_SIGNED = torch.tensor([name not in _NAMES[10:] and name != "identity" for name in _NAMES])


@dataclass(frozen=True)
class Space:
    """How far each change goes at most. shift: of a translation, in pixels across and down."""

    shear: float
    shift: tuple[float, float]
    turn: float
    factor: float
    bits: int

    def magnitudes(self, bins: int) -> Tensor:
        """(changes, bins): the magnitude of each change at each of so many steps."""
        steps = torch.linspace(0, 1, bins)
        most = [0, self.shear, self.shear, *self.shift, self.turn, *[self.factor] * 4]
        bits = 8 - (torch.arange(bins) / ((bins - 1) / self.bits)).round()
        rows = [steps * value for value in most]
        return torch.stack([*rows, bits, 255 * (1 - steps), *[torch.zeros(bins)] * 3])


def space_of(height: int, width: int) -> Space:
    """AutoAugment's and RandAugment's."""
    return Space(0.3, (150 / 331 * width, 150 / 331 * height), 30, 0.9, 4)


WIDE = Space(0.99, (32, 32), 135, 0.99, 6)


def changed(images: Tensor, numbers: Tensor, amounts: Tensor) -> Tensor:
    """(n, C, H, W) uint8, the number of each image's change (n,) int64, and how far (n,) -> the changed."""
    made = images.clone()
    for number, change in enumerate(CHANGES.values()):
        rows = torch.nonzero(numbers == number).flatten()
        if len(rows) and number:
            made[rows] = change(images[rows], amounts[rows])
    return made


def rand_augmented(images: Tensor, count: int, magnitude: int, bins: int, uniforms: Tensor) -> Tensor:
    """`count` changes one after the other, each any of the fourteen, all at one magnitude, either way."""
    table = space_of(*images.shape[2:]).magnitudes(bins)[:, magnitude].to(images.device)
    for turn in range(count):
        numbers = (uniforms[:, 2 * turn] * 14).long()
        images = changed(images, numbers, _signed(table[numbers], numbers, uniforms[:, 2 * turn + 1]))
    return images


def trivially_augmented(images: Tensor, bins: int, uniforms: Tensor) -> Tensor:
    """One change, any of the fourteen, at any magnitude of the wide space, either way."""
    table = WIDE.magnitudes(bins).to(images.device)
    numbers = (uniforms[:, 0] * 14).long()
    amounts = table[numbers, (uniforms[:, 1] * bins).long()]
    return changed(images, numbers, _signed(amounts, numbers, uniforms[:, 2]))


def auto_augmented(images: Tensor, policy: str, uniforms: Tensor) -> Tensor:
    """One of the policy's 25 pairs of changes, each with its own chance and magnitude, either way."""
    pairs = _pairs(policy).to(images.device)
    table = space_of(*images.shape[2:]).magnitudes(10).to(images.device)
    chosen = pairs[(uniforms[:, 0] * len(pairs)).long()]
    for turn in range(2):
        number, chance, step = chosen[:, turn].unbind(1)
        numbers = torch.where(uniforms[:, 1 + turn] < chance, number.long(), 0)
        amounts = table[numbers, step.long()]
        images = changed(images, numbers, _signed(amounts, numbers, uniforms[:, 3 + turn]))
    return images


def _signed(amounts: Tensor, numbers: Tensor, uniforms: Tensor) -> Tensor:
    """Negative for half of the images, where a change has two directions."""
    turned = _SIGNED.to(amounts.device)[numbers] & (uniforms < 0.5)
    return torch.where(turned, -amounts, amounts)


@cache
def _pairs(policy: str) -> Tensor:
    """(25, 2, 3): number of the change, its chance, its step of ten."""
    words = POLICIES[policy].split()
    rows = [
        (_NAMES.index(name), float(chance), int(step))
        for name, chance, step in zip(words[::3], words[1::3], words[2::3], strict=True)
    ]
    return torch.tensor(rows).view(-1, 2, 3)


POLICIES: Mapping[str, str] = {
    "cifar-10": """
    invert 0.1 0  contrast 0.2 6
    rotate 0.7 2  translate-x 0.3 9
    sharpness 0.8 1  sharpness 0.9 3
    shear-y 0.5 8  translate-y 0.7 9
    auto-contrast 0.5 0  equalize 0.9 0
    shear-y 0.2 7  posterize 0.3 7
    colour 0.4 3  brightness 0.6 7
    sharpness 0.3 9  brightness 0.7 9
    equalize 0.6 0  equalize 0.5 0
    contrast 0.6 7  sharpness 0.6 5
    colour 0.7 7  translate-x 0.5 8
    equalize 0.3 0  auto-contrast 0.4 0
    translate-y 0.4 3  sharpness 0.2 6
    brightness 0.9 6  colour 0.2 8
    solarize 0.5 2  invert 0.0 0
    equalize 0.2 0  auto-contrast 0.6 0
    equalize 0.2 0  equalize 0.6 0
    colour 0.9 9  equalize 0.6 0
    auto-contrast 0.8 0  solarize 0.2 8
    brightness 0.1 3  colour 0.7 0
    solarize 0.4 5  auto-contrast 0.9 0
    translate-y 0.9 9  translate-y 0.7 9
    auto-contrast 0.9 0  solarize 0.8 3
    equalize 0.8 0  invert 0.1 0
    translate-y 0.7 9  auto-contrast 0.9 0
    """,
    "imagenet": """
    posterize 0.4 8  rotate 0.6 9
    solarize 0.6 5  auto-contrast 0.6 0
    equalize 0.8 0  equalize 0.6 0
    posterize 0.6 7  posterize 0.6 6
    equalize 0.4 0  solarize 0.2 4
    equalize 0.4 0  rotate 0.8 8
    solarize 0.6 3  equalize 0.6 0
    posterize 0.8 5  equalize 1.0 0
    rotate 0.2 3  solarize 0.6 8
    equalize 0.6 0  posterize 0.4 6
    rotate 0.8 8  colour 0.4 0
    rotate 0.4 9  equalize 0.6 0
    equalize 0.0 0  equalize 0.8 0
    invert 0.6 0  equalize 1.0 0
    colour 0.6 4  contrast 1.0 8
    rotate 0.8 8  colour 1.0 2
    colour 0.8 8  solarize 0.8 7
    sharpness 0.4 7  invert 0.6 0
    shear-x 0.6 5  equalize 1.0 0
    colour 0.4 0  equalize 0.6 0
    equalize 0.4 0  solarize 0.2 4
    solarize 0.6 5  auto-contrast 0.6 0
    invert 0.6 0  equalize 1.0 0
    colour 0.6 4  contrast 1.0 8
    equalize 0.8 0  equalize 0.6 0
    """,
}
"""Each line a pair: a change, its chance, its step of ten; and again."""
