"""What a run's result follows from: whether a run that is there is the one that is asked for."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import plugins
from .spec import RunSpec

if TYPE_CHECKING:
    from ..strategy import Strategy

_ELSEWHERE = ("label", "data")  # where a run lies and where its data lay do not change its result


def identity(
    spec: RunSpec, provenance: Mapping[str, Any], strategy: type[Strategy] | None = None
) -> dict[str, Any]:
    """All that a run's result follows from, by name, as JSON values.

    The plan and the source are in the spec, by fingerprint and digest. strategy: the class itself, where it
    has no importable name.
    """
    values = {name: value for name, value in spec.to_plain().items() if name not in _ELSEWHERE}
    forms = {name: provenance[name] for name in ("packages", "threads", "layout", "sgd")}
    backbone = str(spec.backbone.get("name", "")).partition(":")[0]
    weights = Path(str(spec.backbone.get("weights", "")))
    sources = {
        "strategy's source": _source_of(strategy) if strategy else _source("strategies", spec.strategy),
        "backbone's source": _source("backbones", backbone) if backbone else "",
    }
    if weights.is_file():
        with weights.open("rb") as file:
            forms["weights"] = hashlib.file_digest(file, "sha256").hexdigest()
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sources.items()}
    return {**values, **forms, **digests}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names under which two identities differ."""
    names = [*one, *(name for name in other if name not in one)]
    return [name for name in names if _plain(one.get(name)) != _plain(other.get(name))]


def _source_of(strategy: type[Strategy]) -> str:
    try:
        return inspect.getsource(strategy)
    except (OSError, TypeError):  # typed into a prompt
        return f"{strategy.__module__}.{strategy.__qualname__}"


def _plain(value: Any) -> Any:
    """As JSON would give it back: tuples are lists."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _source(kind: str, name: str) -> str:
    """The text of the module that holds a plugin, which is not imported for it."""
    if plugins.is_of_family(name):
        return name
    if name.endswith(".py"):
        return Path(name).read_text(encoding="utf-8")
    found = importlib.util.find_spec(plugins.find(kind, name).module)
    return Path(found.origin).read_text(encoding="utf-8") if found and found.origin else ""
