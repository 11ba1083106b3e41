"""MNIST: 10 handwritten digits, 60,000 + 10,000 grey images of 28x28 (LeCun et al. 1998)."""

from __future__ import annotations

from pathlib import Path

from .idx import IDX_FILES, idx_downloads, read_idx_source
from .published import Published
from .source import Source

CITATION = """
@article{lecun1998gradient,
  title = {Gradient-Based Learning Applied to Document Recognition},
  author = {LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal = {Proceedings of the IEEE},
  year = {1998},
}
"""


def load(data: Path) -> Source:
    """Read the four idx files, plain or gzipped, in `data`/mnist."""
    return read_idx_source("mnist", data / "mnist", tuple("0123456789"))


# The authors' own page no longer serves the files; this is the mirror that PyTorch keeps.
SOURCE = Published(
    load=load,
    classes=10,
    train=60_000,
    test=10_000,
    shape=(1, 28, 28),
    folder="mnist",
    files=IDX_FILES,
    downloads=idx_downloads(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)
