"""Shows a source as one wants to see it before trusting a result: its pictures, its counts, its faults."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamlab.data.source import Source
from streamlab.errors import StreamlabError

from .blocks import as_picture, half_blocks
from .lines import hanging

_LISTED = 8  # classes at either end of the table, and in the terminal's row of pictures
_FEW = 5  # training images, fewer of which are near to none
_SHEET_CLASSES, _SHEET_IMAGES, _SHEET_PIXELS, _SHEET_NAMES = 20, 10, 64, 130


def print_source(source: Source, picture: Path | None, console: Console | None = None) -> None:
    """Shape, counts by class, factors, what was converted, faults, a row of pictures; and a contact sheet."""
    console = console or Console()
    channels, height, width = source.image_shape
    print(
        f"{source.name}: {len(source.class_names)} classes, {len(source.train_labels):,} training and "
        f"{len(source.test_labels):,} test images of {channels}x{height}x{width}"
    )
    print(f"digest {source.digest[:16]}\n")
    _print_pictures(source, console)
    _print_counts(source, console)
    for name, values in source.train_factors.items():
        found = Counter(values.tolist())
        shown = ", ".join(f"{value} {count:,}" for value, count in found.most_common(6))
        if len(found) < len(values):
            more = ", …" if len(found) > 6 else ""
            print(hanging(f"factor {name}  ", f"{len(found)} values: {shown}{more}"))
    for note in source.notes:
        print(hanging("note  ", note.removeprefix(f"{source.name}: ")))
    faults = list(faults_of(source))
    for fault in faults:
        console.print(fault, style="yellow", highlight=False)
    if not faults:
        print("no image is there twice or of one level, and no class is nearly empty")
    if picture is not None:
        contact_sheet(source, picture)
        console.print(f"\nwritten: {picture}", highlight=False)


def faults_of(source: Source) -> Iterator[str]:
    """A sentence each: images in both splits, or under two labels, or of one level; classes nearly empty."""
    seen: dict[bytes, int] = {}
    twice, clashing, flat = 0, 0, 0
    for image, label in zip(source.train_images, source.train_labels.tolist(), strict=True):
        hashed = _hash(image)
        flat += bool(image.min() == image.max())
        if hashed in seen:
            twice += 1
            clashing += seen[hashed] != label
        seen.setdefault(hashed, label)
    shared = sum(_hash(image) in seen for image in source.test_images)
    if shared:
        yield f"{shared:,} of {len(source.test_labels):,} test images are training images too"
    if clashing:
        yield f"{clashing:,} training images are there under another label too"
    if twice - clashing:
        yield f"{twice - clashing:,} training images are there more than once"
    if flat:
        yield f"{flat:,} training images are of one level, as if they had not been read"
    counts = _counts(source)
    for split, few in (("training", _FEW), ("test", 1)):
        empty = [source.class_names[label] for label in np.flatnonzero(counts[split] < few)]
        if empty:
            names = ", ".join(empty[:_LISTED]) + (", …" if len(empty) > _LISTED else "")
            yield f"{len(empty)} classes have fewer than {few} {split} images: {names}"


def contact_sheet(source: Source, path: Path) -> None:
    """Write a picture: a row a class (20 of them at most, spread over all), ten training images each."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 12)
    rows = _spread(source, _SHEET_CLASSES)
    cell, size = _SHEET_PIXELS + 4, _SHEET_PIXELS
    sheet = Image.new("RGB", (_SHEET_NAMES + cell * _SHEET_IMAGES, cell * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(rows):
        draw.text((4, row * cell + size // 2 - 6), source.class_names[label][:18], fill="black", font=font)
        for column, index in enumerate(np.flatnonzero(source.train_labels == label)[:_SHEET_IMAGES]):
            shown = as_picture(source.train_images[index]).convert("RGB")
            times = max(1, size // max(shown.size))
            shown = shown.resize((shown.width * times, shown.height * times), Image.Resampling.NEAREST)
            shown.thumbnail((size, size))
            sheet.paste(shown, (_SHEET_NAMES + column * cell, row * cell))
    try:
        sheet.save(path)
    except ValueError:
        raise StreamlabError(f"{path}: a contact sheet is a png or a jpg") from None


def _print_pictures(source: Source, console: Console) -> None:
    """The first training image of some classes, side by side."""
    coloured = console.is_terminal and not console.no_color
    chosen = _spread(source, min(_LISTED, max(1, (console.width + 1) // 16)))
    first = [int(np.flatnonzero(source.train_labels == label)[0]) for label in chosen]
    drawn = [half_blocks(source.train_images[index], coloured) for index in first]
    for lines in zip(*drawn, strict=True):
        console.print(Text("  ").join(lines), no_wrap=True, overflow="crop")
    console.print(
        Text("  ").join(Text(f"{source.class_names[label][:14]:<14}", "dim") for label in chosen),
        no_wrap=True, overflow="crop",
    )  # fmt: skip
    console.print()


def _print_counts(source: Source, console: Console) -> None:
    """Images a class, the rarest first; of many classes both ends."""
    counts = _counts(source)
    if all(len(set(of_split.tolist())) == 1 for of_split in counts.values()):
        each = " and ".join(f"{of_split[0]:,} {split}" for split, of_split in counts.items())
        print(f"every class has {each} images\n")
        return
    order = np.argsort(counts["training"], kind="stable").tolist()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=40)
    for heading in counts:
        table.add_column(heading, justify="right")
    left_out = len(order) - 2 * _LISTED
    for place, label in enumerate(order):
        if left_out > 1 and _LISTED <= place < len(order) - _LISTED:
            if place == _LISTED:
                table.add_row(f"… {left_out} between", "", "", style="dim")
            continue
        table.add_row(source.class_names[label], *(f"{counts[split][label]:,}" for split in counts))
    console.print(table)
    console.print()


def _counts(source: Source) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    classes = len(source.class_names)
    return {
        "training": np.bincount(source.train_labels, minlength=classes),
        "test": np.bincount(source.test_labels, minlength=classes),
    }


def _spread(source: Source, most: int) -> list[int]:
    classes = len(source.class_names)
    return sorted({round(place) for place in np.linspace(0, classes - 1, min(most, classes))})


def _hash(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
