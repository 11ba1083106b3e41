"""torchvision's classification sets, each from a miniature in its layout: the pixels and labels that it gives."""

from __future__ import annotations

import bz2
import csv
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import save

from streamlab.data import torchvision as ours
from streamlab.data.load import load_source
from streamlab.errors import StreamlabError

RNG = np.random.default_rng(0)
SIDE = "@8"  # most sets have pictures of every size


def lines(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in texts))


def caltech101(root: Path) -> None:
    for name in ("BACKGROUND_Google", "ant", "bass"):
        for number in range(1, 6):
            save(root / f"caltech101/101_ObjectCategories/{name}/image_{number:04}.jpg", 9)


def caltech256(root: Path) -> None:
    for place, name in enumerate(("001.ak47", "002.flag"), 1):
        for number in range(1, 6):
            save(root / f"caltech256/256_ObjectCategories/{name}/{place:03}_{number:04}.jpg", 9)


def country211(root: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("AD", "AE"):
            for number in range(3):
                save(root / f"country211/{split}/{name}/{number}.jpg", 9)


def dtd(root: Path) -> None:
    for name in ("banded", "dotted"):
        for number in range(6):
            save(root / f"dtd/dtd/images/{name}/{name}_{number}.jpg", 9)
    for partition in range(1, 11):
        for split, numbers in (("train", (0, 1)), ("val", (2, 3)), ("test", (4, 5))):
            shifted = [(number + partition) % 6 for number in numbers]
            texts = [f"{name}/{name}_{number}.jpg" for name in ("banded", "dotted") for number in shifted]
            lines(root / f"dtd/dtd/labels/{split}{partition}.txt", *texts)


def eurosat(root: Path) -> None:
    for name in ("Forest", "River"):
        for number in range(5):
            save(root / f"eurosat/2750/{name}/{name}_{number}.jpg", 9)


def fer2013(root: Path) -> None:
    (root / "fer2013").mkdir(parents=True)
    with (root / "fer2013/fer2013.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for number in range(8):
            pixels = " ".join(map(str, RNG.integers(0, 256, 48 * 48)))
            writer.writerow([number % 2, pixels, ("Training", "PublicTest")[number // 4]])


def fgvc(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b/data"
    for number in range(8):
        save(data / f"images/{number:07}.jpg", 9)
    for level, names in (("variant", ("707-320", "A 300")), ("manufacturer", ("Boeing", "Airbus"))):
        lines(data / f"{level}s.txt", *names)
        for split, first in (("trainval", 0), ("test", 4)):
            texts = [f"{number:07} {names[number % 2]}" for number in range(first, first + 4)]
            lines(data / f"images_{level}_{split}.txt", *texts)


def flowers(root: Path) -> None:
    from scipy.io import savemat

    for number in range(1, 307):
        save(root / f"flowers-102/jpg/image_{number:05}.jpg", 9)
    savemat(root / "flowers-102/imagelabels.mat", {"labels": [1 + number % 102 for number in range(306)]})
    sets = {
        name: np.arange(102) + 1 + 102 * number for number, name in enumerate(("trnid", "valid", "tstid"))
    }
    savemat(root / "flowers-102/setid.mat", sets)


def food(root: Path) -> None:
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        listed = {name: [f"{name}/{number}" for number in numbers] for name in ("apple_pie", "waffles")}
        for places in listed.values():
            for place in places:
                save(root / f"food-101/images/{place}.jpg", 9)
        lines(root / f"food-101/meta/{split}.json", json.dumps(listed))


def gtsrb(root: Path) -> None:
    for label in range(2):
        for number in range(2):
            save(root / f"gtsrb/GTSRB/Training/{label:05}/{number}.ppm", 9)
    for number in range(2):
        save(root / f"gtsrb/GTSRB/Final_Test/Images/{number}.ppm", 9)
    lines(root / "gtsrb/GT-final_test.csv", "Filename;ClassId", "0.ppm;1", "1.ppm;0")


def inaturalist(root: Path) -> None:
    for version, count in (("2021_train", 3), ("2021_valid", 1)):
        for number in range(2):
            kind = f"{number:05}_Animalia_Chordata_Aves_Order_Family_Genus{number}_name"
            for picture in range(count):
                save(root / f"{version}/{kind}/{picture}.jpg", 9)


def imagenette(root: Path) -> None:
    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            save(root / f"imagenette2-160/{split}/{name}/{split}.JPEG", 9)
            (root / f"imagenette2-160/{split}/{name}/{split}.JPEG").rename(
                root / f"imagenette2-160/{split}/{name}/{split}.jpeg"
            )


def pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    for split, first in (("trainval", 1), ("test", 3)):
        names = [f"{cat}_{number}" for cat in ("Bengal", "Egyptian_Mau") for number in (first, first + 1)]
        for name in names:
            save(base / f"images/{name}.jpg", 9)
        lines(base / f"annotations/{split}.txt", *(f"{n} {1 + (n[0] == 'E')} 1 1" for n in names))


def pcam(root: Path) -> None:
    import h5py

    (root / "pcam").mkdir(parents=True)
    for split in ("train", "test"):
        for letter, array in (
            ("x", RNG.integers(0, 256, (4, 10, 10, 3), dtype=np.uint8)),
            ("y", np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) % 2),
        ):
            with h5py.File(root / f"pcam/camelyonpatch_level_2_split_{split}_{letter}.h5", "w") as file:
                file[letter] = array


def places(root: Path) -> None:
    lines(root / "categories_places365.txt", "/a/airfield 0", "/z/zen_garden 1")
    for split, folder in (("train_standard", "data_256_standard"), ("val", "val_256")):
        listed = [f"/a/{number}.jpg {number % 2}" for number in range(4)]
        lines(root / f"places365_{split}.txt", *listed)
        for number in range(4):
            save(root / folder / f"a/{number}.jpg", 9)


def qmnist(root: Path) -> None:
    raw = root / "QMNIST/raw"
    raw.mkdir(parents=True)
    for split in ("train", "test"):
        images = RNG.integers(0, 256, (10, 9, 9), dtype=np.uint8)
        labels = np.stack([np.arange(10), *[np.zeros(10)] * 7], axis=1).astype(">i4")
        (raw / f"qmnist-{split}-images-idx3-ubyte").write_bytes(
            struct.pack(">BBBBIII", 0, 0, 8, 3, 10, 9, 9) + images.tobytes()
        )
        (raw / f"qmnist-{split}-labels-idx2-int").write_bytes(
            struct.pack(">BBBBII", 0, 0, 12, 2, 10, 8) + labels.tobytes()
        )


def sst2(root: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("negative", "positive"):
            save(root / f"rendered-sst2/{split}/{name}/0.png", 9)


def semeion(root: Path) -> None:
    rows = np.zeros((10, 266))
    rows[:, :256] = RNG.integers(0, 2, (10, 256))
    rows[np.arange(10), 256 + np.arange(10) % 2] = 1
    np.savetxt(root / "semeion.data", rows)


def stl10(root: Path) -> None:
    base = root / "stl10_binary"
    base.mkdir(parents=True)
    lines(base / "class_names.txt", "airplane", "bird")
    for split in ("train", "test"):
        images = RNG.integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
        (base / f"{split}_X.bin").write_bytes(images.tobytes())
        (base / f"{split}_y.bin").write_bytes(bytes([1, 2, 2, 1]))
    (base / "unlabeled_X.bin").write_bytes(b"")


def sun397(root: Path) -> None:
    lines(root / "SUN397/ClassName.txt", "/a/abbey", "/a/alley")
    for name in ("abbey", "alley"):
        for number in range(5):
            save(root / f"SUN397/a/{name}/sun_{number}.jpg", 9)


def cars(root: Path) -> None:
    from scipy.io import savemat

    base = root / "stanford_cars"
    kind = [("fname", object), ("class", object)]
    for split, place in (("train", "devkit/cars_train_annos"), ("test", "cars_test_annos_withlabels")):
        listed = [(f"{number:05}.jpg", 1 + number % 2) for number in range(4)]
        for name, _ in listed:
            save(base / f"cars_{split}/{name}", 9)
        (base / "devkit").mkdir(exist_ok=True)
        savemat(base / f"{place}.mat", {"annotations": np.array(listed, dtype=kind)})
    savemat(
        base / "devkit/cars_meta.mat", {"class_names": np.array(["AM General", "Acura RL"], dtype=object)}
    )


def usps(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name in ("usps.bz2", "usps.t.bz2"):
        rows = [
            f"{1 + row % 2} " + " ".join(f"{n + 1}:{v:.3f}" for n, v in enumerate(RNG.uniform(-1, 1, 256)))
            for row in range(4)
        ]
        (root / name).write_bytes(bz2.compress("\n".join(rows).encode()))


MAKERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "Caltech101": (caltech101, ""),
    "Caltech256": (caltech256, ""),
    "Country211": (country211, ""),
    "DTD": (dtd, "#partition=3"),
    "EuroSAT": (eurosat, ""),
    "FER2013": (fer2013, ""),
    "FGVCAircraft": (fgvc, "#annotation_level=manufacturer"),
    "Flowers102": (flowers, "#train=val"),
    "Food101": (food, ""),
    "GTSRB": (gtsrb, ""),
    "INaturalist": (inaturalist, ""),
    "Imagenette": (imagenette, "#size=160px"),
    "OxfordIIITPet": (pets, ""),
    "PCAM": (pcam, ""),
    "Places365": (places, "#small=true"),
    "QMNIST": (qmnist, ""),
    "RenderedSST2": (sst2, ""),
    "SEMEION": (semeion, ""),
    "STL10": (stl10, ""),
    "SUN397": (sun397, ""),
    "StanfordCars": (cars, ""),
    "USPS": (usps, ""),
}


@pytest.fixture(autouse=True)
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision knows the digests of the real files."""
    from torchvision import datasets

    for name in ("fer2013", "flowers102", "semeion", "stl10", "places365"):
        monkeypatch.setattr(
            getattr(datasets, name), "check_integrity", lambda path, md5=None: Path(path).is_file()
        )


def theirs(name: str, root: Path, **arguments: Any) -> tuple[np.ndarray, list[int]]:
    """(N, 8, 8, 3) what torchvision gives, at that size, and its labels."""
    from torchvision import datasets
    from torchvision.transforms import CenterCrop, Compose, Resize

    dataset = getattr(datasets, name)(str(root), transform=Compose([Resize(8), CenterCrop(8)]), **arguments)
    pairs = [dataset[row] for row in range(len(dataset))]
    return np.stack([np.asarray(image.convert("RGB")) for image, _ in pairs]), [label for _, label in pairs]


def as_set(images: np.ndarray, labels: Any) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def test_every_set_has_its_miniature() -> None:
    assert set(MAKERS) == set(ours._SETS)


@pytest.mark.parametrize("name", MAKERS)
def test_a_set_is_what_torchvision_gives(name: str, tmp_path: Path) -> None:
    make, options = MAKERS[name]
    root = tmp_path / "torchvision"
    root.mkdir()
    make(root)
    source = load_source(f"torchvision:{name}{SIDE}{options}", str(tmp_path))
    kept = ours._SETS[name]
    chosen = ours._options(name, kept, options.removeprefix("#"))
    splits = [theirs(name, root, **arguments) for arguments in ours._arguments(kept, chosen)]
    found = []
    for images, labels in (
        (source.train_images, source.train_labels), (source.test_images, source.test_labels),
    ):  # fmt: skip
        shown = np.broadcast_to(images, (len(images), 3, 8, 8)).transpose(0, 2, 3, 1)
        found.append((np.ascontiguousarray(shown), labels))
    if len(splits) == 1:
        ((images, labels),) = splits
        assert as_set(*found[0]) | as_set(*found[1]) == as_set(images, labels)
        assert len(found[1][0]) == 2  # a fifth of five in each of two classes
        assert "it has no test split" in source.notes[0]
    else:
        for (images, labels), (made, numbers) in zip(splits, found, strict=True):
            assert as_set(made, numbers) == as_set(images, labels)
            if not kept.sorted:
                np.testing.assert_array_equal(made, images)
                assert numbers.tolist() == [int(label) for label in labels]
    assert len(source.class_names) >= 2


def test_an_option_changes_the_set_and_is_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    dtd(tmp_path / "torchvision")
    first = load_source("torchvision:DTD@8", str(tmp_path))
    third = load_source("torchvision:DTD@8#partition=3", str(tmp_path))
    assert (first.name, third.name) == ("torchvision:DTD@8", "torchvision:DTD@8#partition=3")
    assert first.digest != third.digest
    assert first.class_names == ("banded", "dotted")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("CIFAR10", "torchvision keeps it as pickles; the source cifar-10 reads its binary files"),
        ("ImageNet", "torchvision keeps its classes as a pickle; the source imagenet reads its folders"),
        ("LFWPeople", "most of its people have one picture"),
        ("Foods101", "unknown torchvision set 'Foods101'; did you mean 'Food101'?"),
        ("DTD#partitions=2", "unknown option of torchvision:DTD 'partitions'; did you mean 'partition'?"),
        ("DTD", "`streamlab data fetch torchvision:DTD` downloads it"),
        ("SVHN@8", "torchvision:SVHN has one size, and takes no options"),
        ("DTD@big", "after @ stands a size"),
    ],
)
def test_what_cannot_be_read_is_told(what: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    with pytest.raises(StreamlabError, match=re.escape(said)):
        load_source(f"torchvision:{what}", str(tmp_path))


def test_a_split_that_torchvision_does_not_have_is_its_word(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    flowers(tmp_path / "torchvision")
    with pytest.raises(StreamlabError, match="Unknown value 'valid' for argument split"):
        load_source("torchvision:Flowers102@8#train=valid", str(tmp_path))
