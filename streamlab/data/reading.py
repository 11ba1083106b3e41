"""How picture files are read: brought to one size by a named rule, and to 8 bits of grey or colour."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CorruptFile, StreamlabError
from ..preprocess import Size, resized_size

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

_RULE = re.compile(r"(?:(\d+)x(\d+)|(\d+))(?:,(\d+))?(?:,(bilinear|bicubic))?(,whole)?")
_GREY = ("1", "L", "LA", "La")
_DEEP = "I;16"  # and its byte orders
_ORIENTATION = 0x0112
_LARGEST = 8192  # pixels a side that a picture is brought to
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Rule:
    """The size that pictures are brought to, as written after `@`.

    resize: pixels of the shorter side, or (H, W) to stretch to (None: as it lies). crop: pixels a side of the
    square that is cut from the middle (None: all). interpolation: bilinear or bicubic; both as Pillow's, and
    so as torchvision's Resize and CenterCrop of a picture. whole: of training pictures, what lies beyond the
    crop is kept beside it (streamlab.data.wholes).
    """

    resize: int | Size | None = None
    crop: int | None = None
    interpolation: str = "bilinear"
    whole: bool = False

    @staticmethod
    def read(text: str, where: str) -> Rule:
        """`32` (shorter side, then the middle), `256,224`, `92x92,84` (stretched); `,bicubic` and `,whole` at
        the end.
        """
        match = _RULE.fullmatch(text)
        if not match or any(number and not 0 < int(number) <= _LARGEST for number in match.groups()[:4]):
            raise StreamlabError(
                f"{where}: after @ stands a size: 32 (shorter side 32, and the 32x32 in the middle), "
                f"256,224 (shorter side 256, then 224x224), or 32x32 (stretched), {_LARGEST} at most"
            )
        high, wide, shorter, crop, interpolation, whole = match.groups()
        if shorter:
            return Rule(int(shorter), int(crop or shorter), interpolation or "bilinear", bool(whole))
        if whole:
            raise StreamlabError(f"{where}: pictures that are stretched have no part beyond; leave out whole")
        return Rule((int(high), int(wide)), int(crop) if crop else None, interpolation or "bilinear")

    def __str__(self) -> str:
        if self.resize is None:
            return ""
        size = "x".join(map(str, self.resize)) if isinstance(self.resize, tuple) else str(self.resize)
        crop = f",{self.crop}" if self.crop and str(self.crop) != size else ""
        how = ",bicubic" if self.interpolation == "bicubic" else ""
        return f"@{size}{crop}{how}" + (",whole" if self.whole else "")

    def size(self, size: Size) -> Size:
        """(H, W) of what is made of a picture of (H, W)."""
        return (self.crop, self.crop) if self.crop else self.resized(size)

    def resized(self, size: Size) -> Size:
        if self.resize is None:
            return size
        return self.resize if isinstance(self.resize, tuple) else resized_size(size, self.resize)

    def whole_of(self, picture: Image) -> Image:
        """The picture at its size, before anything is cut away."""
        from PIL.Image import Resampling

        height, width = self.resized((picture.height, picture.width))
        if (picture.width, picture.height) == (width, height):
            return picture
        return picture.resize((width, height), Resampling[self.interpolation.upper()])

    def middle_of(self, picture: Image) -> Image:
        """What is cut from a picture at its size; raises StreamlabError where the crop is larger than it."""
        height, width = picture.height, picture.width
        if self.crop is None or (height, width) == (self.crop, self.crop):
            return picture
        top, left = round((height - self.crop) / 2), round((width - self.crop) / 2)
        if top < 0 or left < 0:
            raise StreamlabError(f"a crop of {self.crop} is larger than {width}x{height}")
        return picture.crop((left, top, left + self.crop, top + self.crop))


@dataclass(frozen=True, eq=False)
class Kept:
    """A picture in a row of something. name: what it is called; stamp: what changes with its content."""

    row: int
    name: str
    stamp: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class InTable(Kept):
    """A picture in a table of `datasets`, whose `column` is not decoded."""

    table: Any
    column: str

    def open(self) -> Image:
        """What was stored: bytes, or the file that it names."""
        from PIL import Image

        stored = self.table[self.row][self.column]
        content = stored["bytes"] if stored else b""
        return Image.open(io.BytesIO(content) if content is not None else stored["path"])


@dataclass(frozen=True, eq=False)
class Made(Kept):
    """A picture that a dataset of torchvision makes, the first of what it gives for a row."""

    dataset: Any

    def open(self) -> Image:
        """What the dataset makes."""
        made: Image = self.dataset[self.row][0]
        return made


Picture = Path | InTable | Made


def opened(picture: Picture) -> Image:
    """The picture as Pillow opens it: of a file, its pixels not read yet; to be closed."""
    from PIL import Image

    return Image.open(picture) if isinstance(picture, Path) else picture.open()


@dataclass(frozen=True)
class Header:
    """What a picture's header says: (H, W) as it is shown, and whether it is grey."""

    size: Size
    grey: bool


def header(path: Picture) -> Header:
    """Raises CorruptFile, naming it, for what is no picture."""
    try:
        with opened(path) as picture:
            width, height = picture.size
            if picture.getexif().get(_ORIENTATION) in _SIDEWAYS:
                width, height = height, width
            return Header((height, width), picture.mode in _GREY or picture.mode.startswith(_DEEP))
    except Exception as error:  # whatever a decoder of Pillow's makes of what it is given
        raise _unreadable(path, error) from None


@dataclass(frozen=True, eq=False)
class Pixels:
    """(C, H, W) uint8 of a picture's middle and of the whole, of one channel or three, and what was converted
    on the way, as `16 bits scaled to 8`.
    """

    middle: NDArray[np.uint8]
    whole: NDArray[np.uint8]
    converted: list[str]


def pixels(path: Picture, rule: Rule, grey: bool) -> Pixels:
    """A picture brought to its size.

    Turned as EXIF says, transparent parts laid on white, 16 bits scaled by their range, CMYK and palettes as
    colours, the first frame of several. Raises CorruptFile, naming it, for what cannot be read, or whose
    range nobody can know (32 bits, or floating point).
    """
    try:
        with opened(path) as picture:
            plain, converted = _plain(picture, "L" if grey else "RGB", path)
            whole = rule.whole_of(plain)
            middle = rule.middle_of(whole)
    except CorruptFile:
        raise
    except StreamlabError as error:
        raise StreamlabError(f"{path}: {error}") from None
    except Exception as error:
        raise _unreadable(path, error) from None
    return Pixels(_planes(middle), _planes(whole), converted)


def _planes(picture: Image) -> NDArray[np.uint8]:
    """(C, H, W)."""
    made = np.asarray(picture, np.uint8)
    return made.reshape(made.shape[0], made.shape[1], -1).transpose(2, 0, 1)


def _plain(picture: Image, mode: str, path: Picture) -> tuple[Image, list[str]]:
    """In this mode, upright and opaque, with what had to be done."""
    from PIL import Image, ImageOps

    converted: list[str] = []
    upright: Any = picture
    if getattr(picture, "n_frames", 1) > 1:
        converted.append("the first frame of several taken")
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        upright = ImageOps.exif_transpose(picture)
        converted.append("turned as EXIF says")
    if picture.mode in ("I", "F"):
        raise CorruptFile(
            f"{path} has pixels of 32 bits ({picture.format}, mode {picture.mode}), whose range nobody can "
            f"know; convert it to 8 bits"
        )
    if picture.mode.startswith(_DEEP):
        levels = np.asarray(upright).astype(np.uint32)
        upright = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
        converted.append("16 bits scaled to 8")
    if picture.mode == "CMYK":
        converted.append("CMYK turned into colour")
    if upright.has_transparency_data:
        ground = Image.new("RGBA", upright.size, "white")
        clear = upright.convert("RGBA")
        if np.asarray(clear)[..., 3].min() < 255:
            converted.append("transparent parts laid on white")
        upright = Image.alpha_composite(ground, clear)
    return upright.convert(mode), converted


def _unreadable(path: Picture, error: Exception) -> CorruptFile:
    return CorruptFile(f"{path} cannot be read as a picture ({error})")
