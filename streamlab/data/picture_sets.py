"""Published sets of pictures with the splits that the field uses: unpacked by a person, and read here.

Archives and splits are as the repositories named in each card read them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import CorruptFile, StreamlabError
from .pictures import SPLITS, Pictures, decoded, pictures_in
from .progress import Progress
from .published import Listed
from .reading import Rule
from .source import Source

Found = tuple[tuple[str, ...], dict[str, Pictures]]
_TEST_SESSIONS = (3, 7, 10)
_TEST_DRAWERS = 5  # of Omniglot's twenty


@dataclass(frozen=True, kw_only=True)
class PictureSet(Listed):
    """A source plugin: a set of picture files below the data folder, unpacked there by its user.

    layout: class names and files of both splits. rule: the size, unless another
    stands after `@`. address: where it can be had.
    """

    name: str
    layout: Callable[[str, Path], Found]
    rule: str
    address: str

    def __call__(self, data: Path, size: str = "") -> Source:
        """The set at the size written after `@`; raises StreamlabError and CorruptFile, as `decoded`."""
        root = data / self.folder
        for file in self.files:
            if not (root / file).exists():
                raise StreamlabError(
                    f"source {self.name}: {root / file} is missing; it is to be had at {self.address}, and "
                    f"to be unpacked to {root}"
                )
        rule = Rule.read(size or self.rule, f"source {self.name}@{size}")
        names, splits = self.layout(self.name, root)
        if len(names) != self.classes:
            raise StreamlabError(
                f"source {self.name}: {root} holds {len(names)} classes, and the set has {self.classes}; it "
                f"is not unpacked whole, or another"
            )
        return decoded(self.name + (str(rule) if size else ""), root, names, splits, rule)

    def fetch(self, data: Path, progress: Progress) -> None:
        """Raises StreamlabError where it is not there: its owners ask for a form, or give no checksum."""
        if not self.found(data):
            raise StreamlabError(
                f"it is not fetched from here; have it from {self.address}, and unpack it to "
                f"{data / self.folder}"
            )


def _by_folder(train: str, test: str) -> Callable[[str, Path], Found]:
    """A folder a class below both; classes in plain order of names, as torchvision's ImageFolder has them."""

    def layout(name: str, root: Path) -> Found:
        names = tuple(sorted(path.name for path in (root / train).iterdir() if path.is_dir()))
        splits = {split: Pictures() for split in SPLITS}
        for label, of_class in enumerate(names):
            for split, folder in zip(SPLITS, (train, test), strict=True):
                splits[split].add(_some(name, root / folder / of_class), label)
        return names, splits

    return layout


def _unsplit(name: str, root: Path) -> Found:
    """A folder a class; of all pictures four of five are trained on, drawn by torch's seed 0: Si-Blurry's."""
    import torch

    names = tuple(sorted(path.name for path in (root / "imagenet-r").iterdir() if path.is_dir()))
    files = [
        (file, label) for label, of in enumerate(names) for file in _some(name, root / "imagenet-r" / of)
    ]
    drawn = torch.randperm(len(files), generator=torch.Generator().manual_seed(0))
    cut = int(len(files) * 0.8)
    splits = {split: Pictures() for split in SPLITS}
    for split, rows in zip(SPLITS, (drawn[:cut], drawn[cut:]), strict=True):
        for row in sorted(rows.tolist()):
            splits[split].add([files[row][0]], files[row][1])
    return names, splits


def _cub(name: str, root: Path) -> Found:
    """By its official lists, whose numbers begin at 1."""
    names = tuple(text for _, text in _rows(name, root / "classes.txt"))
    label_of = dict(_rows(name, root / "image_class_labels.txt"))
    trains = dict(_rows(name, root / "train_test_split.txt"))
    splits = {split: Pictures() for split in SPLITS}
    for number, file in _rows(name, root / "images.txt"):
        if number not in label_of or number not in trains:
            raise CorruptFile(f"source {name}: image {number} of {root / 'images.txt'} is in no other list")
        split = "train" if trains[number] == "1" else "test"
        splits[split].add([_there(name, root / "images" / file)], int(label_of[number]) - 1)
    return names, splits


def _mini(name: str, root: Path) -> Found:
    """By split/train.csv and split/test.csv of CEC's archive; classes in the order of their WordNet names."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for split in SPLITS:
        with (root / "split" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            rows[split] = [(row["filename"], row["label"]) for row in csv.DictReader(file)]
    names = tuple(sorted({label for _, label in rows["train"]}))
    return names, _listed(name, names, {s: [(root / "images" / f, w) for f, w in rows[s]] for s in SPLITS})


def _core50(name: str, root: Path) -> Found:
    """An object a class, o1 to o50; sessions 3, 7 and 10 are the test split; factors: session, category."""
    names = tuple(f"o{number}" for number in range(1, 51))
    splits = {split: Pictures() for split in SPLITS}
    for session in range(1, 12):
        split = splits["test" if session in _TEST_SESSIONS else "train"]
        for label, of_class in enumerate(names):
            files = _some(name, root / f"s{session}" / of_class)
            split.add(files, label, session=f"s{session}", category=_CATEGORIES[label // 5])
    return names, splits


def _domainnet(name: str, root: Path) -> Found:
    """By each domain's official lists; factor: domain."""
    splits = {split: Pictures() for split in SPLITS}
    names: dict[int, str] = {}
    for domain in _DOMAINS:
        for split in SPLITS:
            path = root / f"{domain}_{split}.txt"
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                file, _, label = line.rpartition(" ")
                if not label.isdigit() or file.count("/") != 2:
                    raise CorruptFile(f"{path}, line {number}: {line!r} is no picture and label")
                names.setdefault(int(label), file.split("/")[1])
                splits[split].add([_there(name, root / file)], int(label), domain=domain)
    return tuple(names.get(label, "") for label in range(max(names) + 1)), splits


def _omniglot(name: str, root: Path) -> Found:
    """A character a class; of its twenty drawers the last five are the test split (ours: none is published).

    Factors: alphabet, and set, which is background or evaluation.
    """
    names: list[str] = []
    splits = {split: Pictures() for split in SPLITS}
    for part in ("background", "evaluation"):
        for alphabet in sorted(path for path in (root / f"images_{part}").iterdir() if path.is_dir()):
            for character in sorted(path for path in alphabet.iterdir() if path.is_dir()):
                files = _some(name, character)
                cut = len(files) - _TEST_DRAWERS
                for split, chosen in (("train", files[:cut]), ("test", files[cut:])):
                    splits[split].add(chosen, len(names), alphabet=alphabet.name, set=part)
                names.append(f"{alphabet.name}/{character.name}")
    return tuple(names), splits


def _listed(
    name: str, names: tuple[str, ...], rows: dict[str, list[tuple[Path, str]]]
) -> dict[str, Pictures]:
    label_of = {of_class: label for label, of_class in enumerate(names)}
    splits = {split: Pictures() for split in SPLITS}
    for split, lines in rows.items():
        for path, of_class in lines:
            if of_class not in label_of:
                raise CorruptFile(f"source {name}: {path.name} is of {of_class}, and no training picture is")
            splits[split].add([_there(name, path)], label_of[of_class])
    return splits


def _rows(name: str, path: Path) -> Iterable[tuple[str, str]]:
    """A number and what is said of it, a line each; raises CorruptFile for another line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        number, space, text = line.strip().partition(" ")
        if not space:
            raise CorruptFile(f"source {name}: {path} has the line {line!r}, and should have two columns")
        yield number, text


def _some(name: str, folder: Path) -> list[Path]:
    files = pictures_in(folder)
    if not files:
        raise StreamlabError(f"source {name}: {folder} is missing or empty; it is not unpacked whole")
    return files


def _there(name: str, path: Path) -> Path:
    if not path.is_file():
        raise StreamlabError(f"source {name}: {path} is missing; it is not unpacked whole")
    return path


_CATEGORIES = (
    "plug_adapter mobile_phone scissor light_bulb can glass ball marker cup remote_control"
).split()
_DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
_PILOT = "the addresses in LAMDA-PILOT's README"


def _of_folders(
    name: str, classes: int, address: str, train: int = 0, test: int = 0, held: str = "test"
) -> PictureSet:
    return PictureSet(
        classes=classes, train=train, test=test, shape=(3, 224, 224), folder=name,
        files=("train", held), name=name, layout=_by_folder("train", held), rule="256,224,bicubic",
        address=address,
    )  # fmt: skip


IMAGENET_R: PictureSet = _of_folders("imagenet-r", 200, _PILOT, 24_000, 6_000)
"""ImageNet-R: 200 classes of ImageNet as art, cartoons, toys (Hendrycks 2021), in PILOT's split."""

IMAGENET_R_SI_BLURRY: PictureSet = PictureSet(
    classes=200, train=24_000, test=6_000, shape=(3, 224, 224), folder="imagenet-r-si-blurry",
    files=("imagenet-r",), name="imagenet-r-si-blurry", layout=_unsplit, rule="256,224",
    address="https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
)  # fmt: skip
"""ImageNet-R as it was published, in one folder, of which Si-Blurry's code draws a fifth for testing."""

IMAGENET_A: PictureSet = _of_folders("imagenet-a", 200, _PILOT)
"""ImageNet-A: photographs of 200 classes that networks mistake (Hendrycks 2021), in PILOT's split."""

OMNIBENCHMARK: PictureSet = _of_folders("omnibenchmark", 300, _PILOT)
"""OmniBenchmark: 300 classes of many realms (Zhang 2022), as PILOT cuts it."""

VTAB: PictureSet = _of_folders("vtab", 50, _PILOT)
"""VTAB: five domains of ten classes (Zhai 2019), as PILOT cuts it; tasks are its domains in this order."""

IMAGENET: PictureSet = _of_folders("imagenet", 1000, "https://image-net.org", 1_281_167, 50_000, held="val")
"""ImageNet ILSVRC 2012 in torchvision's layout, train and val, a folder a class; val is the test split."""

IMAGENET_100: PictureSet = _of_folders("imagenet-100", 100, "ImageNet, by your paper's list", held="val")
"""A hundred classes of ImageNet in train and val; which hundred differs between papers (PODNet's, UCIR's)."""

CUB200: PictureSet = PictureSet(
    classes=200, train=5_994, test=5_794, shape=(3, 224, 224), folder="CUB_200_2011",
    files=("images", "classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt"),
    name="cub200", layout=_cub, rule="256,224", address="https://data.caltech.edu/records/65de6-vp158",
)  # fmt: skip
"""CUB-200-2011: 200 kinds of birds (Wah 2011), by its official split, as CEC, FACT and TEEN read it."""

MINIIMAGENET: PictureSet = PictureSet(
    classes=100, train=50_000, test=10_000, shape=(3, 84, 84), folder="miniimagenet",
    files=("images", "split/train.csv", "split/test.csv"), name="miniimagenet", layout=_mini,
    rule="92x92,84", address="the addresses in CEC's README",
)  # fmt: skip
"""miniImageNet for few-shot class-incremental learning: 100 classes, 500 + 100 each, by CEC's lists."""

CORE50: PictureSet = PictureSet(
    classes=50, train=0, test=0, shape=(3, 128, 128), folder="core50_128x128",
    files=tuple(f"s{number}" for number in range(1, 12)), name="core50", layout=_core50, rule="128",
    address="https://vlomonaco.github.io/core50",
)  # fmt: skip
"""CORe50: 50 objects in 11 sessions (Lomonaco & Maltoni 2017), of which 3, 7 and 10 are the test split."""

DOMAINNET: PictureSet = PictureSet(
    classes=345, train=409_832, test=176_743, shape=(3, 224, 224), folder="domainnet",
    files=tuple(f"{domain}{end}" for domain in _DOMAINS for end in ("", "_train.txt", "_test.txt")),
    name="domainnet", layout=_domainnet, rule="256,224,bicubic", address="http://ai.bu.edu/M3SDA/",
)  # fmt: skip
"""DomainNet: 345 classes in six domains (Peng 2019), by its official lists; factor: domain."""

OMNIGLOT: PictureSet = PictureSet(
    classes=1_623, train=24_345, test=8_115, shape=(1, 28, 28), folder="omniglot-py",
    files=("images_background", "images_evaluation"), name="omniglot", layout=_omniglot, rule="28",
    address="https://github.com/brendenlake/omniglot",
)  # fmt: skip
"""Omniglot: 1,623 characters of 50 alphabets, twenty drawers each (Lake 2015); factors: alphabet, set."""
