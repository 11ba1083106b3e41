"""`streamlab runs show`: the tables of an experiment again."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console

from streamlab.config import readable_bytes
from streamlab.experiments.held import HeldRun, read_runs, tables_of

from .lines import hanging
from .live import LiveState, states_of
from .table import accuracy_table


def print_experiment(folder: Path) -> None:
    """Of each scenario and budget the table, accuracy over the stream as a chart, and what was held."""
    console = Console()
    for number, state in enumerate(states_of(folder)):
        print("\n" if number else "", end="")
        console.print(accuracy_table(state, console.width), highlight=False)
        print()
        print(accuracy_chart(state, min(console.width, 100)))
    for runs in tables_of(read_runs(folder)).values():
        _print_held(held_by_kind(runs))


def _print_held(kept: dict[str, dict[str, int]]) -> None:
    if kept:
        print("\nthe most that was held:")
    width = max((len(label) for label in kept), default=0)
    for label, kinds in kept.items():
        ranked = sorted(kinds.items(), key=lambda item: -item[1])
        text = ", ".join(f"{kind} {readable_bytes(count)}" for kind, count in ranked)
        print(hanging(f"  {label:<{width}}  ", text))


def held_by_kind(runs: list[HeldRun]) -> dict[str, dict[str, int]]:
    """Of every row's first complete run, the most bytes that it held, by kind."""
    found: dict[str, dict[str, int]] = {}
    for run in runs:
        result = run.folder.result
        if result is not None:
            found.setdefault(run.label, result["held"])
    return found


def accuracy_chart(state: LiveState, width: int = 80, height: int = 10) -> str:
    """Accuracy (%) over the evaluations of every row's first seed, a letter a row."""
    inner = width - 8
    grid = [[" "] * inner for _ in range(height)]
    legend = []
    for number, label in enumerate(state.labels):
        curve = state.of(label)[0].curve
        letter = chr(ord("a") + number)
        legend.append(f"{letter} {label}")
        for column in range(inner):
            place = column * (len(curve) - 1) / (inner - 1) if len(curve) > 1 else 0
            value = curve[round(place)] if curve else math.nan
            if value == value and (len(curve) > 1 or column == inner - 1):
                row = height - 1 - min(height - 1, int(value * height))
                grid[row][column] = letter
    lines = [
        f"{round(100 * (height - row) / height):>4} % |" + "".join(cells).rstrip()
        for row, cells in enumerate(grid)
    ]
    axis = "       +" + "-" * inner
    caption = "        stream, first to last evaluation (seed 0)"
    return "\n".join([*lines, axis, caption, *(f"        {row}" for row in legend)])
