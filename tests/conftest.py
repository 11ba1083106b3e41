"""Shared fixtures: a tiny source in memory, and the same as idx files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from making import make_source, write_idx

from streamlab.data.source import Source


def pytest_configure(config: pytest.Config) -> None:
    os.environ["STREAMLAB_CHECKPOINT_SECONDS"] = "0.05"
    for name in ("COLUMNS", "LINES"):  # set in workers of xdist; a terminal of a test has its own
        os.environ.pop(name, None)
    os.environ["OMP_NUM_THREADS"] = "1"  # as in workers; on a busy machine more threads only wait


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("STREAMLAB_DATA", None)


@pytest.fixture(scope="session")
def tiny() -> Source:
    return make_source()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose fashion-mnist is small: 10 classes of 300 + 20 images of 12x12."""
    source = make_source(classes=10, train=300, test=20, size=12, seed=1)
    folder = tmp_path_factory.mktemp("data") / "fashion-mnist"
    folder.mkdir()
    write_idx(folder / "train-images-idx3-ubyte", source.train_images[:, 0])
    write_idx(folder / "train-labels-idx1-ubyte", source.train_labels)
    write_idx(folder / "t10k-images-idx3-ubyte", source.test_images[:, 0])
    write_idx(folder / "t10k-labels-idx1-ubyte", source.test_labels)
    return folder.parent
