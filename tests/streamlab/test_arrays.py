"""Arrays as people save them: what is unmistakable is converted and said, what is not is refused."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_source

from streamlab.data.load import load_source
from streamlab.data.source import Source
from streamlab.errors import CorruptFile, StreamlabError

SOURCE = make_source(classes=3, train=5, test=2)
IMAGES, LABELS = SOURCE.train_images, SOURCE.train_labels


def saved(path: Path, **changed: Any) -> Source:
    arrays = {
        "x_train": IMAGES, "y_train": LABELS, "x_test": SOURCE.test_images, "y_test": SOURCE.test_labels,
    }  # fmt: skip
    np.savez(path / "own.npz", **{k: v for k, v in {**arrays, **changed}.items() if v is not None})
    return load_source(f"npz:{path / 'own.npz'}")


@pytest.mark.parametrize(
    ("of", "names", "said"),
    [
        (lambda y: y + 1, ("1", "2", "3"), "its labels 1, 2, 3 become the classes 0 to 2, in this order"),
        (lambda y: np.array([2, 5, 11])[y], ("2", "5", "11"), "its labels 2, 5, 11 become"),
        (lambda y: np.array(["a2", "a10", "b"])[y], ("a2", "a10", "b"), "its labels a2, a10, b become"),
        (
            lambda y: np.array([b"cat", b"dog", b"eel"])[y],
            ("cat", "dog", "eel"),
            "its labels cat, dog, eel become",
        ),
        (lambda y: y.astype(np.float32), ("0", "1", "2"), ""),
        (lambda y: y[:, None], ("0", "1", "2"), ""),
        (lambda y: np.eye(3)[y], ("0", "1", "2"), "train labels are one-hot"),
    ],
)
def test_labels_of_any_kind_become_classes(
    of: Any, names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    source = saved(tmp_path, y_train=of(LABELS), y_test=of(SOURCE.test_labels))
    assert source.class_names == names
    np.testing.assert_array_equal(source.train_labels, LABELS)
    np.testing.assert_array_equal(source.test_labels, SOURCE.test_labels)
    assert said in " ".join(source.notes)
    assert bool(source.notes) == bool(said)


def test_many_labels_are_told_by_the_first_and_the_last(tmp_path: Path) -> None:
    labels = np.arange(10, 20).repeat(3)
    images = np.zeros((30, 2, 2), np.uint8)
    source = saved(tmp_path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert "its labels 10, 11, …, 19 become the classes 0 to 9, in this order" in source.notes[0]


def test_arrays_that_are_not_read_are_named(tmp_path: Path) -> None:
    """A misspelt factor, say, or images under both of their names."""
    source = saved(
        tmp_path, train_factors=LABELS, train_factor_hand=LABELS, class_names=np.array(["x", "y", "z"]),
        train_images=IMAGES,
    )  # fmt: skip
    assert [note.split(": ", 1)[1] for note in source.notes] == [
        "train_factors, x_train in it: not read, as no array of this name is asked for"
    ]


def test_named_classes_are_counted_from_0_or_1_or_named_by_the_labels(tmp_path: Path) -> None:
    names = np.array(["x", "y", "z"])
    one = saved(tmp_path, y_train=LABELS + 1, y_test=SOURCE.test_labels + 1, class_names=names)
    text = saved(tmp_path, y_train=names[LABELS], y_test=names[SOURCE.test_labels], class_names=names)
    for source in (one, text):
        assert source.class_names == ("x", "y", "z")
        np.testing.assert_array_equal(source.train_labels, LABELS)
    assert "labels begin at 1" in one.notes[0]
    with pytest.raises(CorruptFile, match="label 5 names none of its 3 classes"):
        saved(tmp_path, y_train=np.where(LABELS == 2, 5, LABELS), class_names=names)
    with pytest.raises(CorruptFile, match="two classes are named 'x'"):
        saved(tmp_path, class_names=np.array(["x", "y", "x"]))


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (lambda x: x.astype(np.int64), "levels (int64) from 0 to 255 are taken as they are"),
        (lambda x: x.astype(np.float32), "levels (float32) from 0 to 255"),
        (
            lambda x: np.maximum(x / 255 - 0.001, 0).astype(np.float32),
            "levels (float32) from 0 to 1 are scaled",
        ),
        (lambda x: x.astype(np.uint16) * 257, "levels (uint16) of 16 bits are scaled"),
        (lambda x: x.reshape(len(x), -1), "train rows of 64 are taken for 8x8, grey"),
        (lambda x: x.transpose(0, 2, 3, 1), ""),
    ],
)
def test_pixels_of_any_kind_become_bytes(of: Any, said: str, tmp_path: Path) -> None:
    source = saved(tmp_path, x_train=of(IMAGES), x_test=of(SOURCE.test_images))
    np.testing.assert_array_equal(source.train_images, IMAGES)
    np.testing.assert_array_equal(source.test_images, SOURCE.test_images)
    assert said in " ".join(source.notes)
    assert bool(source.notes) == bool(said)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": IMAGES.astype(np.float32) - 3}, "these are float32, uint8 from -3 to"),
        ({"x_train": np.full((15, 1, 8, 8), 1e5)}, "from 0 to 100000"),
        ({"x_train": np.zeros((15, 3, 12, 3), np.uint8)}, "may have its channels second or last"),
        ({"x_train": np.zeros((15, 12, 3, 12), np.uint8)}, "may have its channels second or last"),
        ({"x_train": np.zeros((15, 50), np.uint8)}, "are flat rows of no square"),
        ({"x_train": np.zeros((15, 2, 2, 2, 2), np.uint8)}, r"must be \(N, H, W\)"),
        ({"y_train": LABELS + 0.5}, "train_labels must be integers, text or one-hot, not float64"),
        ({"y_train": np.zeros((15, 4))}, "are not one-hot"),
        ({"y_train": LABELS[:9]}, "15 train images, 9 labels"),
        ({"train_factor_font": np.arange(4)}, r"train_factor_font has the shape \(4,\), and 15 images"),
        ({"y_test": None}, "has no array test_labels"),
        ({"y_test": np.full(6, 7)}, r"class 7 \(label 3\) has no training image"),
    ],
)
def test_what_may_mean_several_things_is_refused(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StreamlabError, match=message):
        saved(tmp_path, **changed)


def test_four_channels_last_are_four_channels(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 256, (15, 12, 12, 4)).astype(np.uint8)
    source = saved(tmp_path, x_train=deep, x_test=deep[:6])
    np.testing.assert_array_equal(source.train_images, deep.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("names", [("images", "labels"), ("x_train", "y_train")])
def test_a_file_without_a_test_split_has_a_fifth_held_out(names: tuple[str, str], tmp_path: Path) -> None:
    size = {"train_factor_size": np.arange(15)}
    np.savez(tmp_path / "one.npz", **{names[0]: IMAGES, names[1]: LABELS}, **size)
    source = load_source(f"npz:{tmp_path / 'one.npz'}")
    assert np.bincount(source.test_labels).tolist() == [1, 1, 1]
    assert source.train_factors["size"].dtype.kind == "U"
    rows = [int(row) for row in (*source.train_factors["size"], *source.test_factors["size"])]
    assert sorted(rows) == list(range(15))
    for split in ("train", "test"):
        chosen = getattr(source, f"{split}_factors")["size"].astype(int)
        np.testing.assert_array_equal(getattr(source, f"{split}_images"), IMAGES[chosen])
        np.testing.assert_array_equal(getattr(source, f"{split}_labels"), LABELS[chosen])
    assert "a fifth of each class is held out" in source.notes[0]
    np.savez(tmp_path / "few.npz", images=IMAGES[:3], labels=np.arange(3))
    with pytest.raises(StreamlabError, match="class 0 has one image, and needs two to hold one out"):
        load_source(f"npz:{tmp_path / 'few.npz'}")


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    with pytest.raises(CorruptFile, match="it is no npz archive, or not whole"):
        load_source(f"npz:{tmp_path / 'a.npy'}")


def rewritten(path: Path, name: str, content: bytes, flag: int = 0) -> str:
    """The saved archive with one member otherwise."""
    saved(path)
    with zipfile.ZipFile(path / "own.npz") as old, zipfile.ZipFile(path / "new.npz", "w") as new:
        for member in old.namelist():
            new.writestr(member, content if member == name else old.read(member))
    raw = bytearray((path / "new.npz").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= flag
    (path / "new.npz").write_bytes(raw)
    return f"npz:{path / 'new.npz'}"


def array_file(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"\0" * 64


@pytest.mark.parametrize(
    ("content", "flag", "said"),
    [
        (
            array_file("(1000000000000, 8, 8)"),
            0,
            "x_train.npy says that it has the shape .1000000000000, 8, 8.",
        ),
        (array_file("(-1, 8, 8)"), 0, "says that it has the shape"),
        (array_file("(8,)", "|O"), 0, "arrays of Python objects"),
        (b"no array", 0, "new.npz cannot be read"),
        (array_file("(1, 8, 8)"), 1, "new.npz is encrypted, and is not read"),
    ],
)
def test_what_an_archive_says_of_itself_is_looked_at_before_it_is_read(
    content: bytes, flag: int, said: str, tmp_path: Path
) -> None:
    with pytest.raises(CorruptFile, match=said):
        load_source(rewritten(tmp_path, "x_train.npy", content, flag))


def test_an_archive_that_unpacks_to_more_than_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 1)
    with pytest.raises(CorruptFile, match=r"own.npz unpacks to \d+ GiB, and the machine has 0"):
        saved(tmp_path)
