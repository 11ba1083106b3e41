"""What a comparison costs beside its runs: a cell's overhead, two workers against one, and the report."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from streamlab.data.load import load_source
from streamlab.data.source import Source, open_shared, share
from streamlab.experiments.engines import run_grid
from streamlab.experiments.grid import Cell, Grid, prepare_grid
from streamlab.experiments.layout import hold, settle, write_experiment
from streamlab.experiments.request import Request
from streamlab.report.gather import gather
from streamlab.report.write import write_report
from streamlab.simulator import events
from streamlab.simulator.assembly import build
from streamlab.simulator.execute import deterministic, drive

SETTINGS = {"scenario": {"samples_per_class": 40}, "stream": {"batch_size": 10}}
CELLS = ("er", "er-ace", "der++", "finetune")


def request(**others: Any) -> Request:
    given: dict[str, Any] = {
        "scenarios": ("class-incremental",), "strategies": CELLS, "budgets": ("1MiB", "2MiB"), "eval_every": 2000,
        "settings": SETTINGS, "device": "cpu",
    }  # fmt: skip
    return Request(**{**given, **others})


def timed(asked: Request, source: Source, out: Path) -> float:
    """Seconds from the first cell's start to the last one's end."""
    grid = prepare_grid(asked, {asked.source: source})
    starts: list[float] = []

    def hear(cell: Cell, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            starts.append(time.perf_counter())

    with hold(out):
        write_experiment(grid, out)
        settle(grid, out)
        run_grid(grid, out, hear)
    return time.perf_counter() - starts[0]


def bare(grid: Grid, source: Source) -> float:
    """The same runs, one after another in this process, with nothing on disk."""
    shared = open_shared(share(source))
    began = time.perf_counter()
    with deterministic():
        for cell in grid.cells:
            drive(build(cell.spec, cell.plan, shared, lambda event: None, None))
    return time.perf_counter() - began


def measure() -> dict[str, float]:
    """Milliseconds of overhead a cell; speed of two workers over one with 40 cells; seconds of a report of 200."""
    source = load_source("glyphs-100")
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        over, speed = [], []
        for turn in range(3):
            few = request(seeds=3, workers=1)  # 21 cells: finetune's stand for both budgets
            grid = prepare_grid(few, {few.source: source})
            alone = bare(grid, source)
            over.append((timed(few, source, room / f"few-{turn}") - alone) / len(grid.cells))
        forty = {"seeds": 5, "strategies": ("er", "er-ace", "der++:replay_size=5", "er:replay_size=20")}
        for turn in range(3):
            one = timed(request(workers=1, **forty), source, room / f"one-{turn}")
            speed.append(one / timed(request(workers=2, **forty), source, room / f"two-{turn}"))
        small = {"scenario": {"samples_per_class": 5}, "stream": {"batch_size": 50}}
        budgets = ("1MiB", "2MiB", "3MiB", "4MiB", "5MiB")
        rows = tuple(f"er:replay_size={size}" for size in (5, 10, 20, 40))
        wide = request(seeds=10, strategies=rows, budgets=budgets, settings=small, eval_every=250)
        timed(wide, source, room / "wide")
        began = time.perf_counter()
        page = write_report(gather([room / "wide"]), room / "report")[0]
        taken = time.perf_counter() - began
        size = page.stat().st_size
    return {
        "overhead": statistics.median(over),
        "speed": statistics.median(speed),
        "report": taken,
        "size": size / 1e6,
    }


def section() -> list[str]:
    """The page's section."""
    found = measure()
    return [
        "## Comparisons",
        "",
        "`streamlab compare` on class-incremental streams of 4,000 glyphs, an MLP. Overhead: one worker's time a cell, less",
        "that of the same run in a process with nothing on disk. 40 cells on two workers and on one, from the first cell's start",
        "to the last one's end. Medians of 3 turns.",
        "",
        "| | |",
        "| --- | ---: |",
        f"| a cell's overhead over the bare run, ms | {1000 * found['overhead']:.0f} |",
        f"| 40 cells: two workers are faster than one | {found['speed']:.2f} |",
        f"| the report of 200 runs, s | {found['report']:.1f} |",
        f"| its HTML, MB | {found['size']:.1f} |",
        "",
    ]


if __name__ == "__main__":
    print("\n".join(section()))
