"""Options that several commands share, and how a request is made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streamlab import plugins

from .completion import complete

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


def scenario_or_recipe(incomplete: str) -> list[str]:
    """What the shell offers: scenarios, and recipes that lie in this folder."""
    recipes = [str(path) for path in Path().glob(f"{incomplete}*.toml")]
    return [name for name in plugins.names("scenarios") if name.startswith(incomplete)] + recipes


Strategies = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        metavar="NAME|FILE.py[:OPTION=VALUE,…]",
        help="A row of the table; repeatable.",
        autocompletion=complete("strategies"),
    ),
]
SourceName = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="Labelled images; a+b joins two. [default: glyphs-100]",
        autocompletion=complete("sources"),
    ),
]
Seeds = Annotated[int | None, typer.Option(help="Seeds 0 to N-1, each with its own plan. [default: 3]")]
Accounting = Annotated[
    str | None, typer.Option(metavar="held|survey", help="What counts as a byte. [default: held]")
]
CountFrozen = Annotated[
    bool | None,
    typer.Option("--count-frozen/--free-frozen", help="Whether frozen backbones count. [default: they do]"),
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.OPTION=VALUE", help="As stream.batch_size=10, er.replay_size=20."),
]
EvalEvery = Annotated[
    int | None,
    typer.Option(help="Samples (or episodes) between evaluations. [default: 1000, or a tenth]"),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda. [default: auto]")]
Data = Annotated[str | None, typer.Option("--data", metavar="FOLDER", help="Where downloaded sources lie.")]
Workers = Annotated[
    int | None, typer.Option(help="Worker processes; 0 runs in this one. [default: one a core]")
]
JsonLines = Annotated[bool, typer.Option("--json", help="Events and results as JSON lines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]


def make_request(
    command: str,
    kind: type[R],
    recipe: Mapping[str, Any],
    options: Mapping[str, Any],
    settings: Sequence[str] | None,
) -> R:
    """A request, typed and checked: a recipe's values under the options given, `--set` on top.

    options: None is one that was not given. Settings stay the tree that they are. Raises StreamlabError.
    """
    from streamlab.config import configure, merged, parse_settings

    given = {name: value for name, value in options.items() if value is not None and value != []}
    told = {**recipe, **given}
    tree = merged(told.pop("settings", {}), parse_settings(settings or ()))
    return dataclasses.replace(configure(kind, told, command), settings=tree)
