"""CIFAR-10: 10 kinds of things, 50,000 + 10,000 colour images of 32x32 (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path

from .cifar import ADDRESS, CITATION, read_cifar
from .fetch import Download
from .published import Published
from .source import Source

__all__ = ["CITATION", "SOURCE"]

_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = ("test_batch.bin",)


def load(data: Path) -> Source:
    """Read the official binary files in `data`/cifar-10."""
    images, labels = read_cifar("cifar-10", data / "cifar-10", _TRAIN, 1)
    test_images, test_labels = read_cifar("cifar-10", data / "cifar-10", _TEST, 1)
    return Source("cifar-10", _NAMES, images, labels[:, 0], test_images, test_labels[:, 0])


SOURCE = Published(
    load=load,
    classes=10,
    train=50_000,
    test=10_000,
    shape=(3, 32, 32),
    folder="cifar-10",
    files=(*_TRAIN, *_TEST),
    downloads=(
        Download(f"{ADDRESS}cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", (*_TRAIN, *_TEST)),
    ),
)
