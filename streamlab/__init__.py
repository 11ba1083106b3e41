"""streamlab: continual and few-shot learning, simulated on the same stream, at the same bytes.

Importing it is cheap: torch comes with the first name that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Experiment, Run, compare, load_run, plan, run
    from .batch import Batch
    from .data.source import Source
    from .errors import StreamlabError
    from .strategy import Strategy
    from .trained import TrainedNetwork, load_network

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "Experiment",
    "Run",
    "Source",
    "Strategy",
    "StreamlabError",
    "TrainedNetwork",
    "compare",
    "load_network",
    "load_run",
    "plan",
    "run",
]

_HOMES = {
    "Batch": "batch",
    "Experiment": "api",
    "Run": "api",
    "Source": "data.source",
    "Strategy": "strategy",
    "StreamlabError": "errors",
    "TrainedNetwork": "trained",
    "compare": "api",
    "load_network": "trained",
    "load_run": "api",
    "plan": "api",
    "run": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamlab' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
