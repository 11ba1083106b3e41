"""What TEEN's nine sessions take once the base is trained: features kept, first seen, and not kept."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from jobs import cells_of

from streamlab.data.load import load_source
from streamlab.data.source import open_shared, share
from streamlab.experiments.grid import Cell
from streamlab.files import cache_folder
from streamlab.simulator.assembly import build
from streamlab.simulator.execute import deterministic, drive

SWEEP = [
    f"teen:shift={shift},softmax_t={softmax_t}"
    for shift in (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    for softmax_t in (1, 4, 16, 32, 64)
]


def seconds(cells: list[Cell], shared: Path, rows: int) -> float:
    """The first `rows` runs, one after another in this process, with one thread."""
    source = open_shared(shared)
    began = time.perf_counter()
    with deterministic():
        for cell in cells[:rows]:
            drive(build(cell.spec, cell.plan, source, lambda event: None, None))
    return time.perf_counter() - began


def measure() -> dict[str, float]:
    """Seconds of one run: features in the cache, to be computed, and with the cache off; and of fifty."""
    kept = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        source = load_source("glyphs-100")
        settings = {"base": {"epochs": 1}}
        on = cells_of(source, "fscil", *SWEEP, settings=settings)
        off = cells_of(source, "fscil", "teen", settings={**settings, "compute": {"cache": "0"}})
        shared = share(source)
        seconds(on, shared, 1)  # trains the base
        figures: dict[str, list[float]] = {"off": [], "first": [], "kept": []}
        for _ in range(3):
            figures["off"].append(seconds(off, shared, 1))
            shutil.rmtree(cache_folder() / "features")
            figures["first"].append(seconds(on, shared, 1))
            figures["kept"].append(seconds(on, shared, 1))
        fifty = seconds(on, shared, len(SWEEP))
    if kept is None:
        os.environ.pop("XDG_CACHE_HOME")
    else:
        os.environ["XDG_CACHE_HOME"] = kept
    return {name: statistics.median(taken) for name, taken in figures.items()} | {"fifty": fifty}


def section() -> list[str]:
    """The page's section."""
    found = measure()
    return [
        "## Few-shot sessions after base training",
        "",
        "`teen` on glyphs-100: a base of 60 classes and eight sessions of 5-way 5-shot, all nine evaluated, after the base",
        f"was trained; one CPU thread, medians of 3. A sweep is {len(SWEEP)} calibration settings.",
        "",
        "| | seconds | cache off / this |",
        "| --- | ---: | ---: |",
        f"| nine sessions, cache off | {found['off']:.2f} | |",
        f"| nine sessions, features seen for the first time | {found['first']:.2f} | {found['off'] / found['first']:.1f} |",
        f"| nine sessions, features kept | {found['kept']:.2f} | {found['off'] / found['kept']:.1f} |",
        f"| a sweep of {len(SWEEP)}, features kept | {found['fifty']:.1f} | {len(SWEEP) * found['off'] / found['fifty']:.1f} |",
        "",
    ]  # fmt: skip


if __name__ == "__main__":
    print("\n".join(section()))
