"""An experiment's folder: what is written of it, which of its cells are done, and what is moved aside.

    experiment.json            what was asked for, and the cells        report.html, .md, .tex, .csv
    SCENARIO/BUDGET/ROW/seed-N one run (streamlab.runs.folder); BUDGET is any-budget for ceilings, and of
                               several budgets for strategies that keep no exemplars
    tuning/                    trials, and what was chosen              superseded/  runs made otherwise

A cell that is done is not run again: its spec, plan, source, versions and plugin's source must agree.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import CorruptFile, StreamlabError
from ..files import locked
from ..runs.folder import RunFolder, provenance
from ..runs.identity import differences, identity
from ..runs.seals import write_sealed
from .grid import Cell, Grid
from .held import FILE, read_experiment, read_request
from .request import Request
from .rows import absolute, parse_row


@contextmanager
def hold(out: Path) -> Iterator[None]:
    """Make an experiment's folder, and hold it for this process.

    Raises StreamlabError where it is a file, cannot be made, or another command holds it.
    """
    if out.is_file():
        raise StreamlabError(f"{out} is a file, and an experiment needs a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StreamlabError(f"cannot write to {out}: {error.strerror}") from None
    with locked(out):
        yield


def write_experiment(grid: Grid, out: Path) -> None:
    """Write experiment.json: what was asked for, and where the cells lie.

    Files are named by their whole path, so that it can be gone on with from anywhere.
    """
    request = dataclasses.asdict(grid.request)
    request["strategies"] = [absolute(text) for text in grid.request.strategies]
    if grid.request.data is not None:
        request["data"] = str(Path(grid.request.data).resolve())
    budgets = {
        label: {text: dataclasses.asdict(budget) for text, budget in of_scenario.items()}
        for label, of_scenario in grid.budgets.items()
    }
    cells = [
        {
            "folder": cell.folder,
            "scenario": cell.block.scenario,
            "budget": cell.block.budget,
            "label": cell.spec.label,
            "seed": cell.spec.seed,
        }
        for cell in grid.cells
    ]
    content = {"request": request, "classes": grid.classes, "budgets": budgets, "cells": cells}
    write_sealed(out / FILE, content)


def settle(grid: Grid, out: Path) -> list[str]:
    """Make every cell's folder in `out`; returns one line for each run that is made anew.

    A run that was made otherwise (another spec, version or source of a plugin) is moved to superseded/.
    """
    notes = []
    made_with = provenance()
    for cell in grid.cells:
        path = out / cell.folder
        why = _why_again(cell, path, made_with)
        if why:
            notes.append(f"{cell.folder} is run again: {why}")
            _supersede(out, path)
        RunFolder.create(path, cell.spec, cell.plan, cell.source.class_names, cell.strategy)
    return notes


def count_done(grid: Grid, out: Path) -> int:
    """Cells that are complete in `out`, made as they would be now."""
    made_with = provenance()
    return sum(
        not _why_again(cell, out / cell.folder, made_with) and RunFolder(out / cell.folder).result is not None
        for cell in grid.cells
    )


def _why_again(cell: Cell, path: Path, made_with: Mapping[str, Any]) -> str:
    """Why a run that is there has to be run again: made otherwise, or damaged; nothing where it need not."""
    if not (path / "run.json").exists():  # a kill came before it was written, or it was lost
        lost = (path / "result.json").exists() or any(path.glob("evaluations/*"))
        return f"{path / 'run.json'} is missing" if lost else ""
    folder = RunFolder(path)
    try:
        held = folder.about.get("identity", {})
    except CorruptFile as error:
        return str(error)
    changed = differences(held, identity(cell.spec, made_with, cell.strategy))
    if changed:
        return f"{', '.join(changed[:3])} changed"
    return folder.damage() or ""


def _supersede(out: Path, path: Path) -> None:
    """Move a run out of the way, under a number of its own."""
    number = 1
    while (target := out / "superseded" / str(number) / path.relative_to(out)).exists():
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)


def left_out(grid: Grid, out: Path) -> list[str]:
    """What an experiment in this folder has that the grid does not: it stays there, and leaves the tables."""
    if not (out / FILE).exists():
        return []
    before, now = read_request(out), grid.request
    named = [parse_row(text).label for text in now.strategies] + grid.classes
    rows = [parse_row(text).label for text in before.strategies] + read_experiment(out)["classes"]
    lost = [row for row in rows if row not in named]
    lost += [one.label for one in before.asked() if one.label not in {asked.label for asked in now.asked()}]
    lost += [f"the budget {text}" for text in before.budgets if text not in now.budgets]
    lost += [f"seeds from {now.seeds} on"] if before.seeds > now.seeds else []
    return [f"{out} also holds {', '.join(lost)}, not asked for now: left out of its tables"] if lost else []


def new_folder(request: Request) -> Path:
    """A fresh folder under ./runs, named by time, scenarios and source."""
    names = "+".join(asked.label for asked in request.asked()[:2])
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    base = Path("runs") / f"{stamp}_{names}_{request.source}".replace("/", "_").replace(":", "_")
    number, path = 1, base
    while path.exists():
        number, path = number + 1, base.with_name(f"{base.name}-{number}")
    return path


def remove(folder: Path) -> None:
    """Delete an experiment's folder; raises StreamlabError where it holds none or is in use."""
    read_experiment(folder)
    with locked(folder):
        shutil.rmtree(folder)
