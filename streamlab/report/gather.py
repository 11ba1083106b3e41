"""Gathers finished runs into what a report is made of: a panel a scenario, results by budget and row."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import Budget, readable_bytes
from ..errors import CorruptFile, StreamlabError, unknown
from ..experiments.held import FILE, HeldRun, read_experiment, read_runs, tables_of
from ..experiments.request import ANY, as_recipe
from .comparable import check_comparable, check_pair
from .panel import Gathered, Panel, Result, Status


def gather(folders: Sequence[Path], reference: str | None = None) -> Gathered:
    """Read comparisons and experiments into one table a scenario.

    Raises StreamlabError where runs are not comparable, with what differs, or where there is none.
    """
    found: dict[tuple[str, str], dict[tuple[str, str], list[Result]]] = {}
    budgets: dict[tuple[str, str], dict[str, Budget]] = {}
    tuned: list[Mapping[str, Any]] = []
    recipes = []
    for folder in folders:
        runs = read_runs(folder)
        for (scenario, budget), of_table in tables_of(runs).items():
            for held in of_table:
                result = _read(held)
                place = (scenario, result.spec.source)
                comes_to = _budget_of(of_table, budget)
                known = budgets.setdefault(place, {}).setdefault(budget, comes_to)
                if (known.bytes, known.exemplars) != (comes_to.bytes, comes_to.exemplars):
                    raise StreamlabError(
                        f"{folder}: its budget {budget} of {scenario} comes to {comes_to.bytes} bytes, "
                        f"and to {known.bytes} in another of these folders"
                    )
                shown = within_budget(result, comes_to) if held.budget == ANY else result
                found.setdefault(place, {}).setdefault((budget, held.label), []).append(shown)
        if (folder / FILE).exists():
            asked = read_experiment(folder)["request"]
            recipes.append(as_recipe(asked))
            tuned += _tuned(folder) if asked["tune"] else []
    scenarios = [scenario for scenario, _ in found]
    labels = {panel: panel[0] if scenarios.count(panel[0]) == 1 else " on ".join(panel) for panel in found}
    panels = tuple(_panel(labels[place], budgets[place], found_here) for place, found_here in found.items())
    every = [result for panel in panels for results in panel.results.values() for result in results]
    if not any(result.status == "complete" for result in every):
        raise StreamlabError(f"{folders[0]} has no complete run to report")
    for panel in panels:
        check_comparable(panel)
    rows = {row for panel in panels for row in panel.rows}
    if reference is not None and reference not in rows:
        raise unknown("row", reference, rows)
    first = every[0].spec.budget
    for result in every:
        counted = result.spec.budget
        if (counted.accounting, counted.count_frozen) != (first.accounting, first.count_frozen):
            raise StreamlabError(
                f"{result.spec.label} ({result.folder}) counts its budget otherwise than "
                f"{every[0].spec.label} ({every[0].folder}): {counted.accounting} accounting against "
                f"{first.accounting}, or a frozen backbone counted against not"
            )
    names = tuple(str(folder) for folder in folders)
    return Gathered(panels, first.accounting, first.count_frozen, reference, names, tuned, tuple(recipes))


def _budget_of(runs: Sequence[HeldRun], budget: str) -> Budget:
    """What a table's budget comes to: as its own runs' specs have it."""
    return next((run.spec.budget for run in runs if run.budget == budget), Budget())


def _tuned(folder: Path) -> list[dict[str, Any]]:
    """What a comparison that was tuned tried and chose, as far as it is."""
    try:
        chosen: list[dict[str, Any]] = json.loads((folder / "tuning" / "chosen.json").read_text("utf-8"))
    except FileNotFoundError:
        return []
    return chosen


def _read(held: HeldRun) -> Result:
    """One run, as far as it is there."""
    folder, name, spec = held.folder, str(held.path), held.spec
    result, about = folder.result, folder.about
    if result is None:
        failure = folder.failure
        status: Status = "failed" if failure else "unfinished"
        return Result(name, spec, status, failure or "", about=about)
    folder.check()
    if "episodes" in result:
        raise StreamlabError(f"{held.path} is of few-shot episodes, which streamlab runs episodes shows")
    evaluated = [event for event in folder.events() if event["event"] == "Evaluated"]
    curve = [(event["samples_seen"], event["accuracy"]) for event in evaluated]
    exemplars = evaluated[-1]["exemplars"] if evaluated else 0
    try:
        return Result(
            name, spec, "complete", "", result["metrics"], result["resources"], result["held"],
            result.get("accuracy_matrix", ()), curve, exemplars, about,
        )  # fmt: skip
    except KeyError as error:
        raise CorruptFile(f"{held.path / 'result.json'} has no {error}") from None


def within_budget(result: Result, budget: Budget) -> Result:
    """A run that stands for every budget, at one of them: failed there if it held more."""
    counting, spec = result.spec.budget, result.spec
    survey = counting.accounting == "survey"
    counted = result.resources.get("survey_bytes" if survey else "held_bytes", 0.0)
    counted -= 0 if counting.count_frozen else result.held.get("frozen backbone", 0)
    if budget.bytes is None or spec.ceiling or result.status != "complete" or counted <= budget.bytes:
        return result
    message = f"{spec.label}: {readable_bytes(counted)} held, budget {readable_bytes(budget.bytes)}"
    return dataclasses.replace(result, status="failed", message=message)


def _panel(label: str, budgets: Mapping[str, Budget], found: Mapping[tuple[str, str], list[Result]]) -> Panel:
    ordered = sorted(budgets, key=lambda text: budgets[text].size)
    bytes_of = {text: resolved.bytes for text, resolved in budgets.items() if resolved.bytes is not None}
    results = {}
    for budget in ordered:
        for (column, row), runs in found.items():
            if column == budget:
                seen: dict[int, Result] = {}
                for result in runs:
                    other = seen.setdefault(result.spec.seed, result)
                    if other is not result:
                        check_pair(other, result)
                        raise StreamlabError(
                            f"{row} at {budget} is there twice, in {other.folder} and {result.folder}"
                        )
                results[column, row] = tuple(sorted(runs, key=lambda result: result.spec.seed))
    return Panel(label, tuple(ordered), bytes_of, results)
