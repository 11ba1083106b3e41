"""Gathers finished runs into what a report is made of: a panel a scenario, results by budget and row."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import Budget, parse_budget, readable_bytes
from ..errors import CorruptFile, StreamlabError, unknown
from ..experiments.experiment import read_specs
from ..experiments.folder import read_comparison
from ..experiments.grid import ANY, size_of
from ..experiments.request import as_recipe
from ..runs.folder import RunFolder
from ..runs.spec import RunSpec
from .comparable import check_comparable, check_pair
from .panel import Gathered, Panel, Result, Status


def gather(folders: Sequence[Path], reference: str | None = None) -> Gathered:
    """Read comparisons and experiments into one table a scenario.

    Raises StreamlabError where runs are not comparable, with what differs, or where there is none.
    """
    found: dict[str, dict[tuple[str, str], list[Result]]] = {}
    resolved: dict[str, dict[str, str]] = {}
    tuned: list[Mapping[str, Any]] = []
    recipes = []
    for folder in folders:
        for scenario, budgets, budget, path in _experiments(folder):
            known = resolved.setdefault(scenario, {})
            for text, own in budgets.items():
                if known.setdefault(text, own) != own:
                    raise StreamlabError(
                        f"{folder}: its budget {text} of {scenario} comes to {own} bytes, "
                        f"and to {known[text]} in another of these folders"
                    )
            for spec in read_specs(path):
                result = _read(path / spec.folder, spec)
                for column in budgets if budget == ANY else (budget,):
                    shown = within_budget(result, budgets[column]) if budget == ANY else result
                    found.setdefault(scenario, {}).setdefault((column, spec.label), []).append(shown)
        if (folder / "comparison.json").exists():
            asked = read_comparison(folder)["request"]
            recipes.append(as_recipe(asked))
            tuned += _tuned(folder) if asked["tune"] else []
    panels = tuple(_panel(label, resolved[label], own) for label, own in found.items())
    every = [result for panel in panels for own in panel.results.values() for result in own]
    if not any(result.status == "complete" for result in every):
        raise StreamlabError(f"{folders[0]} has no complete run to report")
    for panel in panels:
        check_comparable(panel)
    rows = {row for panel in panels for row in panel.rows}
    if reference is not None and reference not in rows:
        raise unknown("row", reference, rows)
    first = every[0].spec
    for result in every:
        if result.spec.accounting != first.accounting or result.spec.count_frozen != first.count_frozen:
            raise StreamlabError(
                f"{result.spec.label} ({result.folder}) counts its budget otherwise than {first.label} "
                f"({every[0].folder}): {result.spec.accounting} accounting against {first.accounting}, or a "
                f"frozen backbone counted against not"
            )
    names = tuple(str(folder) for folder in folders)
    return Gathered(panels, first.accounting, first.count_frozen, reference, names, tuned, tuple(recipes))


def _experiments(folder: Path) -> Iterable[tuple[str, Mapping[str, str], str, Path]]:
    """(scenario, its budgets as asked for -> resolved, an experiment's budget, its folder)."""
    if (folder / "comparison.json").exists():
        about = read_comparison(folder)
        for block in about["blocks"]:
            yield (
                block["scenario"],
                about["budgets"][block["scenario"]],
                block["budget"],
                folder / block["folder"],
            )
        return
    specs = read_specs(folder)
    budget = next((spec.budget for spec in specs if not spec.ceiling), "none")
    yield f"{specs[0].scenario} on {specs[0].source}", {budget: budget}, budget, folder


def _tuned(folder: Path) -> list[dict[str, Any]]:
    """What a comparison that was tuned tried and chose, as far as it is."""
    try:
        chosen: list[dict[str, Any]] = json.loads((folder / "tuning" / "chosen.json").read_text("utf-8"))
    except FileNotFoundError:
        return []
    return chosen


def _read(path: Path, spec: RunSpec) -> Result:
    """One run, as far as it is there."""
    folder = RunFolder(path)
    if not (path / "run.json").exists():
        return Result(str(path), spec, "unfinished")
    result, about = folder.result, folder.about
    if result is None:
        failure = folder.failure
        status: Status = "failed" if failure else "unfinished"
        return Result(str(path), spec, status, failure or "", about=about)
    if "episodes" in result:
        raise StreamlabError(f"{path} is of few-shot episodes, which streamlab runs episodes shows")
    evaluated = [event for event in folder.events() if event["event"] == "Evaluated"]
    curve = [(event["samples_seen"], event["accuracy"]) for event in evaluated]
    exemplars = evaluated[-1]["exemplars"] if evaluated else 0
    try:
        return Result(
            str(path), spec, "complete", "", result["metrics"], result["resources"], result["held"],
            result.get("accuracy_matrix", ()), curve, exemplars, about,
        )  # fmt: skip
    except KeyError as error:
        raise CorruptFile(f"{path / 'result.json'} has no {error}") from None


def within_budget(result: Result, budget: str) -> Result:
    """A run that stands for every budget, at one of them: failed there if it held more."""
    most, spec = parse_budget(budget).bytes, result.spec
    counted = result.resources.get("survey_bytes" if spec.accounting == "survey" else "held_bytes", 0.0)
    counted -= 0 if spec.count_frozen else result.held.get("frozen backbone", 0)
    if most is None or spec.ceiling or result.status != "complete" or counted <= most:
        return result
    message = f"{spec.label}: {readable_bytes(counted)} held, budget {readable_bytes(most)}"
    return dataclasses.replace(result, status="failed", message=message)


def _panel(label: str, resolved: Mapping[str, str], found: Mapping[tuple[str, str], list[Result]]) -> Panel:
    parsed: dict[str, Budget] = {text: parse_budget(own) for text, own in resolved.items()}
    ordered = sorted(parsed, key=lambda text: size_of(resolved[text]))
    bytes_of = {text: own.bytes for text, own in parsed.items() if own.bytes is not None}
    results = {}
    for budget in ordered:
        for (column, row), own in found.items():
            if column == budget:
                seen: dict[int, Result] = {}
                for result in own:
                    other = seen.setdefault(result.spec.seed, result)
                    if other is not result:
                        check_pair(other, result)
                        raise StreamlabError(
                            f"{row} at {budget} is there twice, in {other.folder} and {result.folder}"
                        )
                results[column, row] = tuple(sorted(own, key=lambda result: result.spec.seed))
    return Panel(label, tuple(ordered), bytes_of, results)
