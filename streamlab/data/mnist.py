"""MNIST: 10 handwritten digits, 60,000 + 10,000 grey images of 28x28 (LeCun et al. 1998)."""

from __future__ import annotations

from pathlib import Path

from .idx import read_idx_source
from .source import Source


def load(data: Path) -> Source:
    """Read the four idx files, plain or gzipped, in `data`/mnist."""
    return read_idx_source("mnist", data / "mnist", tuple("0123456789"))
