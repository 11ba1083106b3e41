"""Files as people have them and should not: arrays, pictures and lists, damaged or made to harm."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from streamlab.data.load import load_source


def header(dtype: str, shape: str) -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1")


def array(draws: random.Random, labels: bool) -> bytes:
    """An array file, whole or not."""
    made = io.BytesIO()
    count = 12
    good = (
        np.arange(count) % 3
        if labels
        else np.zeros((count, 8, 8), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None]
    )
    kind = draws.randrange(12)
    if kind == 0:
        return header(
            "'|u1'",
            draws.choice(
                ["(1000000000000, 8, 8)", "(-1, 8, 8)", "(12, 0, 8)", "(0,)", "()", "(12, 8, 8, 3, 3)"]
            ),
        )
    if kind == 1:
        return (
            header(
                draws.choice(["'|O'", "'<U4'", "'<c16'", "'<M8[s]'", "[('a', '<i4')]", "'nothing'", "'|V8'"]),
                "(12,)",
            )
            + b"\0" * 96
        )
    if kind == 2:
        return b"\x93NUMPY" + bytes(draws.randbytes(draws.randrange(80)))
    if kind == 3 and labels:
        good = draws.choice(
            [
                good + 10**9,
                good - 5,
                good * 1.5,
                good.astype(bool),
                good.astype("<U3"),
                good * np.nan,
                good[:5],
                good[:, None, None],
            ]
        )
    if kind == 3 and not labels:
        good = draws.choice(
            [
                good.astype(float) * np.inf,
                good.astype(np.int64) - 300,
                good[:, :0],
                good.astype("<f2"),
                good[0],
                good[..., None, None, None],
            ]
        )
    np.save(made, good, allow_pickle=False)
    content = bytearray(made.getvalue())
    if kind == 4:
        content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    if kind == 5:
        content = content[: draws.randrange(len(content))]
    return bytes(content)


def npz(draws: random.Random, folder: Path) -> str:
    path = folder / "mine.npz"
    names = {"x_train": False, "y_train": True, "x_test": False, "y_test": True}
    method = draws.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(path, "w", method) as file:
        for name, labels in names.items():
            if draws.random() < 0.08:
                continue
            if draws.random() < 0.05:
                file.writestr(f"{name}.npy", header("'|u1'", "(4000, 1000, 1000)") + b"\0" * (1 << 22))
                continue
            member = draws.choice(
                [f"{name}.npy"] * 9
                + [f"../{name}.npy", f"{name}\udcff.npy".encode("utf-8", "replace").decode()]
            )
            file.writestr(member, array(draws, labels) if draws.random() < 0.4 else _good(labels))
    content = bytearray(path.read_bytes())
    kind = draws.randrange(6)
    if kind == 0:
        for _ in range(draws.randint(1, 4)):
            content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    if kind == 1:  # said to be encrypted
        for start in [
            n for n in range(len(content) - 8) if content[n : n + 4] in (b"PK\x03\x04", b"PK\x01\x02")
        ]:
            content[start + (6 if content[start + 2] == 3 else 8)] |= 1
    if kind == 2:
        content = content[: draws.randrange(len(content))]
    path.write_bytes(content)
    return f"npz:{path}"


def _good(labels: bool) -> bytes:
    made = io.BytesIO()
    np.save(made, np.arange(12) % 3 if labels else np.arange(12 * 64, dtype=np.uint8).reshape(12, 8, 8))
    return made.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def picture(draws: random.Random) -> bytes:
    kind = draws.randrange(10)
    if kind == 0:  # a picture that says it is huge
        side = draws.choice([50_000, 2**31 - 1, 0, 1])
        size = struct.pack(">IIBBBBB", side, side, 8, draws.choice([0, 2, 3, 6]), 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", size)
            + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
            + chunk(b"IEND", b"")
        )
    made = io.BytesIO()
    size = (draws.choice([8, 8, 8, 9, 1]), draws.choice([8, 8, 8, 7]))
    mode = draws.choice(["L", "RGB", "RGB", "RGBA", "P", "1", "I;16", "CMYK", "LA", "F", "I"])
    form = {"CMYK": "TIFF", "F": "TIFF", "I": "TIFF"}.get(
        mode, draws.choice(["PNG", "PNG", "TIFF", "WEBP" if mode in ("RGB", "RGBA") else "PNG"])
    )
    Image.new(mode, size).save(made, form)
    content = bytearray(made.getvalue())
    if kind in (1, 2):
        for _ in range(draws.randint(1, 5)):
            content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    if kind == 3:
        content = content[: draws.randrange(len(content))]
    if kind == 4:
        return bytes(draws.randbytes(draws.randrange(60)))
    return bytes(content)


def pictures(draws: random.Random, folder: Path) -> str:
    root = folder / "pictures"
    for number in range(draws.choice([1, 2, 3, 3, 3])):
        place = (
            root
            / draws.choice([f"class-{number}", f"{number}", "a\nb", "\u202eright", "x" * 200])
            / draws.choice([".", ".", "deep"])
        )
        place.mkdir(parents=True, exist_ok=True)
        for name in range(draws.randint(0, 4)):
            (place / f"{name}{draws.choice(['.png'] * 5 + ['.jpg', '.txt', ''])}").write_bytes(picture(draws))
    if draws.random() < 0.2:
        (root / "broken.png").parent.mkdir(parents=True, exist_ok=True)
        os.symlink("/nowhere", root / "broken.png")
    return f"folder:{root}{draws.choice(['', '@8', '@8x8', '@0', '@8,9', '@99999999', '@8,bicubic,whole', '@x', '@8,8,8'])}"


def listed(draws: random.Random, folder: Path) -> str:
    for number in range(6):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    lines = [
        draws.choice(
            [
                "file,label",
                "file,label,split",
                "label",
                "",
                "file;label",
                "file,label,label",
                "\ufefffile,label",
            ]
        )
    ]
    for number in range(draws.randint(0, 8)):
        lines.append(
            draws.choice(
                [
                    f"{number}.png,{number % 2}",
                    f"{number}.png,a,train",
                    f"{number}.png,b,test",
                    "../../etc/passwd,1",
                    f"{number}.png",
                    '"',
                    "\0,1",
                    ",",
                    f"{number}.png,{'x' * 5000}",
                    f"{number % 6}.png,0,validation",
                ]
            )
        )
    (folder / "list.csv").write_bytes("\n".join(lines).encode() + (b"\xff" if draws.random() < 0.1 else b""))
    return f"csv:{folder / 'list.csv'}"


def attack(draws: random.Random, folder: Path) -> None:
    """What a command does with such a source before anything is planned."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    source = load_source(draws.choice([npz, pictures, listed])(draws, folder))
    assert source.digest
    assert len(source.train_images) == len(source.train_labels)
    assert source.mean_and_deviation[1] > 0
