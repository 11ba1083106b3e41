"""What the tests of comparisons share: a small request, and a watcher."""

from __future__ import annotations

from typing import Any

from streamlab.experiments.grid import Cell, Grid
from streamlab.experiments.request import Request
from streamlab.simulator import events

SESSIONS: dict[str, Any] = {
    "scenario": {"kind": "sessions", "tasks": 3},
    "stream": {"epochs": 1},
    "backbone": {"name": "convnet", "width": 8, "blocks": 2},
}


def asking(**others: Any) -> Request:
    given: dict[str, Any] = {
        "scenarios": ("class-incremental",), "source": "tiny", "strategies": ("er", "expandable-der"),
        "seeds": 2, "budgets": ("12kB", "40kB"), "settings": SESSIONS, "workers": 0, "device": "cpu",
        "intervals": True,
    }  # fmt: skip
    return Request(**{**given, **others})


class Listening:
    """Hears nothing of interest."""

    def __init__(self, grid: Grid) -> None:
        self.heard: list[tuple[Cell, events.Event]] = []

    def hear(self, cell: Cell, event: events.Event) -> None:
        self.heard.append((cell, event))

    def tick(self) -> None: ...

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *error: object) -> None: ...
