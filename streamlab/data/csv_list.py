"""csv:FILE - pictures by a list with the columns file and label, and split and factors if there are any."""

from __future__ import annotations

import csv
from pathlib import Path

from ..errors import CorruptFile, StreamlabError
from .held_out import hashed_apart
from .image_folder import in_natural_order
from .pictures import SPLITS, Pictures, decoded
from .reading import Rule
from .source import Source

_FILE = ("file", "filename", "path", "image")
_LABEL = ("label", "class")


def load(data: Path, what: str) -> Source:
    """The pictures that a list names, paths relative to it; `csv:FILE@32` brings them to one size.

    Its first line names the columns: `file` (or filename, path, image) and `label` (or class), any text;
    `split`, train or test, without which a fifth of each class is held out as for `folder:`; others are
    factors. Raises StreamlabError for a list without those columns, or a class without a training picture;
    CorruptFile, naming the line, for a picture that is not there.
    """
    text, at, size = what.rpartition("@")
    path = Path(text if at else what).expanduser().resolve()
    rule = Rule.read(size, f"source csv:{what}") if at else Rule()
    name = f"csv:{path}{rule}"
    rows = _rows(name, path)
    header = list(rows[0])
    file, label = (_column(name, header, names) for names in (_FILE, _LABEL))
    factors = [column for column in header if column not in (file, label, "split")]
    names = in_natural_order({row[label] for row in rows})
    label_of = {of_class: number for number, of_class in enumerate(names)}
    splits = {split: Pictures() for split in SPLITS}
    divided = "split" in header
    apart = frozenset() if divided else hashed_apart(name, [(row[label], row[file]) for row in rows])
    for number, row in enumerate(rows):
        split = row["split"] if divided else "test" if number in apart else "train"
        picture = path.parent / row[file]
        if split not in SPLITS or not picture.is_file():
            wrong = f"{picture} is not there" if split in SPLITS else f"split is {split!r}, not train or test"
            raise CorruptFile(f"{path}, line {number + 2}: {wrong}")
        splits[split].add([picture], label_of[row[label]], **{column: row[column] for column in factors})
    return decoded(name, path.parent, names, splits, rule)


def _rows(name: str, path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise StreamlabError(f"source {name}: there is no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorruptFile(f"{path} is no list: {error}") from None
    if not rows:
        raise StreamlabError(f"source {name}: the list is empty")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise CorruptFile(f"{path}, line {number}: it has another number of columns than the first line")
    return rows


def _column(name: str, header: list[str], names: tuple[str, ...]) -> str:
    for column in names:
        if column in header:
            return column
    raise StreamlabError(f"source {name}: it has no column {names[0]} (it has {', '.join(header)})")
