"""Plugins by entry point: installed is found, built-ins included; listing imports none of them."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from .docstrings import first_line
from .errors import StreamlabError, unknown

_SINGULAR = {
    "scenarios": "scenario",
    "strategies": "strategy",
    "sources": "source",
    "backbones": "backbone",
    "augmentations": "augmentation",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "metrics": "metric",
    "listeners": "listener",
}
FAMILIES = "families"  # of strategies: `avalanche:Replay` is what the family `avalanche` has under Replay
KINDS = tuple(_SINGULAR)
_MEMBERS = ("metrics", "augmentations", "optimizers", "schedules")  # kinds of which a module has several


@dataclass(frozen=True)
class Plugin:
    """One installed plugin: its name, who ships it, and its one-line description."""

    name: str
    kind: str
    distribution: str
    description: str


@cache
def _entry_points(kind: str) -> dict[str, list[EntryPoint]]:
    """By name; more than one where several packages claim it."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"streamlab.{kind}"):
        others = found.setdefault(point.name, [])
        if all(other.value != point.value for other in others):
            others.append(point)
    return found


def names(kind: str) -> list[str]:
    """The names of the installed plugins of one kind, sorted."""
    return sorted(_entry_points(kind))


def installed(kind: str) -> list[Plugin]:
    """The installed plugins of one kind, none of them imported."""
    return [
        Plugin(name, kind, point.dist.name if point.dist else "?", first_line(point, kind in _MEMBERS))
        for name, points in sorted(_entry_points(kind).items())
        for point in points
    ]


def find(kind: str, name: str) -> EntryPoint:
    """The entry point of this name, not imported.

    Raises StreamlabError for an unknown name, and for one that two packages claim.
    """
    points = _entry_points(kind)
    if name not in points:
        several = [other for other in points if name in re.split(r"[-+]+", other)]
        if len(several) > 1:
            meant = [
                f"{other!r} ({first_line(points[other][0], False).rstrip('.')})" for other in sorted(several)
            ]
            raise StreamlabError(f"{_SINGULAR[kind]} {name!r} may mean {' or '.join(meant)}; name one")
        raise unknown(_SINGULAR[kind], name, points, f"streamlab list {kind}")
    first, *others = points[name]
    if others:
        raise StreamlabError(
            f"two plugins are named {name!r} ({first.value} and {others[0].value}); uninstall one of them"
        )
    return first


def load(kind: str, name: str) -> Any:
    """The object behind a plugin's name: a class, or for sources a function.

    Raises StreamlabError for an unknown name and for a plugin whose import fails.
    """
    point = find(kind, name)
    try:
        return point.load()
    except Exception as error:
        raise StreamlabError(
            f"{_SINGULAR[kind]} {name!r} cannot be imported from {point.value}: "
            f"{type(error).__name__}: {error}"
        ) from error


def named_backbone(options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A backbone's plugin and its options: `timm:resnet50` is the plugin timm with `model = resnet50`."""
    name, colon, member = str(options.get("name", "mlp")).partition(":")
    others = {key: value for key, value in options.items() if key != "name"}
    return name, {**others, "model": member} if colon else others


def load_of_family(name: str) -> Any:
    """The strategy class behind `FAMILY:NAME`; raises StreamlabError for an unknown one."""
    family, _, member = name.partition(":")
    (point,) = _entry_points(FAMILIES)[family]
    return point.load()(member)


def is_of_family(name: str) -> bool:
    """Whether a strategy's name is FAMILY:NAME of an installed family."""
    family, colon, member = name.partition(":")
    return bool(colon and member) and family in _entry_points(FAMILIES)


def is_ours(kind: str, name: str) -> bool:
    """Whether the plugin of this name is streamlab's (or torch's); a file's strategy is not."""
    if kind == "strategies" and is_of_family(name):
        kind, name = FAMILIES, name.partition(":")[0]
    points = _entry_points(kind).get(name, ())
    return bool(points) and all(point.value.startswith(("streamlab.", "torch.")) for point in points)


def load_file(path: Path) -> ModuleType:
    """The module in a file that belongs to no package; raises StreamlabError where it has none."""
    if not path.is_file():
        raise StreamlabError(f"strategy file {path} does not exist")
    name = f"streamlab_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise StreamlabError(
            f"strategy file {path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module
