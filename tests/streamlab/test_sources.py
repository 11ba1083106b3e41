"""Every format that a source is read from: what is read is what was written; what is wrong is named."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import (
    make_source,
    write_cifar,
    write_every_source,
    write_idx,
    write_pictures,
    write_tiny_imagenet,
)
from PIL import Image

import streamlab
from streamlab.data.idx import IDX_FILES
from streamlab.data.load import load_source
from streamlab.data.source import open_shared, share
from streamlab.errors import CorruptFile, StreamlabError
from streamlab.experiments.citations import citations


def refusal(name: str, data: Path) -> str:
    with pytest.raises(StreamlabError) as error:
        load_source(name, str(data))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_cifar_10_is_read_from_its_binary_files(tmp_path: Path) -> None:
    ten = {f"data_batch_{number}.bin": 20 for number in range(1, 6)} | {"test_batch.bin": 20}
    write_cifar(tmp_path / "cifar-10", ten, 1, 10)
    source = load_source("cifar-10", str(tmp_path))
    assert source.train_images.shape == (100, 3, 32, 32)
    assert source.train_labels.tolist() == list(range(10)) * 10
    assert source.class_names[3] == "cat"
    record = (tmp_path / "cifar-10" / "data_batch_2.bin").read_bytes()[3073 * 4 : 3073 * 5]
    assert record[1:] == source.train_images[24].tobytes()
    assert record[0] == source.train_labels[24]
    part = tmp_path / "cifar-10" / "data_batch_3.bin"
    part.write_bytes(part.read_bytes()[:-7])
    assert f"{part} has 61453 bytes, and should have a multiple of 3073" in refusal("cifar-10", tmp_path)
    part.unlink()
    expected = f"source cifar-10: {part} is missing; `streamlab data fetch cifar-10` downloads it"
    assert expected in refusal("cifar-10", tmp_path)


def test_cifar_100_has_its_groups_as_a_factor(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-100", {"train.bin": 200, "test.bin": 100}, 2, 100)
    source = load_source("cifar-100", str(tmp_path))
    assert source.train_labels.tolist() == list(range(100)) * 2
    assert len(set(source.class_names)) == 100
    assert source.train_factors["group"][0] == "aquatic_mammals"
    assert len(set(source.test_factors["group"].tolist())) == 20


def test_a_folder_of_pictures_is_split_by_names_and_decoded_once(tmp_path: Path) -> None:
    write_pictures(tmp_path / "own", classes=3, count=10)
    source = load_source(f"folder:{tmp_path / 'own'}")
    assert source.class_names == ("class-0", "class-1", "class-2")
    assert (len(source.train_labels), len(source.test_labels)) == (24, 6)
    assert isinstance(source.train_images, np.memmap)
    stored = {image.tobytes() for image in np.concatenate([source.train_images, source.test_images])}
    drawn = {np.asarray(Image.open(path)).tobytes() for path in (tmp_path / "own").rglob("*.png")}
    assert stored == drawn
    again = load_source(f"folder:{tmp_path / 'own'}")
    assert again.train_images.filename == source.train_images.filename
    assert os.stat(share(source) / "train_images.npy").st_ino == os.stat(source.train_images.filename).st_ino
    np.testing.assert_array_equal(open_shared(share(source)).train_images, source.train_images)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "own" / "class-1" / "new.png")
    assert len(load_source(f"folder:{tmp_path / 'own'}").labels.train) + 6 == 31


def test_a_folder_with_train_and_test_keeps_them(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", classes=2, count=4)
    write_pictures(tmp_path / "test", classes=2, count=3, seed=1)
    source = load_source(f"folder:{tmp_path}@6")
    assert (len(source.train_labels), len(source.test_labels)) == (8, 6)
    assert source.image_shape == (1, 6, 6)


def test_tiny_imagenet_is_read_as_its_archive_is_unpacked(tmp_path: Path) -> None:
    """Labels of the validation pictures are those of its list, and classes stand as wnids.txt has them."""
    root = tmp_path / "tiny-imagenet"
    assert "wnids.txt is missing; `streamlab data fetch tiny-imagenet`" in refusal("tiny-imagenet", tmp_path)
    write_tiny_imagenet(root, classes=3, count=2)
    source = load_source("tiny-imagenet", str(tmp_path))
    assert source.class_names == ("n00000000", "n00000001", "n00000002")
    assert source.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.test_labels.tolist() == [2, 1, 0]
    assert source.image_shape == (3, 64, 64)
    first = np.asarray(Image.open(root / "val/images/val_0.JPEG")).transpose(2, 0, 1)
    np.testing.assert_array_equal(source.test_images[0], first)
    lists = root / "val/val_annotations.txt"
    lines = lists.read_text()
    lists.write_text(lines + "val_2.JPEG\tn9\t0\n")
    assert "val_annotations.txt, line 4: 'val_2.JPEG\\tn9\\t0' names no class" in refusal(
        "tiny-imagenet", tmp_path
    )
    lists.write_text(lines)
    (root / "val/images/val_1.JPEG").unlink()
    assert "val_1.JPEG is missing or empty; its archive was not unpacked whole" in refusal(
        "tiny-imagenet", tmp_path
    )
    shutil.rmtree(root / "train/n00000002")
    assert "train/n00000002/images is missing or empty" in refusal("tiny-imagenet", tmp_path)


def test_pictures_that_do_not_fit_are_named(tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(f"folder:{tmp_path / 'none'}", tmp_path)
    (tmp_path / "own").mkdir()
    assert "no sub-folder of" in refusal(f"folder:{tmp_path / 'own'}", tmp_path)
    write_pictures(tmp_path / "own" / "set", classes=2, count=4)
    root = tmp_path / "own" / "set"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "class-1" / "9.png")
    assert "pictures differ in size" in refusal(f"folder:{root}", tmp_path)
    assert load_source(f"folder:{root}@8").image_shape == (1, 8, 8)
    bad = root / "class-1" / "bad.png"
    bad.write_bytes((root / "class-1" / "1.png").read_bytes()[:60])
    assert f"{bad} cannot be read as a picture" in refusal(f"folder:{root}@8", tmp_path)
    bad.unlink()
    assert f"folder:{root}@big: after @ stands a size: 32 (shorter" in refusal(f"folder:{root}@big", tmp_path)
    assert "needs to know what to read: --source folder:WHAT" in refusal("folder", tmp_path)
    assert "takes nothing after a colon" in refusal("mnist:9", tmp_path)


def test_arrays_of_ones_own_in_any_layout(tmp_path: Path) -> None:
    source = make_source(classes=3, train=4, test=2)
    grey = {"train_images": source.train_images[:, 0], "test_images": source.test_images[:, 0]}
    labels = {"train_labels": source.train_labels, "test_labels": source.test_labels}
    np.savez(tmp_path / "grey.npz", **grey, **labels, class_names=np.array(["a", "b", "c"]),
             train_factor_size=np.array(["small"] * 12), test_factor_size=np.array(["large"] * 6))  # fmt: skip
    read = load_source(f"npz:{tmp_path / 'grey.npz'}")
    assert read.digest == source.digest
    assert read.class_names == ("a", "b", "c")
    assert read.train_factors["size"][0] == "small"
    colour = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    last = {"x_train": colour, "x_test": colour[:6], "y_train": labels["train_labels"][:, None]}
    np.savez(tmp_path / "colour.npz", **last, y_test=labels["test_labels"])
    shown = load_source(f"npz:{tmp_path / 'colour.npz'}")
    np.testing.assert_array_equal(shown.train_images, colour.transpose(0, 3, 1, 2))


def test_a_class_with_test_pictures_alone_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "own" / "train", classes=2, count=4)
    write_pictures(tmp_path / "own" / "test", classes=3, count=2)
    assert "class class-2 has test pictures, and none in" in refusal(f"folder:{tmp_path / 'own'}", tmp_path)


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    assert "there is no such file" in refusal(f"npz:{path}", tmp_path)
    np.savez(path, x_train=np.zeros((2, 4, 4), np.uint8))
    assert "has no array train_labels (it has x_train)" in refusal(f"npz:{path}", tmp_path)
    objects = np.array([{"a": 1}, None], dtype=object)
    np.savez(path, x_train=objects, y_train=objects, x_test=objects, y_test=objects)
    assert "has arrays of Python objects, which are not read" in refusal(f"npz:{path}", tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptFile, match=r"mine\.npz cannot be read"):
        load_source(f"npz:{path}")


def test_torchvisions_sets_are_read_where_it_puts_them(tmp_path: Path) -> None:
    write_every_source(tmp_path)
    data = tmp_path / "data"
    source = load_source("torchvision:KMNIST", str(data))
    assert source.class_names[0] == "o"
    assert source.digest == load_source("mnist", str(data)).digest
    letters = make_source(classes=26, train=2, test=1, size=12)
    raw = data / "torchvision" / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    parts = (
        letters.train_images[:, 0],
        letters.train_labels + 1,
        letters.test_images[:, 0],
        letters.test_labels + 1,
    )
    for name, array in zip(IDX_FILES, parts, strict=True):
        file = "emnist-letters-" + name.replace("t10k", "test")
        write_idx(raw / file, array)
        (raw / f"{file}.gz").write_bytes(gzip.compress((raw / file).read_bytes()))
        (raw / file).unlink()
    read = load_source("torchvision:EMNIST/letters", str(data))
    np.testing.assert_array_equal(read.train_labels, letters.train_labels)
    np.testing.assert_array_equal(read.train_images, letters.train_images.transpose(0, 1, 3, 2))
    assert "`streamlab data fetch torchvision:EMNIST` downloads it" in refusal("torchvision:EMNIST", data)
    assert "`streamlab data fetch torchvision:SVHN` downloads it" in refusal("torchvision:SVHN", data)
    assert "unknown torchvision set 'KMNST'; did you mean 'KMNIST'?" in refusal("torchvision:KMNST", data)


def test_sources_named_with_a_plus_are_joined(tmp_path: Path) -> None:
    from streamlab.data.names import several

    write_every_source(tmp_path)
    both = load_source("glyphs-100+fashion-mnist", str(tmp_path / "data"))
    assert both.name == "glyphs-100+fashion-mnist"
    assert len(both.class_names) == 110
    assert both.class_names[0].startswith("glyphs-100/")
    done = streamlab.run(
        "episodes", "glyphs-100+fashion-mnist", ["protonet"], seeds=1, out=tmp_path / "r", show=False,
        data=str(tmp_path / "data"), workers=0,
        settings={
            "scenario": {
                "train_on": "glyphs-100", "test_on": "fashion-mnist", "query": 3, "episodes": 2,
                "validation_episodes": 2, "test_episodes": 2,
            },
            "backbone": {"name": "convnet", "width": 4},
        },
    )  # fmt: skip
    assert done.complete
    assert any("fashion" in entry.lower() for entry in citations(tmp_path / "r"))
    assert several("npz:/data/a+b.npz+mnist") == ["npz:/data/a+b.npz", "mnist"]
    assert "unknown source 'mnits'; did you mean 'mnist'" in refusal("glyphs-100+mnits", tmp_path)
