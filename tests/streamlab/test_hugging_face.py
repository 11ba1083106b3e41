"""Hugging Face's formats, written by its own library and read here; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from streamlab.data.load import load_source
from streamlab.errors import StreamlabError

datasets = pytest.importorskip("datasets")
NAMES = ["cat", "dog", "eel"]
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")


def table(rows: range, **more: Any) -> Any:
    features = {
        "picture": datasets.Image(),
        "fine": datasets.ClassLabel(names=NAMES),
        "camera": datasets.Value("int64"),
        "group": datasets.ClassLabel(names=["a", "b"]),
    }
    columns = {
        "picture": [Image.fromarray(PIXELS[row]) for row in rows],
        "fine": [row % 3 for row in rows],
        "camera": [row % 2 for row in rows],
        "group": [row // 3 % 2 for row in rows],
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def saved(folder: Path, **splits: range) -> Path:
    datasets.DatasetDict({name: table(rows) for name, rows in splits.items()}).save_to_disk(str(folder))
    return folder


def test_a_saved_set_is_read_with_its_classes_splits_and_factors(tmp_path: Path) -> None:
    folder = saved(tmp_path / "own", train=range(20), test=range(20, 30))
    for _ in range(2):  # the second time from the cache
        source = load_source(f"hf:{folder}#label=fine")
        assert source.class_names == tuple(NAMES)
        assert source.train_labels.tolist() == [row % 3 for row in range(20)]
        np.testing.assert_array_equal(source.train_images.transpose(0, 2, 3, 1), PIXELS[:20])
        np.testing.assert_array_equal(source.test_images.transpose(0, 2, 3, 1), PIXELS[20:])
        assert source.train_factors["camera"].tolist() == [str(row % 2) for row in range(20)]
        assert source.test_factors["group"].tolist() == ["ab"[row // 3 % 2] for row in range(20, 30)]
        assert not source.notes
    assert load_source(f"hf:{folder}#label=fine,size=4").image_shape == (3, 4, 4)


def test_parquet_files_are_read_and_a_lone_split_is_divided(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    table(range(30)).to_parquet(str(tmp_path / "own" / "train-00000-of-00001.parquet"))
    source = load_source(f"hf:{tmp_path / 'own'}#label=group")
    assert source.class_names == ("a", "b")
    assert (len(source.train_labels), len(source.test_labels)) == (24, 6)
    assert "a fifth of each class is held out" in source.notes[0]
    seen = {image.tobytes() for image in np.concatenate([source.train_images, source.test_images])}
    assert seen == {image.transpose(2, 0, 1).tobytes() for image in PIXELS}
    text = load_source(f"hf:{tmp_path / 'own'}#label=camera")
    assert text.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("", r"several columns of that kind (fine, group); name the label's, as hf:…#label=COLUMN"),
        ("#label=coarse", "it has no column coarse (it has picture, fine, camera, group)"),
        ("#label=fine,train=all", "it has no split all (it has train, test)"),
        ("#label=fine,test=dev", "it has no split dev"),
        ("#lable=fine", "did you mean 'label'"),
    ],
)
def test_what_cannot_be_known_is_asked_for(after: str, message: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "own", train=range(6), test=range(6, 9))
    with pytest.raises(StreamlabError) as refused:
        load_source(f"hf:{folder}{after}")
    assert message in str(refused.value)


def test_a_repository_that_is_not_here_is_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(StreamlabError, match="`streamlab data fetch hf:nobody/nothing` downloads it"):
        load_source("hf:nobody/nothing")
