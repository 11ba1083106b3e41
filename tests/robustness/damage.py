"""Run folders, done and half done, of which a file is damaged: what goes on from them, or reads them."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from streamlab.api import load_run
from streamlab.experiments.export import export_tables
from streamlab.experiments.grid import Grid
from streamlab.experiments.held import read_runs
from streamlab.experiments.measures import measure_runs
from streamlab.report.gather import gather
from streamlab.runs.folder import RunFolder

# By its path: a folder of tests beside it is named streamlab, and must not be found under that name.
_SPEC = importlib.util.spec_from_file_location("making", Path(__file__).parent.parent / "making.py")
assert _SPEC is not None
assert _SPEC.loader is not None
making = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(making)
PLACE = Path(tempfile.mkdtemp(prefix="streamlab-attack-"))


@cache
def grid() -> Grid:
    return making.resolved(
        making.make_source(classes=4, train=60, test=6), "er", scenario="class-incremental", eval_every=20,
        settings={"scenario": {"tasks": 2}},
    )  # fmt: skip


@cache
def whole() -> tuple[Path, dict[str, Any]]:
    making.carry_on(grid(), PLACE / "whole")
    return PLACE / "whole", metrics(PLACE / "whole")


@cache
def half() -> Path:
    os.environ["STREAMLAB_CHECKPOINT_SECONDS"] = "0"
    making.broken_off(grid(), PLACE / "half", after=9)
    return PLACE / "half"


def metrics(folder: Path) -> dict[str, Any]:
    result = RunFolder(folder / grid().cells[0].folder).result
    assert result is not None
    return {name: result[name] for name in ("metrics", "class_accuracy", "accuracy_matrix")}


def harm(draws: random.Random, folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = draws.choice(files)
    content = bytearray(path.read_bytes())
    kind = draws.choice(
        ["flip", "flip", "cut", "lose", "add", "zero", "swap", "empty", "number", "link", "folder"]
    )
    if kind == "flip" and content:
        for _ in range(draws.choice([1, 1, 3])):
            content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    if kind == "cut":
        content = content[: draws.randrange(len(content) + 1)]
    if kind == "add":
        content += draws.randbytes(draws.randrange(1, 50))
    if kind == "zero":
        begin = draws.randrange(len(content) + 1)
        content[begin : begin + 64] = b"\0" * len(content[begin : begin + 64])
    if kind == "empty":
        content.clear()
    if kind == "number":
        text = content.decode("latin-1")
        places = [place for place, letter in enumerate(text) if letter.isdigit()]
        if places:
            place = draws.choice(places)
            text = (
                text[:place]
                + draws.choice(["NaN", "-1", "1e400", '"x"', "null", "[]", "7"])
                + text[place + 1 :]
            )
        content = bytearray(text.encode("latin-1"))
    if kind == "swap":
        content = bytearray(draws.choice(files).read_bytes())
    path.unlink()
    if kind == "link":
        path.symlink_to("/nowhere")
    elif kind == "folder":
        path.mkdir()
    elif kind != "lose":
        path.write_bytes(content)
    return f"{kind} of {path.relative_to(folder)}"


def attack(draws: random.Random, folder: Path) -> None:
    """Go on from it or read it: the results are the same, or something is said."""
    from attack import Silent

    _, right = whole()
    source = draws.choice([whole()[0], half()])
    place = folder / "out"
    shutil.copytree(source, place)
    what = harm(draws, place)
    how = draws.choice(["go on", "go on", "read", "report", "load", "export"])
    if how == "go on":
        if making.carry_on(grid(), place) and metrics(place) != right:
            raise Silent(f"{what}: went on to {json.dumps(metrics(place))[:300]}")
        return
    if how == "read":
        for found in measure_runs(read_runs(place)):
            if found is None:
                raise Silent(what)
    elif how == "report":
        gather([place])
    elif how == "export":
        export_tables(read_runs(place), draws.choice(["csv", "parquet"]), folder / "tables")
        for path in (folder / "tables").glob("metrics.csv"):
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            values = {row["metric"]: float(row["value"]) for row in rows if row["value"]}
            if values != right["metrics"]:
                raise Silent(f"{what}: exports {values}")
    else:
        for run in load_run(place).runs:
            if run.complete and run.metrics != right["metrics"]:
                raise Silent(f"{what}: loads {run.metrics}")
            if run.complete:
                assert run.record is not None
