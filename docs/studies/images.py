"""The first images of each class of CIFAR-10, which the studies beside other libraries are of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamlab.data.load import load_source

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def arrays(count: int, tested: int, classes: int = 10) -> dict[str, NDArray[np.uint8] | NDArray[np.int64]]:
    """train_images, train_labels, test_images, test_labels: so many of each of the first classes.

    Images are (N, 32, 32, 3).
    """
    source = load_source("cifar-10")
    train = _first(source.train_images, source.train_labels, count, classes)
    test = _first(source.test_images, source.test_labels, tested, classes)
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return dict(zip(names, (*train, *test), strict=True))


def _first(images: NDArray[np.uint8], labels: NDArray[np.int64], count: int, classes: int) -> Part:
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(classes)]))
    return np.ascontiguousarray(images[chosen].transpose(0, 2, 3, 1)), labels[chosen]
