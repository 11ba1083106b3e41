"""Renders what glyph-vit is trained on: `python streamlab/nets/glyph_vit/maker/render.py FONTS OUT.npz`.

FONTS holds `@fontsource` packages as `npm pack` leaves them (.tgz). Needs Pillow, fontTools and
confusable-homoglyphs. Writes the source to train on, in the folder above `characters.json` (classes and
fonts, which the tests compare with glyphs-100), and the images' digests for the tests.
"""

from __future__ import annotations

import hashlib
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
from confusable_homoglyphs import confusables

from streamlab.data.glyphs_100 import FILE
from streamlab.data.glyphs_100.maker.render import CHARACTERS, FONTS, Family, read_family, render

PER_CLASS = 60
PER_FAMILY = 3
HERE = Path(__file__).parents[1]
DIGESTS = HERE.parents[2] / "tests/streamlab/glyph_vit_images.npy"


def letters(first: int, last: int) -> str:
    """The letters of a stretch of Unicode."""
    return "".join(chr(c) for c in range(first, last + 1) if unicodedata.category(chr(c)).startswith("L"))


def sampled(encoding: str, first: int, last: int, step: int) -> str:
    """Every step-th letter of a stretch that a national standard has."""
    return "".join(c for c in letters(first, last) if _encodable(c, encoding))[::step]


def _encodable(character: str, encoding: str) -> bool:
    try:
        return len(character.encode(encoding)) == 2
    except UnicodeEncodeError:
        return False


SCRIPTS = {
    "korean": sampled("euc_kr", 0xAC00, 0xD7A3, 12),
    "japanese": letters(0x3042, 0x3093) + letters(0x30A2, 0x30F3) + sampled("shift_jis", 0x4E00, 0x9FFF, 40),
    "devanagari": letters(0x0905, 0x0939),
    "thai": letters(0x0E01, 0x0E2E),
    "hebrew": letters(0x05D0, 0x05EA),
    "arabic": letters(0x0627, 0x064A),
    "greek": letters(0x0391, 0x03A9) + letters(0x03B1, 0x03C9),
    "cyrillic": letters(0x0410, 0x044F),
    "khmer": letters(0x1780, 0x17A2),
    "telugu": letters(0x0C05, 0x0C39),
    "gujarati": letters(0x0A85, 0x0AB9),
    "tamil": letters(0x0B85, 0x0BB9),
}
# Ours to leave out: they lack a face of their own in most fonts, or are drawn as marks.
LEFT_OUT = set("ऄऍऎऑऒऩऱऴఌౘౙౚఱఴઌઍઑଌஶஃฃฅ\u0620\u063b\u063c\u063d\u063e\u063f\u0640")
OF_GLYPHS_100 = {name for styles in FONTS.values() for names in styles.values() for name in names.split()}


def alike(character: str) -> set[str]:
    """What Unicode calls confusable with a character, near and far, itself included."""
    found, fresh = {character}, [character]
    while fresh:
        for entry in confusables.is_confusable(fresh.pop(), greedy=True) or []:
            for other in entry["homoglyphs"]:
                if len(other["c"]) == 1 and other["c"] not in found:
                    found.add(other["c"])
                    fresh.append(other["c"])
    return found


def classes_of(script: str) -> str:
    """A script's characters without those alike to a character of glyphs-100 or to one before."""
    kept: dict[str, None] = {}
    for character in SCRIPTS[script]:
        others = alike(character)
        if character in LEFT_OUT or others & set(CHARACTERS) or others & set(kept):
            continue
        kept[character] = None
    return "".join(kept)


def families_of(fonts: Path, script: str, characters: str) -> list[Family]:
    """The families that have the script, but for those that glyphs-100 uses."""
    found = []
    for archive in sorted(fonts.glob("fontsource-*.tgz")):
        name = archive.stem.removeprefix("fontsource-").rsplit("-", 1)[0]
        if name not in OF_GLYPHS_100:
            family = read_family(archive, name, script, characters, script)
            if family.faces:
                found.append(family)
    return found


def main() -> None:
    fonts, target = Path(sys.argv[1]), Path(sys.argv[2])
    with np.load(FILE) as known:
        seen = {
            hashlib.sha256(image.tobytes()).digest()
            for split in ("train", "test")
            for image in known[f"{split}_images"]
        }
    rows: dict[str, list[tuple[np.ndarray, int, str]]] = {"train": [], "test": []}
    names: list[str] = []
    about: dict[str, dict[str, object]] = {}
    for script in SCRIPTS:
        characters = classes_of(script)
        families = families_of(fonts, script, characters)
        counts = {"train": dict.fromkeys(characters, 0), "test": dict.fromkeys(characters, 0)}
        used: dict[str, list[str]] = {"train": [], "test": []}
        for turn in range(PER_FAMILY):
            for place, family in enumerate(families):
                split = "test" if place % 5 == 4 else "train"
                faces = sorted(
                    family.faces, key=lambda face: (abs(int(face.variant.split("-")[0]) - 450), face.variant)
                )
                if turn >= len(faces):
                    continue
                images = render(faces[turn], characters)
                if len({image.tobytes() for image in images.values()}) < 0.98 * len(characters):
                    continue  # a face without the script's shapes
                for character, image in images.items():
                    mark = hashlib.sha256(image.tobytes()).digest()
                    if image.sum() < 255 or mark in seen or counts[split][character] >= PER_CLASS:
                        continue
                    seen.add(mark)
                    counts[split][character] += 1
                    rows[split].append((image, len(names) + characters.index(character), family.name))
                if family.name not in used[split]:
                    used[split].append(family.name)
        print(
            script,
            len(characters),
            "classes;",
            used,
            min(counts["train"].values()),
            min(counts["test"].values()),
        )
        about[script] = {
            "characters": characters,
            "fonts": {
                f.name: {"version": f.version, "licence": f.licence}
                for f in families
                if f.name in used["train"] + used["test"]
            },
        }
        names.extend(characters)
    arrays: dict[str, np.ndarray] = {"class_names": np.array(names)}
    for split, own in rows.items():
        arrays[f"{split}_images"] = np.stack([image for image, _, _ in own])[:, None]
        arrays[f"{split}_labels"] = np.array([label for _, label, _ in own], np.int64)
        arrays[f"{split}_factor_font"] = np.array([font for _, _, font in own])
    np.savez_compressed(target, **arrays)
    (HERE / "characters.json").write_text(
        json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    images = np.concatenate([arrays["train_images"], arrays["test_images"]])
    digests = [hashlib.sha256(image.tobytes()).digest()[:8] for image in images]
    np.save(DIGESTS, np.sort(np.frombuffer(b"".join(digests), np.uint64)))
    print({split: len(own) for split, own in rows.items()}, len(names), "classes")


if __name__ == "__main__":
    main()
