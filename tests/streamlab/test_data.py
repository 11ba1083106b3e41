"""Sources: what ships is what the card says, and a damaged file is refused by name."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from streamlab.data.fashion_mnist import load as load_fashion
from streamlab.data.glyphs_100 import FILE
from streamlab.data.glyphs_100 import load as load_glyphs
from streamlab.data.source import Source, open_shared, share
from streamlab.errors import CorruptFile, StreamlabError


@pytest.fixture(scope="module")
def glyphs() -> Source:
    return load_glyphs(Path())


def test_glyphs_are_100_classes_of_200_and_50_images(glyphs: Source) -> None:
    assert len(set(glyphs.class_names)) == 100
    assert glyphs.image_shape == (1, 28, 28)
    assert np.bincount(glyphs.train_labels).tolist() == [200] * 100
    assert np.bincount(glyphs.test_labels).tolist() == [50] * 100
    assert FILE.stat().st_size < 10_000_000


def test_characters_that_look_alike_are_left_out(glyphs: Source) -> None:
    assert not set("O0oQ"[:3] + "lI1|") & set(glyphs.class_names)
    assert {"c", "C"} <= set(glyphs.class_names)


def test_no_glyph_is_blank_or_there_twice(glyphs: Source) -> None:
    images = np.concatenate([glyphs.train_images, glyphs.test_images])
    assert images.reshape(len(images), -1).max(1).min() > 60
    assert len({image.tobytes() for image in images}) == len(images)


def test_train_and_test_share_no_font_and_every_style(glyphs: Source) -> None:
    fonts = [
        {font.rsplit(" ", 1)[0] for font in factors["font"].tolist()}
        for factors in (glyphs.train_factors, glyphs.test_factors)
    ]
    assert not fonts[0] & fonts[1]
    styles = [set(f["style"].tolist()) for f in (glyphs.train_factors, glyphs.test_factors)]
    assert styles[0] == styles[1] == {"serif", "sans", "mono", "handwriting", "display"}


def test_the_card_names_every_font_with_its_version_and_licence(glyphs: Source) -> None:
    card = (FILE.parent / "CARD.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in card.splitlines() if line.startswith("| ")][2:]
    counts = {row[1].strip(): int(row[7]) for row in rows}
    fonts = Counter(
        font.rsplit(" ", 1)[0]
        for factors in (glyphs.train_factors, glyphs.test_factors)
        for font in factors["font"].tolist()
    )
    assert counts == fonts
    assert all(row[4].strip()[0].isdigit() for row in rows)
    assert {row[5].strip() for row in rows} <= {"OFL-1.1", "Apache-2.0", "UFL-1.0"}


def test_a_truncated_glyph_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "glyphs-100.npz"
    path.write_bytes(FILE.read_bytes()[:100_000])
    with pytest.raises(CorruptFile, match=r"source glyphs-100: .*glyphs-100\.npz is damaged"):
        load_glyphs(Path(), path)


@pytest.fixture
def data(tmp_path: Path, tiny_data: Path) -> Path:
    shutil.copytree(tiny_data, tmp_path / "data")
    return tmp_path / "data"


def test_idx_files_are_read_plain_and_gzipped(data: Path) -> None:
    import gzip

    plain = load_fashion(data)
    assert plain.train_images.shape == (3000, 1, 12, 12)
    path = data / "fashion-mnist" / "train-images-idx3-ubyte"
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert load_fashion(data).digest == plain.digest


def test_damaged_idx_files_are_refused_by_name(data: Path) -> None:
    folder = data / "fashion-mnist"
    labels, images = folder / "train-labels-idx1-ubyte", folder / "t10k-images-idx3-ubyte"
    whole = labels.read_bytes()

    def refusal() -> str:
        with pytest.raises(StreamlabError) as error:
            load_fashion(data)
        return str(error.value)

    labels.write_bytes(whole[:-5])
    assert f"{labels} has 3003 bytes, and its header promises 3008" in refusal()
    labels.write_bytes(b"")
    assert f"{labels} is not an idx file of bytes" in refusal()
    labels.write_bytes(whole[:6])
    assert f"{labels} is truncated inside its header" in refusal()
    labels.write_bytes(whole[:-1] + bytes([77]))
    assert "train split: label 77 of image 2999 names none of the 10 classes" in refusal()
    labels.write_bytes(images.read_bytes())
    assert f"{labels} has 3 dimensions, and should have 1" in refusal()
    labels.unlink()
    assert (
        f"source fashion-mnist: {labels} is missing; `streamlab data fetch fashion-mnist` downloads it"
        in refusal()
    )


def test_a_source_that_does_not_fit_is_refused(tiny: Source) -> None:
    def made(**changed: object) -> Source:
        names = ("name", "class_names", "train_images", "train_labels", "test_images", "test_labels")
        return Source(**{**{name: getattr(tiny, name) for name in names}, **changed})

    with pytest.raises(CorruptFile, match="240 images, but labels of shape"):
        made(train_labels=tiny.train_labels[:-1])
    with pytest.raises(CorruptFile, match="must be uint8 of shape"):
        made(test_images=tiny.test_images.astype(np.float32))
    with pytest.raises(CorruptFile, match=r"train split: its images of shape \(1, 0, 0\) have no pixel"):
        made(train_images=tiny.train_images[:, :, :0, :0])
    with pytest.raises(CorruptFile, match="test split: it is empty"):
        made(test_images=tiny.test_images[:0], test_labels=tiny.test_labels[:0])


def test_the_digest_sees_one_changed_pixel(tiny: Source) -> None:
    images = tiny.train_images.copy()
    images[0, 0, 0, 0] ^= 1
    changed = Source("tiny", tiny.class_names, images, tiny.train_labels, tiny.test_images, tiny.test_labels)
    assert changed.digest != tiny.digest


def test_a_spoilt_shared_copy_is_replaced(tiny: Source) -> None:
    folder = share(tiny)
    content = bytearray((folder / "train_images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "train_images.npy").write_bytes(bytes(content))
    again = open_shared(share(tiny))
    np.testing.assert_array_equal(again.train_images, tiny.train_images)
    assert again.digest == tiny.digest
