"""Finds a source by its name: installed, joined with others, and where downloaded ones lie."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from .. import plugins
from ..errors import StreamlabError
from ..files import cache_folder
from .joined import joined
from .names import several
from .source import Source


def data_folder(given: str | None = None) -> Path:
    """Where downloaded sources lie: `--data`, else STREAMLAB_DATA, else the user's cache."""
    chosen = given or os.environ.get("STREAMLAB_DATA")
    if chosen and "\0" in chosen:
        raise StreamlabError(f"--data is {chosen!r}, which is no path")
    return Path(chosen) if chosen else cache_folder() / "data"


def load_source(name: str, data: str | None = None) -> Source:
    """The installed source of this name, or NAME:WHAT, or several joined with +.

    Raises StreamlabError or CorruptFile, by name.
    """

    sources: list[Source] = []
    for one in several(name):
        plugin, what = source_plugin(one)
        sources.append(plugin(data_folder(data), *what))
    return joined(sources)


def source_plugin(name: str) -> tuple[Any, tuple[str, ...]]:
    """The plugin behind `fashion-mnist`, `folder:PATH` or `cub200@256,224`, and what stands behind its name.

    Raises StreamlabError where it lacks what it takes, or is given what it does not.
    """
    head, colon, rest = name.partition(":")
    if not colon:
        head, at, size = name.partition("@")
        plugin = plugins.load("sources", head)
        if at and len(inspect.signature(plugin).parameters) > 1:
            return plugin, (size,)
        if at:
            raise StreamlabError(f"source {head} has one size; preprocess.resize brings it to another")
    plugin = plugins.load("sources", head)
    required = [p for p in inspect.signature(plugin).parameters.values() if p.default is p.empty]
    takes_more = len(required) > 1
    if takes_more and not rest:
        raise StreamlabError(f"source {head} needs to know what to read: --source {head}:WHAT")
    if colon and not takes_more:
        raise StreamlabError(f"source {head} takes nothing after a colon; write --source {head}")
    return plugin, (rest,) if takes_more else ()
