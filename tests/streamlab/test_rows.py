"""Sets larger than memory: rows that are read from files are the rows, in any order, ahead or not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_source
from PIL import Image

import streamlab
from streamlab.batch import images_at_once
from streamlab.data.load import load_source
from streamlab.data.rows import FileRows, HeldRows
from streamlab.data.source import open_shared, share
from streamlab.data.split import Split
from streamlab.errors import StreamlabError
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.preprocess import PreprocessConfig
from streamlab.simulator import assembly


def mapped(path: Path, images: np.ndarray) -> np.memmap[Any, Any]:
    np.save(path, images)
    found = np.load(path, mmap_mode="r")
    assert isinstance(found, np.memmap)
    return found


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[np.memmap[Any, Any]]:
    folder, draws = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    made = [draws.integers(0, 256, (count, 3, 5, 7), dtype=np.uint8) for count in (11, 1, 6)]
    return [mapped(folder / f"{number}.npy", images) for number, images in enumerate(made)]


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(st.lists(st.integers(0, 17), max_size=9), min_size=1, max_size=4),
    told=st.lists(st.lists(st.integers(0, 17), max_size=9), min_size=4, max_size=4),
)
def test_rows_are_the_same_whatever_was_expected(
    parts: list[np.memmap[Any, Any]], asked: list[list[int]], told: list[list[int]]
) -> None:
    """ahead() may be right, wrong, or repeated; what is asked for is what comes."""
    held = HeldRows(torch.from_numpy(np.concatenate(parts)))
    rows = FileRows(parts, torch.device("cpu"))
    assert rows.shape == held.shape == (3, 5, 7)
    for number, wanted in enumerate(asked):
        which = torch.tensor(wanted, dtype=torch.int64)
        rows.ahead(torch.tensor(told[number], dtype=torch.int64))
        if number % 2:
            rows.ahead(which)
        assert torch.equal(rows.at(which), held.at(which))


def test_a_file_that_is_cut_is_an_error(parts: list[np.memmap[Any, Any]], tmp_path: Path) -> None:
    whole = mapped(tmp_path / "a.npy", np.array(parts[0]))
    rows = FileRows([whole], torch.device("cpu"))
    os.truncate(tmp_path / "a.npy", 128 + 3 * 105)
    assert len(rows.at(torch.tensor([0, 2]))) == 2
    with pytest.raises(OSError, match="ends at byte"):
        rows.at(torch.tensor([3]))


@pytest.mark.parametrize("scenario", ["class-incremental", "permuted", "sessions", "episodes"])
def test_a_run_that_reads_its_files_ends_in_the_same_bits(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(classes=6, train=20, test=5)
    options: dict[str, Any] = {"tasks": 2}
    if scenario == "sessions":
        options |= {"kind": "sessions"}
    if scenario == "episodes":
        options = {
            "train_classes": 3, "validation_classes": 0, "test_classes": 3, "way": 3, "shot": 1, "query": 2,
            "episodes": 5, "validation_episodes": 0, "test_episodes": 5, "keep": "last",
        }  # fmt: skip
    name = "class-incremental" if scenario == "sessions" else scenario
    strategies = ["protonet"] if scenario == "episodes" else ["er", "joint"]

    def results(folder: str) -> list[dict[str, Any]]:
        made = streamlab.run(
            name, source, strategies, seeds=1, settings={"scenario": options, "backbone": {"name": "mlp"}},
            workers=0, out=tmp_path / folder, show=False,
        )  # fmt: skip
        return [run.metrics for run in made.runs]

    expected = results("held")
    monkeypatch.setattr(assembly, "MAPPED_BYTES", 0)
    reads: list[int] = []
    whole = FileRows._read
    monkeypatch.setattr(FileRows, "_read", lambda self, rows: (reads.append(len(rows)), whole(self, rows))[1])
    assert results("read") == expected
    assert reads


def test_a_batch_of_evaluation_is_bounded_by_bytes() -> None:
    assert [images_at_once((3, size, size)) for size in (32, 64, 224, 3000)] == [500, 500, 55, 1]


@pytest.mark.parametrize(
    ("backbone", "preprocess"),
    [
        ({"name": "mlp"}, {"resize": 224}),
        ({"name": "timm", "model": "test_vit", "weights": "random", "size": 224}, {}),
        ({"name": "timm", "model": "test_efficientnet", "weights": "random", "size": 224}, {}),
    ],
)
def test_and_by_the_size_that_a_network_works_at(
    backbone: dict[str, object], preprocess: dict[str, int]
) -> None:
    net = build_network(
        backbone, (3, 32, 32), 2, PixelStatistics(0.5, 0.5), preprocess=PreprocessConfig(**preprocess)
    )
    assert [net.images_at_once((3, size, size)) for size in (32, 224, 3000)] == [55, 55, 1]


def pictures(folder: Path) -> None:
    draws = np.random.default_rng(1)
    for number in range(12):
        path = folder / f"class-{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)


def test_decoded_pictures_are_read_once_for_their_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second load knows the digest, mean and deviation, and sharing compares nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pictures(tmp_path / "set")
    first = load_source(f"folder:{tmp_path / 'set'}")
    in_memory = streamlab.Source(
        "copy", first.class_names, np.array(first.train_images), first.train_labels,
        np.array(first.test_images), first.test_labels,
    )  # fmt: skip
    assert first.digest == in_memory.digest
    assert first.mean_and_deviation == in_memory.mean_and_deviation
    shared = share(first)
    import streamlab.data.source as module

    def read(array: Any) -> Any:
        raise AssertionError("all pixels are read again")

    monkeypatch.setattr(module, "_chunks", lambda array: read(array) if array.ndim == 4 else iter([array]))
    second = load_source(f"folder:{tmp_path / 'set'}")
    assert (second.digest, second.mean_and_deviation) == (first.digest, first.mean_and_deviation)
    assert share(second) == shared
    assert open_shared(shared).digest == first.digest
    (file,) = (tmp_path / "cache").rglob("known-*.json")
    assert json.loads(file.read_text())["digest"] == first.digest


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    pictures(tmp_path / "set")
    with pytest.raises(StreamlabError, match=r"cannot be written .*; XDG_CACHE_HOME names another folder"):
        load_source(f"folder:{tmp_path / 'set'}")


def test_a_split_says_what_is_likely_next_under_transforms_too(
    parts: list[np.memmap[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read = list[list[int]](), FileRows._read
    monkeypatch.setattr(FileRows, "_read", lambda self, of: (reads.append(of.tolist()), read(self, of))[1])
    rows = FileRows(parts, torch.device("cpu"))
    split = Split(rows, torch.zeros(18, dtype=torch.int64), ("identity", "permute:0/1"))
    held = Split(torch.from_numpy(np.concatenate(parts)), split.labels, split.transforms)
    which = torch.tensor([1, 30, 17])
    split.ahead(which)
    assert torch.equal(split.images_at(which), held.images_at(which))
    assert reads == [[1, 12, 17]]  # read once, ahead
