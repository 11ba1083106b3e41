"""The names in a request, checked at once: it imports neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import plugins
from ..config import RECORDABLE, parse_budget
from ..data.names import plugin_of, several
from ..errors import StreamlabError, unknown
from .request import Request
from .rows import parse_backbone, parse_row


def check_names(request: Request, known_sources: Sequence[str] = ()) -> None:
    """Raise StreamlabError for a name that nothing has, before anything heavy is imported."""
    for text in request.budgets:
        if text[:1].isdigit():
            parse_budget(text)
    for name in request.record:
        if name not in RECORDABLE:
            raise unknown("thing to --record", name, RECORDABLE)
    for text in request.log:
        plugins.find("listeners", parse_row(text).strategy)
    for asked in request.asked():
        plugins.find("scenarios", asked.name)
        source = asked.source or request.source
        if source not in known_sources:
            for one in several(source):
                _check_source(one)
    for text in request.strategies:
        _check_strategy_name(parse_row(text).strategy)
    for text in request.smaller:
        plugins.find("backbones", plugins.named_backbone(parse_backbone(text))[0])


def _check_source(text: str) -> None:
    """Raise for a source that is not installed; files get a hint of how they are named."""
    head = plugin_of(text)
    if head in plugins.names("sources"):
        return
    for prefix, there in (("folder", Path(head).is_dir()), ("npz", Path(head).suffix == ".npz")):
        if there:
            raise StreamlabError(f"unknown source {head!r}; did you mean '{prefix}:{head}'?")
    plugins.find("sources", head)


def _check_strategy_name(name: str) -> None:
    """Raise for a strategy that is not installed; files get a hint of how they are named."""
    if name.endswith(".py") or plugins.is_of_family(name):
        return
    if name not in plugins.names("strategies") and Path(f"{name}.py").is_file():
        raise StreamlabError(f"unknown strategy {name!r}; did you mean './{name}.py'?")
    plugins.find("strategies", name)
