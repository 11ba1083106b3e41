"""Renders glyphs-100 from openly licensed fonts: `python render.py FONTS_FOLDER`.

FONTS_FOLDER holds the `@fontsource` packages named below, as `npm pack` leaves them (.tgz).
Needs Pillow and fontTools. Writes glyphs-100.npz and the font table of CARD.md in the
folder above, and contact sheets into FONTS_FOLDER.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

SIZE = 28
PER_CLASS = {"train": 200, "test": 50}
# Left out because they look alike with size and baseline kept: O 0 o, l I 1.
CHARACTERS = (
    '23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz#$%&@!?*+=<>/\\()[]{}~^_-:;"§©¥£€±÷«»¿¡¶ßæøçñ'
)
FONTS = {
    "train": {
        "serif": "merriweather lora playfair-display eb-garamond crimson-text libre-baskerville "
        "noto-serif pt-serif bitter roboto-slab",
        "sans": "roboto open-sans lato montserrat poppins raleway nunito work-sans inter source-sans-3",
        "mono": "roboto-mono source-code-pro inconsolata fira-mono space-mono ubuntu-mono "
        "ibm-plex-mono overpass-mono",
        "handwriting": "caveat dancing-script pacifico kalam patrick-hand indie-flower courgette "
        "satisfy handlee architects-daughter mali neucha",
        "display": "lobster righteous comfortaa abril-fatface alfa-slab-one fredoka baloo-2 "
        "titan-one changa-one orbitron",
    },
    "test": {
        "serif": "cormorant-garamond spectral vollkorn",
        "sans": "rubik karla quicksand barlow",
        "mono": "jetbrains-mono anonymous-pro cousine dm-mono",
        "handwriting": "sriracha coming-soon kurale merienda pangolin grandstander",
        "display": "lilita-one concert-one fugaz-one carter-one exo-2 chewy",
    },
}


@dataclass(frozen=True)
class Face:
    """One font file of a family: a weight, upright or italic."""

    family: str
    style: str
    variant: str
    content: bytes


@dataclass(frozen=True)
class Family:
    """One package: its version and licence, and the faces in it."""

    name: str
    version: str
    licence: str
    faces: list[Face]


def read_family(
    archive: Path, name: str, style: str, characters: str = CHARACTERS, subset: str = "latin"
) -> Family:
    """One package's faces that have all the characters, from the lightest upright to the heaviest italic."""
    faces = []
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar.getmembers()}
        about = json.loads(tar.extractfile(members["package/package.json"]).read())
        for path in sorted(members):
            match = re.fullmatch(rf"package/files/{name}-{subset}-(\d+)-(normal|italic)\.woff", path)
            if match:
                woff = TTFont(io.BytesIO(tar.extractfile(members[path]).read()))
                if not set(map(ord, characters)) <= set(woff.getBestCmap()):
                    continue
                woff.flavor = None
                plain = io.BytesIO()
                woff.save(plain)
                faces.append(Face(name, style, f"{match[1]}-{match[2]}", plain.getvalue()))
    faces.sort(key=lambda face: (face.variant.endswith("italic"), face.variant))
    return Family(name, about["version"], about["license"], faces)


def render(face: Face, characters: str = CHARACTERS) -> dict[str, np.ndarray]:
    """Every character at one size on one baseline, white on black; none if some do not fit.

    The size is the largest at which the tallest and the widest character of the face fit.
    """
    font = ImageFont.truetype(io.BytesIO(face.content), 100)
    boxes = [font.getbbox(character, anchor="ls") for character in characters]
    top, bottom = min(box[1] for box in boxes), max(box[3] for box in boxes)
    widest = max(box[2] - box[0] for box in boxes)
    points = 100 * min((SIZE - 2) / (bottom - top), (SIZE - 2) / widest)
    scale = 4  # drawn four times too large and averaged: the same grey on every FreeType build
    font = ImageFont.truetype(io.BytesIO(face.content), points * scale)
    baseline = round((SIZE * scale - (bottom - top) * points * scale / 100) / 2 - top * points * scale / 100)
    images = {}
    for character in characters:
        left, _, right, _ = font.getbbox(character, anchor="ls")
        canvas = Image.new("L", (SIZE * scale, SIZE * scale))
        start = round((SIZE * scale - (right - left)) / 2 - left)
        ImageDraw.Draw(canvas).text((start, baseline), character, fill=255, font=font, anchor="ls")
        small = canvas.resize((SIZE, SIZE), Image.Resampling.BOX)
        images[character] = np.asarray(small) // 17 * 17  # 16 greys: half the bytes, same look
    return images


def acceptable(images: dict[str, np.ndarray]) -> bool:
    """No blank glyph, and no two characters with the same picture (an all-capitals face)."""
    if any(image.sum() < 255 for image in images.values()):
        return False
    return len({image.tobytes() for image in images.values()}) == len(images)


def build(fonts: Path) -> tuple[dict[str, np.ndarray], dict[str, list[Family]]]:
    """Draw faces in turn (the first of every family, then the second…) until a split is full."""
    seen: set[bytes] = set()
    arrays: dict[str, np.ndarray] = {}
    families: dict[str, list[Family]] = {}
    for split, styles in FONTS.items():
        families[split] = [
            read_family(next(fonts.glob(f"fontsource-{name}-[0-9]*.tgz")), name, style)
            for style, names in styles.items()
            for name in names.split()
        ]
        per_class: dict[str, list[tuple[np.ndarray, Face]]] = {c: [] for c in CHARACTERS}
        for turn in range(max(len(family.faces) for family in families[split])):
            for family in families[split]:
                # The middle weight first, then outward: thin and black faces come last.
                order = sorted(
                    family.faces,
                    key=lambda face: (abs(int(face.variant.split("-")[0]) - 450), face.variant),
                )
                if turn >= len(order):
                    continue
                images = render(order[turn])
                if not acceptable(images):
                    continue
                for character, image in images.items():
                    mark = hashlib.sha256(image.tobytes()).digest()
                    if mark not in seen and len(per_class[character]) < PER_CLASS[split]:
                        seen.add(mark)
                        per_class[character].append((image, order[turn]))
        short = {c: len(rows) for c, rows in per_class.items() if len(rows) < PER_CLASS[split]}
        if short:
            raise SystemExit(f"{split}: too few images: {short}")
        rows = [(image, face, label) for label, c in enumerate(CHARACTERS) for image, face in per_class[c]]
        arrays[f"{split}_images"] = np.stack([image for image, _, _ in rows])[:, None]
        arrays[f"{split}_labels"] = np.array([label for _, _, label in rows], np.uint8)
        arrays[f"{split}_font"] = np.array([f"{face.family} {face.variant}" for _, face, _ in rows])
        arrays[f"{split}_style"] = np.array([face.style for _, face, _ in rows])
    arrays["class_names"] = np.array(list(CHARACTERS))
    return arrays, families


def contact_sheet(arrays: dict[str, np.ndarray], split: str, columns: int = 40) -> Image.Image:
    """A row a class, its images spread evenly over the fonts."""
    images, labels = arrays[f"{split}_images"][:, 0], arrays[f"{split}_labels"]
    rows = []
    for label in range(len(CHARACTERS)):
        own = images[labels == label]
        rows.append(np.hstack(own[np.linspace(0, len(own) - 1, columns).astype(int)]))
    return Image.fromarray(np.vstack(rows))


def font_table(arrays: dict[str, np.ndarray], families: dict[str, list[Family]]) -> str:
    """The card's table: every font that was used, with its split, style, version and licence."""
    lines = [
        "| font | split | style | version | licence | faces | images |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for split, used in families.items():
        fonts = arrays[f"{split}_font"]
        for family in used:
            own = [font for font in fonts.tolist() if font.rsplit(" ", 1)[0] == family.name]
            if own:
                style = family.faces[0].style
                lines.append(
                    f"| {family.name} | {split} | {style} | {family.version} | {family.licence} "
                    f"| {len(set(own))} | {len(own)} |"
                )
    return "\n".join(lines)


def main() -> None:
    here = Path(__file__).parents[1]
    fonts = Path(sys.argv[1])
    arrays, families = build(fonts)
    np.savez_compressed(here / "glyphs-100.npz", **arrays)
    for split in PER_CLASS:
        contact_sheet(arrays, split).save(fonts / f"contact-{split}.png")
    card = here / "CARD.md"
    head = card.read_text(encoding="utf-8").split("## Fonts")[0] if card.exists() else "# glyphs-100\n\n"
    card.write_text(head + "## Fonts\n\n" + font_table(arrays, families) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
