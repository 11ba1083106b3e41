"""A comparison's folder: what is written of it, which of its cells are done, and what is moved aside.

    comparison.json            what was asked for, and the blocks        report.html, .md, .tex, .csv
    SCENARIO/BUDGET/           one experiment, a block: its strategies and seeds at that budget
    SCENARIO/any-budget/       strategies that keep no exemplars: their runs stand for every budget
    tuning/                    trials, and what was chosen               superseded/  runs made otherwise

A cell that is done is not run again: its spec, plan, source, versions and plugin's source must agree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import CorruptFile, StreamlabError
from ..files import locked, write_json
from ..runs.folder import RunFolder, provenance
from ..runs.identity import differences, identity
from ..runs.spec import absolute, parse_row
from .grid import Cell, Grid
from .request import CompareRequest


@contextmanager
def hold(out: Path) -> Iterator[None]:
    """Make a comparison's folder, and hold it for this process.

    Raises StreamlabError where it is a file, or another command holds it.
    """
    if out.is_file():
        raise StreamlabError(f"{out} is a file, and a comparison needs a folder")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        yield


def write_comparison(grid: Grid, out: Path) -> None:
    """Write comparison.json: what was asked for, and where the blocks lie.

    Files are named by their whole path, so that it can be gone on with from anywhere.
    """
    blocks = [
        {"folder": block.folder, "scenario": block.scenario, "budget": block.budget} for block in grid.blocks
    ]
    budgets = {name: dict(own) for name, own in grid.budgets.items()}
    request = dataclasses.asdict(grid.request)
    request["strategies"] = [absolute(text) for text in grid.request.strategies]
    if grid.request.data is not None:
        request["data"] = str(Path(grid.request.data).resolve())
    content = {"request": request, "classes": grid.classes, "budgets": budgets, "blocks": blocks}
    write_json(out / "comparison.json", content)


def settle(grid: Grid, out: Path) -> list[str]:
    """Make every cell's folder in `out`; returns one line for each run that is made anew.

    A run that was made otherwise (another spec, version or source of a plugin) is moved to superseded/.
    """
    notes = []
    made_with = provenance()
    for cell in grid.cells:
        path, experiment = out / cell.folder, cell.block.experiment
        changed = _changed(cell, path, made_with)
        if changed:
            notes.append(f"{cell.folder} is run again: {', '.join(changed[:3])} changed")
            _supersede(out, path)
        own = experiment.classes.get(cell.spec.strategy)
        RunFolder.create(path, cell.spec, experiment.plans[cell.spec.plan_seed], own)
    for block in grid.blocks:
        specs = [spec.to_plain() for spec in block.experiment.specs]
        write_json(out / block.folder / "experiment.json", {"specs": specs})
    return notes


def count_done(grid: Grid, out: Path) -> int:
    """Cells that are complete in `out`, made as they would be now."""
    made_with = provenance()
    return sum(
        RunFolder(out / cell.folder).result is not None and not _changed(cell, out / cell.folder, made_with)
        for cell in grid.cells
    )


def _changed(cell: Cell, path: Path, made_with: Mapping[str, Any]) -> list[str]:
    """What a run that is there was made with otherwise; nothing where there is none."""
    if not (path / "run.json").exists():
        return []
    own = cell.block.experiment.classes.get(cell.spec.strategy)
    return differences(RunFolder(path).about.get("identity", {}), identity(cell.spec, made_with, own))


def _supersede(out: Path, path: Path) -> None:
    """Move a run out of the way, under a number of its own."""
    number = 1
    while (target := out / "superseded" / str(number) / path.relative_to(out)).exists():
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)


def read_comparison(folder: Path) -> dict[str, Any]:
    """comparison.json as JSON values; raises StreamlabError."""
    try:
        content: dict[str, Any] = json.loads((folder / "comparison.json").read_text("utf-8"))
        if not {"request", "classes", "budgets", "blocks"} <= content.keys():
            raise ValueError("parts of it are missing")
    except FileNotFoundError:
        raise StreamlabError(f"{folder} holds no comparison (there is no comparison.json in it)") from None
    except ValueError as error:
        raise CorruptFile(f"{folder / 'comparison.json'} is damaged: {error}") from None
    return content


def read_request(folder: Path) -> CompareRequest:
    """What the comparison in this folder was asked; raises StreamlabError."""
    plain = read_comparison(folder)["request"]
    lists = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
    try:
        return CompareRequest(**{**plain, **lists})
    except TypeError as error:
        raise CorruptFile(f"{folder / 'comparison.json'} is damaged: {error}") from None


def request_to_resume(folder: Path) -> CompareRequest:
    """As `read_request`; raises StreamlabError too where a class made in memory was compared."""
    classes = read_comparison(folder)["classes"]
    if classes:
        raise StreamlabError(
            f"{folder} compares {', '.join(classes)}, made in memory; go on where it is defined, with "
            f"streamlab.compare(…, out={str(folder)!r})"
        )
    return read_request(folder)


def left_out(grid: Grid, out: Path) -> list[str]:
    """What a comparison in this folder has that the grid does not: it stays there, and leaves the report."""
    if not (out / "comparison.json").exists():
        return []
    before, now = read_request(out), grid.request
    named = [parse_row(text).label for text in now.strategies] + grid.classes
    rows = [parse_row(text).label for text in before.strategies] + read_comparison(out)["classes"]
    lost = [row for row in rows if row not in named]
    lost += [one.label for one in before.compared() if one.label not in {own.label for own in now.compared()}]
    lost += [f"the budget {text}" for text in before.budgets if text not in now.budgets]
    lost += [f"seeds from {now.seeds} on"] if before.seeds > now.seeds else []
    return [f"{out} also holds {', '.join(lost)}, not asked for now: left out of the report"] if lost else []
