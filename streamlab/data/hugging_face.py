"""hf:REPO or hf:FOLDER - pictures in Hugging Face's formats; hf:REPO@CONFIG#image=img,label=fine,size=32.

A folder of parquet files or of `save_to_disk`, or what the hub's cache holds; nothing is downloaded unless
it is asked for (`streamlab data fetch hf:REPO`), and no code of a repository is run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..config import configure
from ..errors import StreamlabError
from .held_out import hashed_apart
from .image_folder import in_natural_order
from .pictures import SPLITS, Pictures, decoded
from .progress import Progress
from .reading import InTable, Rule
from .source import Source

_TESTS = ("test", "validation", "valid", "val")


@dataclass(frozen=True)
class Columns:
    """What stands after `#`: the columns (nothing: the one of that kind), the splits, the hub's revision, and
    a size as after `@` of folder: (with `;` for a comma).
    """

    image: str = ""
    label: str = ""
    train: str = "train"
    test: str = ""
    revision: str = ""
    size: str = ""


class HuggingFaceSource:
    """The plugin: `load(data, REPO)` reads what is here, `fetch` lets the library download it."""

    def __call__(self, data: Path, what: str) -> Source:
        """The set; other columns of text or numbers are factors.

        Raises StreamlabError where it is not here, a column or a split is not there or could be several.
        """
        return _source(what, *_loaded(what, offline=True))

    def fetch(self, data: Path, what: str, progress: Progress) -> None:
        """Download it to the hub's own cache."""
        _loaded(what, offline=False)
        progress(what, 1, 1)


SOURCE = HuggingFaceSource()


def _loaded(what: str, offline: bool) -> tuple[Mapping[str, Any], Columns]:
    """Its splits by name, as `datasets` has them."""
    named, _, text = what.partition("#")
    place, _, config = named.partition("@")
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    columns = configure(Columns, {name: value for name, _, value in pairs}, f"source hf:{what}")
    if offline:  # read when the library is imported
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    datasets = _library()
    datasets.disable_progress_bars()
    folder = Path(place).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(
                str(folder.resolve()) if folder.is_dir() else place,
                config or None,
                revision=columns.revision or None,
            )
    except Exception as error:  # the library raises whatever its readers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        fetch = "" if folder.is_dir() or not offline else f"; `streamlab data fetch hf:{what}` downloads it"
        raise StreamlabError(f"source hf:{what} cannot be read ({reason}){fetch}") from None
    return found if isinstance(found, Mapping) else {"train": found}, columns


def _library() -> Any:
    try:
        return import_module("datasets")
    except ImportError:
        raise StreamlabError("datasets is not installed; pip install 'streamlab-cl[hf]'") from None


def _source(what: str, splits: Mapping[str, Any], asked: Columns) -> Source:
    datasets = _library()

    name = f"hf:{what}"
    if asked.train not in splits:
        raise StreamlabError(f"source {name}: it has no split {asked.train} (it has {', '.join(splits)})")
    if asked.test and asked.test not in splits:
        raise StreamlabError(f"source {name}: it has no split {asked.test} (it has {', '.join(splits)})")
    test = asked.test or next((split for split in _TESTS if split in splits), "")
    chosen = {"train": splits[asked.train], **({"test": splits[test]} if test else {})}
    features = chosen["train"].features
    image = _column(name, features, datasets.Image, asked.image, "image")
    label = _column(name, features, datasets.ClassLabel, asked.label, "label")
    labels = {split: [str(value) for value in table[label]] for split, table in chosen.items()}
    classes = features[label].names if isinstance(features[label], datasets.ClassLabel) else None
    if classes is None:
        names = in_natural_order({value for values in labels.values() for value in values})
        label_of = {value: number for number, value in enumerate(names)}
    else:
        names = tuple(classes)
        label_of = {str(number): number for number in range(len(names))}
    made = {split: Pictures() for split in SPLITS}
    for split, table in chosen.items():
        apart: frozenset[int] = frozenset()
        if not test:
            apart = hashed_apart(name, [(value, str(row)) for row, value in enumerate(labels[split])])
        others = _factors(table, (image, label))
        stamp = str([(file["filename"], os.stat(file["filename"]).st_mtime_ns) for file in table.cache_files])
        raw = table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        for row, value in enumerate(labels[split]):
            if value not in label_of:
                raise StreamlabError(f"source {name}: {split} row {row} has the label {value}, and no class")
            picture = InTable(row, f"{name}, split {split}, row {row}", stamp, raw, image)
            factors = {column: values[row] for column, values in others.items()}
            made["test" if row in apart else split].add([picture], label_of[value], **factors)
    notes = () if test else (f"{name}: it has no test split: a fifth of each class is held out",)
    rule = Rule.read(asked.size.replace(";", ","), f"source {name}") if asked.size else Rule()
    return decoded(name, None, names, made, rule, notes)


def _column(name: str, features: Mapping[str, Any], kind: type, asked: str, what: str) -> str:
    """The column that is named, or the only one of its kind."""
    if asked:
        if asked not in features:
            raise StreamlabError(f"source {name}: it has no column {asked} (it has {', '.join(features)})")
        return asked
    found = [column for column, feature in features.items() if isinstance(feature, kind)]
    if len(found) != 1:
        which = f"several columns of that kind ({', '.join(found)})" if found else "no column of that kind"
        raise StreamlabError(
            f"source {name}: {which}; name the {what}'s, as hf:…#{what}=COLUMN (it has {', '.join(features)})"
        )
    return found[0]


def _factors(table: Any, left_out: tuple[str, ...]) -> dict[str, list[str]]:
    """Text of the other columns that have a word or a number a row."""
    datasets = _library()

    found = {}
    for column, feature in table.features.items():
        if column in left_out:
            continue
        if isinstance(feature, datasets.ClassLabel):
            found[column] = [feature.int2str(value) for value in table[column]]
        elif isinstance(feature, datasets.Value) and feature.dtype != "binary":
            found[column] = [str(value) for value in table[column]]
    return found
