"""glyphs-100: 100 letters, digits and symbols in 71 open fonts, 28x28 grey; ships with streamlab."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ...errors import CorruptFile
from ..published import Published
from ..source import Source

FILE = Path(__file__).parent / "glyphs-100.npz"


def load(data: Path, file: Path = FILE) -> Source:
    """Read the bundled file (`data`, the folder of downloads, is not used).

    Factors: style (serif, sans, mono, handwriting, display) and font. Made by render.py; the
    fonts and licences are in CARD.md, both beside the file.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return Source(
            "glyphs-100",
            tuple(arrays["class_names"].tolist()),
            arrays["train_images"],
            arrays["train_labels"].astype(np.int64),
            arrays["test_images"],
            arrays["test_labels"].astype(np.int64),
            {name: arrays[f"train_{name}"] for name in ("style", "font")},
            {name: arrays[f"test_{name}"] for name in ("style", "font")},
        )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CorruptFile(f"source glyphs-100: {file} is damaged ({error}); reinstall streamlab-cl") from None


SOURCE = Published(
    load=load,
    classes=100,
    train=20_000,
    test=5_000,
    shape=(1, 28, 28),
    folder=str(FILE.parent),
    files=(FILE.name,),
)
