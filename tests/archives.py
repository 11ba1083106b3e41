"""Published sets of pictures in miniature: their archives' layout, all of their classes, a few pictures each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from streamlab.scenarios.official_classes import held_back

RNG = np.random.default_rng(0)


def save(path: Path, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (side, side + 2, 3)).astype(np.uint8)).save(path)


def by_folder(root: Path, classes: int, held: str = "test") -> None:
    for number in range(classes):
        for split, count in (("train", 2), (held, 1)):
            for picture in range(count):
                save(root / split / f"n{number:08}" / f"{picture}.jpg")


def unsplit(root: Path) -> None:
    for number in range(200):
        for picture in range(5):
            save(root / "imagenet-r" / f"n{number:08}" / f"{picture}.jpg")


def cub(root: Path, train: int = 2) -> None:
    lists: dict[str, list[str]] = {
        name: [] for name in ("classes", "images", "image_class_labels", "train_test_split")
    }
    for number in range(1, 201):
        folder = f"{number:03}.Bird_{number}"
        lists["classes"].append(f"{number} {folder}")
        for picture in range(train + 1):
            image = (train + 1) * number + picture
            save(root / "images" / folder / f"{picture}.jpg")
            lists["images"].append(f"{image} {folder}/{picture}.jpg")
            lists["image_class_labels"].append(f"{image} {number}")
            lists["train_test_split"].append(f"{image} {int(picture != 1)}")
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")


def mini(root: Path, train: int = 2) -> None:
    held = [name for part in held_back("miniimagenet", ()) for name in part]
    names = [*held, *(f"n{number:08}" for number in range(100 - len(held)))]
    for split, count in (("train", train), ("test", 1)):
        lines = ["filename,label"]
        for name in names:
            for picture in range(count):
                file = f"{name}{picture + train * (split == 'test'):08}.jpg"
                save(root / "images" / file)
                lines.append(f"{file},{name}")
        (root / "split").mkdir(exist_ok=True)
        (root / "split" / f"{split}.csv").write_text("\n".join(lines))


def core50(root: Path) -> None:
    for session in range(1, 12):
        for number in range(1, 51):
            save(root / f"s{session}" / f"o{number}" / f"C_{session:02}_{number:02}_000.png")


def domainnet(root: Path) -> None:
    for domain in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch"):
        for split in ("train", "test"):
            lines = []
            for number in range(345 if domain == "real" or split == "train" else 2):
                file = f"{domain}/class_{number:03}/{domain}_{split}.jpg"
                save(root / file)
                lines.append(f"{file} {number}")
            (root / f"{domain}_{split}.txt").write_text("\n".join(lines))


def omniglot(root: Path) -> None:
    for part, count in (("background", 964), ("evaluation", 659)):
        for number in range(count):
            folder = root / f"images_{part}" / f"{part.title()}_{number % 7}" / f"character{number:03}"
            folder.mkdir(parents=True)
            for drawer in range(1, 7):
                Image.fromarray(RNG.integers(0, 2, (6, 6)).astype(bool)).save(
                    folder / f"0001_{drawer:02}.png"
                )


ARCHIVES: dict[str, Callable[[Path], None]] = {
    "imagenet-r": partial(by_folder, classes=200),
    "imagenet-r-si-blurry": unsplit,
    "imagenet-a": partial(by_folder, classes=200),
    "omnibenchmark": partial(by_folder, classes=300),
    "vtab": partial(by_folder, classes=50),
    "imagenet": partial(by_folder, classes=1000, held="val"),
    "imagenet-100": partial(by_folder, classes=100, held="val"),
    "cub200": cub,
    "miniimagenet": mini,
    "core50": core50,
    "domainnet": domainnet,
    "omniglot": omniglot,
}
