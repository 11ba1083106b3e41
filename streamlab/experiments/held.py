"""What lies in an experiment's folder: its runs, what was asked for, and which stand in one table.

It reads and imports no torch; layout.py writes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Budget
from ..errors import CorruptFile, StreamlabError
from ..runs.folder import RunFolder
from ..runs.seals import read_sealed
from ..runs.spec import RunSpec
from .request import ANY, Request

FILE = "experiment.json"


@dataclass(frozen=True)
class HeldRun:
    """A run that lies in an experiment's folder. scenario: its label; budget: as it was asked for."""

    path: Path
    scenario: str
    budget: str
    label: str
    seed: int

    @property
    def folder(self) -> RunFolder:
        """Its folder, to be read."""
        return RunFolder(self.path)

    @property
    def spec(self) -> RunSpec:
        """What is run; raises CorruptFile."""
        return self.folder.spec

    @property
    def complete(self) -> bool:
        """Whether it has a result."""
        return self.folder.result is not None


def read_runs(folder: Path) -> list[HeldRun]:
    """The runs of an experiment, of a part of one (SCENARIO/BUDGET, say), or the one run in this folder.

    Raises StreamlabError where it holds none.
    """
    root = next(
        (place for place in (folder, *folder.absolute().parents[:4]) if (place / FILE).exists()), None
    )
    if root is not None:
        cells = read_experiment(root)["cells"]
        runs = [HeldRun(root / cell.pop("folder"), **cell) for cell in cells]
        inside = folder.absolute()
        made = [run for run in runs if (run.path / "run.json").exists()]  # a kill may have come between
        found = [run for run in made if inside in (run.path.absolute(), *run.path.absolute().parents)]
        if found:
            return [dataclasses.replace(run, path=_under(folder, run.path)) for run in found]
    if (folder / "run.json").exists():
        spec = RunFolder(folder).spec
        return [HeldRun(folder, spec.scenario, str(spec.budget), spec.label, spec.seed)]
    raise StreamlabError(_nothing(folder))


def _nothing(folder: Path) -> str:
    missing = f"holds no experiment (there is no {FILE} in it)" if folder.exists() else "does not exist"
    return f"{folder} {missing}"


def _under(folder: Path, path: Path) -> Path:
    """A run's path as it was asked for: relative where the folder is."""
    return folder / path.absolute().relative_to(folder.absolute())


def read_experiment(folder: Path) -> dict[str, Any]:
    """experiment.json as JSON values: request, classes, budgets and cells; raises StreamlabError."""
    path = folder / FILE
    try:
        content = read_sealed(path)
        if not {"request", "classes", "budgets", "cells"} <= content.keys():
            raise ValueError("it lacks a part")
    except FileNotFoundError:
        missing = (
            "does not exist" if not folder.exists() else f"holds no experiment (there is no {FILE} in it)"
        )
        raise StreamlabError(f"{folder} {missing}") from None
    except ValueError as error:
        raise CorruptFile(f"{path} is damaged: {error}") from None
    return content


def read_budgets(folder: Path) -> dict[str, dict[str, Budget]]:
    """Of each scenario, its budgets as asked for -> as its specs have them."""
    plain = read_experiment(folder)["budgets"]
    return {label: {text: Budget(**budget) for text, budget in row.items()} for label, row in plain.items()}


def read_request(folder: Path) -> Request:
    """What the experiment in this folder was asked; raises StreamlabError."""
    plain = read_experiment(folder)["request"]
    lists = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
    try:
        return Request(**{**plain, **lists})
    except TypeError as error:
        raise CorruptFile(f"{folder / FILE} is damaged: {error}") from None


def request_to_resume(folder: Path) -> Request:
    """As `read_request`; raises StreamlabError too where a class made in memory is among the rows."""
    classes = read_experiment(folder)["classes"]
    if classes:
        raise StreamlabError(
            f"{folder} holds runs of {', '.join(classes)}, made in memory; go on where it is defined, with "
            f"streamlab.run(…, out={str(folder)!r})"
        )
    return read_request(folder)


def tables_of(runs: list[HeldRun]) -> dict[tuple[str, str], list[HeldRun]]:
    """By (scenario, budget), the runs that stand in one table: what is at any budget stands in each."""
    found: dict[tuple[str, str], list[HeldRun]] = {}
    for scenario in dict.fromkeys(run.scenario for run in runs):
        of_scenario = [run for run in runs if run.scenario == scenario]
        budgets = [budget for budget in dict.fromkeys(run.budget for run in of_scenario) if budget != ANY]
        for budget in budgets or [ANY]:
            found[scenario, budget] = [run for run in of_scenario if run.budget in (budget, ANY)]
    return found
