"""Rows of a table, as a person names them: a strategy, and the options that set it apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import plugins
from ..errors import StreamlabError


@dataclass(frozen=True)
class Row:
    """A row of the table: a strategy by name or file, and the options that set it apart."""

    strategy: str
    label: str
    options: Mapping[str, Any]


def parse_row(text: str) -> Row:
    """`er`, `./mine.py`, `avalanche:Replay`, or `er:selection=balanced,replay_size=20` (a row of its own)."""
    name, colon, rest = text.partition(":")
    if plugins.is_of_family(text):  # avalanche:Replay:mem_size=200
        inner, colon, rest = rest.partition(":")
        name = f"{name}:{inner}"
    options: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        path, equals, value = part.partition("=")
        if not equals:
            raise StreamlabError(f"strategy {text!r}: write NAME:OPTION=VALUE,OPTION=VALUE")
        section, dot, inner = path.strip().partition(".")
        if dot:
            options.setdefault(section, {})[inner] = value.strip()
        else:
            options[section] = value.strip()
    shown = Path(name).stem if name.endswith(".py") else name
    return Row(name, f"{shown} {rest}" if colon else shown, options)


def parse_backbone(text: str) -> dict[str, Any]:
    """`resnet32`, `resnet32:width=8`, or `timm:resnet50.a1_in1k,train=all`, as a section `backbone`."""
    name, _, rest = text.partition(":")
    member, _, others = rest.partition(",")
    if "=" not in member and member:
        name, rest = f"{name}:{member}", others
    options = dict(parse_row(f"{name.partition(':')[0]}:{rest}").options)
    return {"name": name, **options}


def absolute(text: str) -> str:
    """A row's text, a file in it named by its whole path."""
    name, colon, rest = text.partition(":")
    return f"{Path(name).resolve()}{colon}{rest}" if name.endswith(".py") else text


def unique_labels(rows: Iterable[Row]) -> list[Row]:
    """The rows; raises StreamlabError where two have one label."""
    listed = list(rows)
    labels = [row.label for row in listed]
    for label in labels:
        if labels.count(label) > 1:
            raise StreamlabError(f"strategy {label!r} is named twice; give one of them an option")
    return listed
