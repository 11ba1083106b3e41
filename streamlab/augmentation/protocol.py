"""What an operation of augmentation is, and what most of them have. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


class Operation(Protocol):
    """One step of a pipeline: a frozen dataclass of options, and what it does to a batch.

    draws: numbers that each image takes. coloured: what of it needs images of three channels (nothing: "").
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def draws(self) -> int: ...

    @property
    def coloured(self) -> str: ...

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """(n, C, H, W) uint8 and (n, draws) numbers in [0, 1) -> (n, C, H', W') uint8."""
        ...

    def check(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H', W') for images of (H, W); raises StreamlabError for what they cannot bear."""
        ...


class Plain:
    """What most operations have: images keep their size, and need no colour."""

    @property
    def coloured(self) -> str:
        """Nothing of it."""
        return ""

    def check(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) as it is."""
        return size


@runtime_checkable
class PartOfWhole(Protocol):
    """An operation that cuts a part, and can cut it of pictures of unequal size."""

    @property
    def draws(self) -> int: ...

    def of_wholes(self, pictures: Sequence[Tensor], uniforms: Tensor, size: Sequence[int]) -> Tensor:
        """Pictures (C, H, W) uint8 and (n, draws) numbers, all on the host -> (n, C, H', W') uint8.

        size: (H, W) of the images that are the pictures' middles.
        """
        ...


def some(uniforms: Tensor, chance: float) -> Tensor:
    """(n, 1, 1, 1) bool: which images are drawn, by their first number."""
    return (uniforms[:, 0] < chance)[:, None, None, None]
