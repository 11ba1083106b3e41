"""Fashion-MNIST: 10 kinds of clothing, 60,000 + 10,000 grey images of 28x28 (Xiao et al. 2017)."""

from __future__ import annotations

from pathlib import Path

from .idx import read_idx_source
from .source import Source

_NAMES = "T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Boot"


def load(data: Path) -> Source:
    """Read the four idx files, plain or gzipped, in `data`/fashion-mnist."""
    return read_idx_source("fashion-mnist", data / "fashion-mnist", tuple(_NAMES.split()))
