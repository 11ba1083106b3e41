"""Fashion-MNIST: 10 kinds of clothing, 60,000 + 10,000 grey images of 28x28 (Xiao et al. 2017)."""

from __future__ import annotations

from pathlib import Path

from .idx import IDX_FILES, idx_downloads, read_idx_source
from .published import Published
from .source import Source

CITATION = """
@article{xiao2017fashion,
  title = {{Fashion-MNIST}: a Novel Image Dataset for Benchmarking Machine Learning Algorithms},
  author = {Xiao, Han and Rasul, Kashif and Vollgraf, Roland},
  journal = {arXiv:1708.07747},
  year = {2017},
}
"""

_NAMES = "T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Boot"


def load(data: Path) -> Source:
    """Read the four idx files, plain or gzipped, in `data`/fashion-mnist."""
    return read_idx_source("fashion-mnist", data / "fashion-mnist", tuple(_NAMES.split()))


SOURCE = Published(
    load=load,
    classes=10,
    train=60_000,
    test=10_000,
    shape=(1, 28, 28),
    folder="fashion-mnist",
    files=IDX_FILES,
    downloads=idx_downloads(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)
