"""A picture in a terminal: half blocks, two pixels a character; shades where there is no colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHADES = " ░▒▓█"


def half_blocks(image: NDArray[np.uint8], coloured: bool, size: int = 14) -> list[Text]:
    """(C, H, W), of one channel or three, as size / 2 lines of `size` characters."""
    from PIL import Image

    small = as_picture(image).convert("RGB").resize((size, size), Image.Resampling.BOX)
    pixels = np.asarray(small).astype(int)
    lines = []
    for top, bottom in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        line = Text()
        for upper, lower in zip(top, bottom, strict=True):
            if coloured:
                line.append("▀", Style(color=_rgb(upper), bgcolor=_rgb(lower)))
            else:
                line.append(_SHADES[sum(upper + lower) * 5 // (6 * 256)])
        lines.append(line)
    return lines


def as_picture(image: NDArray[np.uint8]) -> Any:
    """(C, H, W) as Pillow has it: grey, colour, or the mean of other channels."""
    from PIL import Image

    if len(image) == 3:
        return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return Image.fromarray(np.ascontiguousarray(image.mean(0).astype(np.uint8)))


def _rgb(levels: list[int]) -> str:
    return f"rgb({levels[0]},{levels[1]},{levels[2]})"
