"""Recipes that ship: published protocols as TOML files, and what was published with them.

A recipe is a request in TOML; its section `about` says whose protocol it is, and is no part of the request.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import configure
from ..errors import StreamlabError, unknown

_FOLDER = Path(__file__).parent
PREFIX = "recipe:"


@dataclass(frozen=True)
class Figure:
    """One published number, in percent. spread: as the table gives it (None: it gives none)."""

    value: float
    spread: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.2f}" + ("" if self.spread is None else f" ± {self.spread:.2f}")


@dataclass(frozen=True)
class About:
    """Whose protocol a recipe is.

    paper, table: where it stands. metric: what its figures mean. classes: of the source. read_in: where the
    figures were read, if not there. weights: what a backbone needs beside the source. differs: what is not
    as published, a sentence each. published: by row (`gdumb`, or at one of several budgets `gdumb 200ex`) and
    metric, a number in percent, or one and its spread.
    """

    paper: str
    table: str
    metric: str
    classes: int
    read_in: str = ""
    weights: str = ""
    differs: tuple[str, ...] = ()
    published: Mapping[str, Mapping[str, float | tuple[float, float]]] = field(default_factory=dict)

    @property
    def figures(self) -> dict[tuple[str, str], Figure]:
        """By row and metric."""
        return {
            (row, metric): Figure(*value) if isinstance(value, tuple) else Figure(value)
            for row, by_metric in self.published.items()
            for metric, value in by_metric.items()
        }


def shipped() -> list[str]:
    """The names of the recipes that ship, as survey/cifar-100-b0-inc10."""
    return sorted(path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.rglob("*.toml"))


def path_of(text: str) -> Path:
    """The file of `recipe:NAME`, or the path itself; raises StreamlabError for a name that no recipe has."""
    if not text.startswith(PREFIX):
        return Path(text)
    name = text.removeprefix(PREFIX)
    if name not in shipped():
        raise unknown("recipe", name, shipped(), "streamlab recipes")
    return _FOLDER / f"{name}.toml"


def about(path: Path) -> About | None:
    """What a recipe says of itself, if anything; raises StreamlabError for what cannot be meant."""
    told = tomllib.loads(path.read_text(encoding="utf-8")).get("about")
    if told is not None and not isinstance(told, dict):
        raise StreamlabError(f"recipe {path.stem}: about is a section, and {told!r} is none")
    return None if told is None else configure(About, told, f"recipe {path.stem}: about")


def of_rows(recipe: Mapping[str, Any], strategies: Sequence[str]) -> dict[str, Any]:
    """A recipe's values for some rows alone: sections of its other rows are left out. No rows: all of it."""
    from ..experiments.rows import parse_row

    if not strategies:
        return dict(recipe)
    chosen = [parse_row(text) for text in strategies]
    kept = {name for row in chosen for name in (row.strategy, row.label)}
    others = [parse_row(text) for text in recipe.get("strategies", ())]
    left_out = {name for row in others for name in (row.strategy, row.label)} - kept
    settings = {name: value for name, value in recipe["settings"].items() if name not in left_out}
    return {**recipe, "settings": settings}
