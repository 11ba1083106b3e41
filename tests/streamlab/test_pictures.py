"""Pictures as people have them: every mode, layout and size; what cannot be known is refused by name."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import ARCHIVES
from making import write_pictures
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import streamlab
from streamlab.data import pictures as module
from streamlab.data.load import load_source
from streamlab.data.reading import Pixels, Rule, header, pixels
from streamlab.data.source import Source
from streamlab.errors import CorruptFile, StreamlabError
from streamlab.experiments.citations import citations

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 20, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (37, 53), (64, 64)])
@pytest.mark.parametrize("text", ["32", "28,24", "28,24,bicubic", "30x20", "30x40,24"])
def test_a_rule_is_torchvisions_resize_and_crop(text: str, size: tuple[int, int], tmp_path: Path) -> None:
    picture = Image.fromarray(RNG.integers(0, 256, (*size, 3)).astype(np.uint8))
    picture.save(tmp_path / "one.png")
    rule = Rule.read(text, "here")
    resize = rule.resize if isinstance(rule.resize, int) else list(rule.resize or ())
    how = v2.InterpolationMode(rule.interpolation)
    theirs = v2.Resize(resize, how)(picture)
    theirs = v2.CenterCrop(rule.crop)(theirs) if rule.crop else theirs
    made = pixels(tmp_path / "one.png", rule, grey=False)
    np.testing.assert_array_equal(made.middle.transpose(1, 2, 0), np.asarray(theirs))
    assert made.middle.shape[1:] == rule.size(size)
    assert not made.converted
    assert Rule.read(str(rule)[1:], "again") == rule


def deep(path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535], [32768, 128, 129]], np.uint16)).save(path)


def test_sixteen_bits_are_scaled_by_their_range(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        deep(tmp_path / name)
        made = pixels(tmp_path / name, Rule(), grey=True)
        assert made.middle.tolist() == [[[0, 1, 255], [128, 0, 1]]]
        assert made.converted == ["16 bits scaled to 8"]
        assert header(tmp_path / name).grey


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_ranges_that_nobody_knows_are_refused_by_name(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(np.ones((3, 3), dtype)).save(tmp_path / "raw.tif")
    with pytest.raises(CorruptFile, match=r"raw\.tif has pixels of 32 bits .* convert it to 8 bits"):
        pixels(tmp_path / "raw.tif", Rule(), grey=False)


def test_transparent_parts_lie_on_white(tmp_path: Path) -> None:
    icon = np.zeros((2, 2, 4), np.uint8)
    icon[0, 0, 3] = 255
    Image.fromarray(icon).save(tmp_path / "icon.png")
    Image.fromarray(icon).convert("LA").save(tmp_path / "grey.png")
    palette = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8), "P")
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "palette.png", transparency=1)
    for name in ("icon.png", "grey.png", "palette.png"):
        made = pixels(tmp_path / name, Rule(), grey=False)
        assert made.middle[0].tolist() == [[0, 255], [255, 255]], name
        assert made.converted == ["transparent parts laid on white"]


def test_pictures_are_turned_as_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "turned.png", exif=exif)
    made = pixels(tmp_path / "turned.png", Rule(), grey=False)
    np.testing.assert_array_equal(made.middle.transpose(1, 2, 0), np.rot90(COLOUR, -1))
    assert made.converted == ["turned as EXIF says"]
    assert header(tmp_path / "turned.png").size == (20, 12)


def test_print_colours_palettes_and_animations_are_read(tmp_path: Path) -> None:
    plain = Image.fromarray(COLOUR)
    plain.convert("CMYK").save(tmp_path / "print.tif")
    made = pixels(tmp_path / "print.tif", Rule(), grey=False)
    np.testing.assert_array_equal(made.middle.transpose(1, 2, 0), COLOUR)
    assert made.converted == ["CMYK turned into colour"]
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    made = pixels(tmp_path / "moving.gif", Rule(), grey=False)
    assert made.middle[:, 0, 0].tolist() == [255, 0, 0]
    assert made.converted == ["the first frame of several taken"]


def test_what_was_converted_is_said_once_and_again_from_the_cache(tmp_path: Path) -> None:
    write_pictures(tmp_path / "own", classes=2, count=4)
    for name in ("x", "y"):
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "own/class-1" / f"{name}.png")
    for _ in range(2):
        source = load_source(f"folder:{tmp_path / 'own'}")
        assert source.notes == (f"folder:{tmp_path / 'own'}: 2 pictures: 16 bits scaled to 8",)


def test_a_decoding_that_was_cut_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "own", classes=3, count=10)
    monkeypatch.setattr(module, "_CHUNK", 4)
    whole, read = load_source(f"folder:{tmp_path / 'own'}"), list[Path]()
    digest = whole.digest
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))

    def counted(limit: int) -> Callable[[Path, Rule, bool], Pixels]:
        def decode(path: Path, rule: Rule, grey: bool) -> Pixels:
            if len(read) >= limit:
                raise KeyboardInterrupt
            read.append(path)
            return pixels(path, rule, grey)

        return decode

    monkeypatch.setattr(module, "pixels", counted(13))
    with pytest.raises(KeyboardInterrupt):
        load_source(f"folder:{tmp_path / 'own'}")
    assert not [path for path in (tmp_path / "another").rglob("*") if len(path.name) == 24]
    read.clear()
    monkeypatch.setattr(module, "pixels", counted(100))
    assert load_source(f"folder:{tmp_path / 'own'}").digest == digest
    assert 30 - 12 <= len(read) <= 30 - 8


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "own", classes=2, count=4)

    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StreamlabError, match=r"its decoded pictures take .* GiB are free"):
        load_source(f"folder:{tmp_path / 'own'}")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(load_source(f"folder:{tmp_path / 'own'}").train_labels) == 6


def test_splits_are_found_in_any_case_and_hidden_files_are_not(tmp_path: Path) -> None:
    for split, count in (("Train", 4), ("VAL", 2)):
        write_pictures(tmp_path / split, classes=2, count=count, seed=count)
    (tmp_path / "Train/.ipynb_checkpoints").mkdir()
    (tmp_path / "Train/class-0/._0.png").write_bytes(b"resource fork")
    source = load_source(f"folder:{tmp_path}")
    assert (len(source.train_labels), len(source.test_labels)) == (8, 4)
    write_pictures(tmp_path / "test", classes=2, count=3, seed=9)
    source = load_source(f"folder:{tmp_path}")
    assert len(source.test_labels) == 6
    assert source.notes == (f"folder:{tmp_path}: {tmp_path / 'VAL'} is left out",)


def test_train_alone_is_split(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", classes=3, count=10)
    assert len(load_source(f"folder:{tmp_path}").test_labels) == 6


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_pictures(tmp_path / "own", classes=12, count=2)
    for number in range(12):
        (tmp_path / "own" / f"class-{number}").rename(tmp_path / "own" / str(number))
    source = load_source(f"folder:{tmp_path / 'own'}")
    assert source.class_names == tuple(map(str, range(12)))
    assert "in the order of their numbers" in source.notes[0]


def test_files_of_one_name_in_every_class_are_not_held_out_together(tmp_path: Path) -> None:
    write_pictures(tmp_path / "own", classes=10, count=5)
    source = load_source(f"folder:{tmp_path / 'own'}")
    assert len({Path(file).name for file in source.test_factors["file"]}) > 1


def test_folders_of_the_same_classes_are_domains(tmp_path: Path) -> None:
    for domain in ("photo", "sketch"):
        write_pictures(tmp_path / "own" / domain, classes=3, count=4, seed=len(domain))
    source = load_source(f"folder:{tmp_path / 'own'}")
    assert source.class_names == ("class-0", "class-1", "class-2")
    assert set(source.train_factors["domain"]) == {"photo", "sketch"}
    assert "are the factor domain" in source.notes[0]


def test_a_list_of_files_and_labels_is_a_source(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", classes=2, count=10)
    lines = [f"images/class-{n % 2}/{n // 2}.png,{('dog', 'cat')[n % 2]},{n % 3}" for n in range(20)]
    (tmp_path / "all.csv").write_text("\n".join(["file,label,camera", *lines]), encoding="utf-8-sig")
    source = load_source(f"csv:{tmp_path / 'all.csv'}")
    assert source.class_names == ("cat", "dog")
    assert (len(source.train_labels), len(source.test_labels)) == (16, 4)
    assert set(source.train_factors["camera"]) == {"0", "1", "2"}
    told = [f"{line.rsplit(',', 1)[0]},{'test' if n < 4 else 'train'}" for n, line in enumerate(lines)]
    (tmp_path / "told.csv").write_text("\n".join(["path,class,split", *told]))
    source = load_source(f"csv:{tmp_path / 'told.csv'}@6")
    assert source.test_factors["file"].tolist() == [line.split(",")[0] for line in lines[:4]]
    assert source.image_shape == (1, 6, 6)
    for text, message in (
        ("name,label\na,b", "it has no column file (it has name, label)"),
        ("file,label\nnone.png,b\nnone.png,b", "line 2: "),
        ("file,label\nnone.png", "line 2: it has another number of columns"),
        ("file,label,split\nimages/class-0/0.png,b,dev", "split is 'dev', not train or test"),
        ("file,label\nimages/class-0/0.png,b", "class b has one picture"),
        ("file,label\n", "the list is empty"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(StreamlabError) as refused:
            load_source(f"csv:{tmp_path / 'bad.csv'}")
        assert message in str(refused.value)


SETS: list[tuple[str, tuple[int, int, int], str]] = [
    ("imagenet-r", (200, 400, 200), "test"),
    ("imagenet-r-si-blurry", (200, 800, 200), "imagenet-r"),
    ("imagenet-a", (200, 400, 200), "train"),
    ("omnibenchmark", (300, 600, 300), "test"),
    ("vtab", (50, 100, 50), "test"),
    ("imagenet", (1000, 2000, 1000), "val"),
    ("imagenet-100", (100, 200, 100), "val"),
    ("cub200", (200, 400, 200), "train_test_split.txt"),
    ("miniimagenet", (100, 200, 100), "split/test.csv"),
    ("core50", (50, 400, 150), "s7"),
    ("domainnet", (345, 2070, 355), "real_test.txt"),
    ("omniglot", (1623, 1623, 8115), "images_evaluation"),
]


@pytest.mark.parametrize(("name", "counts", "missing"), SETS, ids=[row[0] for row in SETS])
def test_a_published_set_is_read_in_its_archives_layout(
    name: str, counts: tuple[int, int, int], missing: str, tmp_path: Path
) -> None:
    """Its classes, its split; what is missing is named, and where the set is to be had."""
    from streamlab import plugins

    plugin = plugins.load("sources", name)
    root = tmp_path / "data" / plugin.folder
    with pytest.raises(StreamlabError, match=f"source {name}: .* is missing; it is to be had at"):
        load_source(name, str(tmp_path / "data"))
    ARCHIVES[name](root)
    source = load_source(f"{name}@4", str(tmp_path / "data"))
    assert (len(source.class_names), len(source.train_labels), len(source.test_labels)) == counts
    assert source.image_shape[1:] == (4, 4)
    check_labels(name, source)
    assert Rule.read(plugin.rule, name).size((300, 200)) == plugin.shape[1:]
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(StreamlabError, match=f"{missing} is missing"):
        load_source(name, str(tmp_path / "data"))


def check_labels(name: str, source: Source) -> None:
    """Labels are of the class whose folder or list a picture is in."""
    for split in ("train", "test"):
        factors, labels = getattr(source, f"{split}_factors"), getattr(source, f"{split}_labels")
        for file, label in zip(factors["file"], labels, strict=True):
            of_class = source.class_names[label]
            assert of_class in file, (file, of_class)
    if name == "core50":
        assert set(source.test_factors["session"]) == {"s3", "s7", "s10"}
        assert source.train_factors["category"][source.train_labels == 49].tolist() == ["remote_control"] * 8
    if name == "domainnet":
        assert set(source.train_factors["domain"]) == {
            "clipart",
            "infograph",
            "painting",
            "quickdraw",
            "real",
            "sketch",
        }
    if name == "cub200":
        assert not any(file.endswith("/1.jpg") for file in source.train_factors["file"])


def test_si_blurrys_part_of_imagenet_r_is_its_codes(tmp_path: Path) -> None:
    """torchvision's ImageFolder, a permutation by torch's seed 0, its first four fifths sorted (Imagenet_R.py)."""
    root = tmp_path / "data" / "imagenet-r-si-blurry"
    ARCHIVES["imagenet-r-si-blurry"](root)
    found = ImageFolder(root / "imagenet-r").samples
    drawn = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    source = load_source("imagenet-r-si-blurry@4", str(tmp_path / "data"))
    for rows, split in ((drawn[:800], "train"), (drawn[800:], "test")):
        theirs = [found[row] for row in rows.sort().values.tolist()]
        assert [str(root / file) for file in getattr(source, f"{split}_factors")["file"]] == [
            f for f, _ in theirs
        ]
        assert getattr(source, f"{split}_labels").tolist() == [label for _, label in theirs]


def test_a_set_of_another_number_of_classes_is_not_it(tmp_path: Path) -> None:
    ARCHIVES["vtab"](tmp_path / "data" / "imagenet-r")
    with pytest.raises(StreamlabError, match="holds 50 classes, and the set has 200"):
        load_source("imagenet-r", str(tmp_path / "data"))
    with pytest.raises(StreamlabError, match="source mnist has one size"):
        load_source("mnist@32", str(tmp_path / "data"))
    with pytest.raises(StreamlabError, match="after @ stands a size"):
        load_source("imagenet-r@big", str(tmp_path / "data"))


def test_a_set_at_a_size_is_run_and_cited(tmp_path: Path) -> None:
    ARCHIVES["vtab"](tmp_path / "data" / "vtab")
    done = streamlab.run(
        "class-incremental", "vtab@4", ["ncm"], seeds=1, out=tmp_path / "runs", show=False, workers=0,
        data=str(tmp_path / "data"), settings={"scenario": {"tasks": 5}, "backbone": {"name": "pixels"}},
    )  # fmt: skip
    assert done.complete
    assert citations(tmp_path / "runs")


def test_a_name_that_is_no_utf_8_is_one_sentence(tmp_path: Path) -> None:
    write_pictures(tmp_path / "set", classes=2)
    os.rename(bytes(tmp_path / "set" / "class-0"), bytes(tmp_path / "set") + b"/\xff\xfe")
    with pytest.raises(StreamlabError, match=r"'\\udcff\\udcfe/0\.png' is no UTF-8; rename it"):
        load_source(f"folder:{tmp_path / 'set'}")
