"""What augmentation does to images, operation by operation: options, and how many numbers an image takes.

Importing this file imports no torch: an operation finds its pixels' arithmetic (geometry.py, colour.py,
policies.py) when it is asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ..config import at_least, within
from ..errors import StreamlabError
from .protocol import Operation, Plain, some

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Crop(Plain):
    """The image in a border of `padding` black pixels, cut to `size` pixels a side (0: to its own size) at a
    random place; of whole pictures, wherever in them.
    """

    padding: int = 4
    size: int = 0
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        at_least("augment", "crop's padding", self.padding, 0 if self.size else 1)
        at_least("augment", "crop's size", self.size, 0)

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image at a place of its own."""
        from .geometry import cropped

        return cropped(images, self.padding, (self.size, self.size) if self.size else (), uniforms)

    def of_wholes(self, pictures: Sequence[Tensor], uniforms: Tensor, size: Sequence[int]) -> Tensor:
        """Each picture's own part, of `size` or of the image's own size."""
        import torch

        from .geometry import cropped

        wanted = (self.size, self.size) if self.size else size
        parts = (cropped(one[None], self.padding, wanted, uniforms[number : number + 1])
                 for number, one in enumerate(pictures))  # fmt: skip
        return torch.cat(list(parts))

    def check(self, size: tuple[int, int]) -> tuple[int, int]:
        """A square of `size`, or the image's own size."""
        if self.size > min(size) + 2 * self.padding:
            raise StreamlabError(
                f"augment: crop's size is {self.size}, and images are {size[0]} x {size[1]} "
                f"with a border of {self.padding}"
            )
        return (self.size, self.size) if self.size else size


@dataclass(frozen=True)
class Flip(Plain):
    """Left for right, with this chance."""

    chance: float = 0.5
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        within("augment", "flip's chance", self.chance, 0, 1)

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Those that are drawn, turned."""
        return images.flip(3).where(some(uniforms, self.chance), images)


@dataclass(frozen=True)
class ResizedCrop(Plain):
    """A part of `scale` of the area and `ratio` of width to height, brought to `size` pixels a side, or with
    size 0 to the image's.

    Drawn as torchvision's RandomResizedCrop: ten tries, then the largest part in the middle; with antialias,
    as its resized_crop of a tensor. Of whole pictures, wherever in them.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    size: int = 0
    draws: ClassVar[int] = 40

    def __post_init__(self) -> None:
        _check_parts("resized-crop", self.scale, self.ratio)
        at_least("augment", "resized-crop's size", self.size, 0)

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image's own part, bilinearly."""
        from .geometry import resized, resized_crop_box

        return resized(
            images, resized_crop_box(self.scale, self.ratio, images.shape[2:], uniforms), self.size
        )

    def of_wholes(self, pictures: Sequence[Tensor], uniforms: Tensor, size: Sequence[int]) -> Tensor:
        """Each picture's own part, wherever in it."""
        from .geometry import resized_parts

        wanted = (self.size, self.size) if self.size else (size[0], size[1])
        return resized_parts(pictures, self.scale, self.ratio, uniforms, wanted)

    def check(self, size: tuple[int, int]) -> tuple[int, int]:
        """A square of `size`, or the image's own size."""
        return (self.size, self.size) if self.size else size


@dataclass(frozen=True)
class Jitter(Plain):
    """Brightness, contrast and saturation times factors from 1 - x (or 0) to 1 + x, and hue turned by up to
    `hue` of the circle either way, in a drawn order; all of it with this chance.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    chance: float = 1.0
    draws: ClassVar[int] = 9

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            at_least("augment", f"jitter's {name}", getattr(self, name), 0)
        within("augment", "jitter's hue", self.hue, 0, 0.5)
        within("augment", "jitter's chance", self.chance, 0, 1)

    @property
    def amounts(self) -> dict[str, float]:
        """How far each change goes at most, of those that there are."""
        named = ("brightness", "contrast", "saturation", "hue")
        return {name: getattr(self, name) for name in named if getattr(self, name)}

    @property
    def coloured(self) -> str:
        """The first of its changes that needs colour, if any."""
        return "jitter's saturation" if self.saturation else "jitter's hue" if self.hue else ""

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image's own factors, in its own order."""
        from .colour import jittered

        made = jittered(images, self.amounts, uniforms)
        return made if self.chance == 1 else made.where(some(uniforms[:, 8:], self.chance), images)


@dataclass(frozen=True)
class Grey(Plain):
    """All colours as their luminance, with this chance."""

    chance: float = 0.1
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        within("augment", "grey's chance", self.chance, 0, 1)

    @property
    def coloured(self) -> str:
        """All of it."""
        return "grey"

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Those that are drawn, in greys."""
        from .colour import grey

        return grey(images).where(some(uniforms, self.chance), images)


@dataclass(frozen=True)
class Erasing(Plain):
    """A part of `scale` of the area and `ratio` of height to width filled with `level`, with this chance.

    Drawn as torchvision's RandomErasing: ten tries, then nothing is erased. Levels are pixels', before an
    image is normalised.
    """

    chance: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    level: int = 0
    draws: ClassVar[int] = 41

    def __post_init__(self) -> None:
        within("augment", "erasing's chance", self.chance, 0, 1)
        within("augment", "erasing's level", self.level, 0, 255)
        _check_parts("erasing", self.scale, self.ratio)

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image's own box."""
        from .geometry import erased, erasing_box

        boxes = erasing_box(self.scale, self.ratio, images.shape[2:], uniforms[:, 1:])
        return erased(images, boxes, self.level).where(some(uniforms, self.chance), images)


@dataclass(frozen=True)
class Cutout(Plain):
    """A square of `size` pixels a side in black, around any pixel; what of it lies outside is cut off.

    Source: DeVries and Taylor 2017, arXiv 1708.04552; an odd side is one pixel shorter, as in their code.
    """

    size: int = 16
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        at_least("augment", "cutout's size", self.size, 2)

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image at a place of its own."""
        from .geometry import cut_out

        return cut_out(images, self.size // 2, uniforms)


@dataclass(frozen=True)
class Affine(Plain):
    """Turned by up to `rotate` degrees and slanted by up to `shear` either way, `scale` times as large, and
    shifted by up to `shift` of a side; black comes in from outside. Drawn as torchvision's RandomAffine.
    """

    rotate: float = 0.0
    shear: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    draws: ClassVar[int] = 5

    def __post_init__(self) -> None:
        for name in ("rotate", "shear", "shift"):
            at_least("augment", f"affine's {name}", getattr(self, name), 0)
        within("augment", "affine's shear", self.shear, 0, 80)
        within("augment", "affine's shift", self.shift, 0, 1)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise StreamlabError(f"augment: affine's scale is {self.scale}, and must be two sizes, in order")

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image by a map of its own."""
        from .geometry import inverse_maps, warped

        height, width = images.shape[2:]
        signed = uniforms * 2 - 1
        angles, slants = (
            (signed[:, :2] * images.new_tensor((self.rotate, self.shear), dtype=signed.dtype)).deg2rad().T
        )
        sizes = self.scale[0] + (self.scale[1] - self.scale[0]) * uniforms[:, 2]
        across, down = (
            (signed[:, 3] * self.shift * width).round(),
            (signed[:, 4] * self.shift * height).round(),
        )
        return warped(images, inverse_maps(angles, slants, sizes, across, down), self.interpolation)


@dataclass(frozen=True)
class Resize(Plain):
    """Brought to `size` pixels a side, both, with antialias, as torchvision's Resize((size, size))."""

    size: int
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    draws: ClassVar[int] = 0

    def __post_init__(self) -> None:
        at_least("augment", "resize's size", self.size, 1)

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """All alike."""
        from .geometry import brought

        return brought(images, (self.size, self.size), self.interpolation)

    def check(self, size: tuple[int, int]) -> tuple[int, int]:
        """A square of `size`."""
        return self.size, self.size


@dataclass(frozen=True)
class Blur(Plain):
    """A Gaussian over `size` pixels a side, whose deviation is drawn from `sigma`, with this chance, as
    torchvision's GaussianBlur.
    """

    size: int = 3
    sigma: tuple[float, float] = (0.1, 2.0)
    chance: float = 1.0
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        within("augment", "blur's chance", self.chance, 0, 1)
        if self.size < 1 or self.size % 2 == 0:
            raise StreamlabError(f"augment: blur's size is {self.size}, and must be odd")
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise StreamlabError(f"augment: blur's sigma is {self.sigma}, and must be two above 0, in order")

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image by a deviation of its own."""
        from .colour import blurred

        sigmas = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * uniforms[:, 1]
        return blurred(images, self.size, sigmas).where(some(uniforms, self.chance), images)

    def check(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) as it is; a mirrored border is no wider than the image."""
        if self.size // 2 >= min(size):
            raise StreamlabError(
                f"augment: blur's size is {self.size}, too wide for images of {min(size)} pixels"
            )
        return size


@dataclass(frozen=True)
class RandAugment(Plain):
    """`count` changes of fourteen one after the other, at `magnitude` of `bins` steps, as torchvision's."""

    count: int = 2
    magnitude: int = 9
    bins: int = 31

    def __post_init__(self) -> None:
        at_least("augment", "rand-augment's count", self.count, 1)
        at_least("augment", "rand-augment's bins", self.bins, 2)
        within("augment", "rand-augment's magnitude", self.magnitude, 0, self.bins - 1)

    @property
    def draws(self) -> int:
        """A change and a direction, so many times."""
        return 2 * self.count

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image by changes of its own."""
        from .policies import rand_augmented

        return rand_augmented(images, self.count, self.magnitude, self.bins, uniforms)


@dataclass(frozen=True)
class TrivialAugment(Plain):
    """One change of fourteen at any of `bins` magnitudes, as torchvision's TrivialAugmentWide."""

    bins: int = 31
    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        at_least("augment", "trivial-augment's bins", self.bins, 2)

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image by a change of its own."""
        from .policies import trivially_augmented

        return trivially_augmented(images, self.bins, uniforms)


@dataclass(frozen=True)
class AutoAugment(Plain):
    """A pair of changes out of the 25 that were found for `policy`, as torchvision's, with this chance."""

    policy: Literal["cifar-10", "imagenet"] = "imagenet"
    chance: float = 1.0

    def __post_init__(self) -> None:
        within("augment", "auto-augment's chance", self.chance, 0, 1)

    @property
    def draws(self) -> int:
        """Those of a pair, and whether it is at all."""
        return 5 if self.chance == 1 else 6

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Each image by a pair of its own."""
        from .policies import auto_augmented

        made = auto_augmented(images, self.policy, uniforms)
        return made if self.chance == 1 else made.where(some(uniforms[:, 5:], self.chance), images)


def _check_parts(operation: str, scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Raise StreamlabError where shares of an area, or ratios of sides, are none."""
    for name, (low, high) in (("scale", scale), ("ratio", ratio)):
        if not 0 < low <= high:
            raise StreamlabError(f"augment: {operation}'s {name} is {low}, {high}; give two, in order")
    within("augment", f"{operation}'s largest scale", scale[1], 0, 1)


OPERATIONS: Mapping[str, type[Operation]] = {
    "crop": Crop, "flip": Flip, "resized-crop": ResizedCrop, "affine": Affine, "resize": Resize,
    "jitter": Jitter, "grey": Grey, "blur": Blur, "erasing": Erasing, "cutout": Cutout,
    "rand-augment": RandAugment, "trivial-augment": TrivialAugment, "auto-augment": AutoAugment,
}  # fmt: skip
