"""Tuning, alike for all: the same number of trials of each strategy's declared search space.

Trials are runs at the middle budget, on what the protocol lets them see (protocol.py): by default validation
images carved from the training split, with seeds and plans of their own (from 1000 on). The first trial
is the strategy as it comes; the others are drawn ahead at random, so that they run side by side and a
killed tuning goes on. An option that the user has set is not searched.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Choice, Searched, merged
from ..data.source import Source
from ..data.validation import found
from ..errors import StreamlabError
from ..files import write_json
from ..plans.stream import StreamPlan
from ..randomness import key
from ..runs.folder import RunFolder
from ..runs.spec import load_strategy
from .grid import Block, Grid, prepare_grid
from .protocol import of_trials, on_reported_plans
from .request import AskedScenario, Request
from .rows import Row, parse_row

if TYPE_CHECKING:
    from ..strategy import Strategy

TUNING_SEED = 1000
Settings = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Trials:
    """What is tried in one scenario. tried: label -> parameters of each trial, as `optimizer.lr`."""

    scenario: AskedScenario
    budget: str
    source: str
    tried: Mapping[str, tuple[Mapping[str, Any], ...]]
    blocks: tuple[Block, ...]
    metric: str


def plan_trials(
    grid: Grid,
    sources: Mapping[str, Source] | None = None,
    classes: Sequence[type[Strategy]] = (),
) -> list[Trials]:
    """The trials of every scenario, each a block of cells."""
    planned, request = [], grid.request
    loaded = dict(sources or {})
    rows = _rows(grid)
    for scenario in request.asked():
        source, options = of_trials(request.protocol, scenario.source or request.source)
        shown = dataclasses.replace(scenario, options={**scenario.options, **options})
        loaded[source] = found(source, loaded, request.data)
        ordered = sorted(grid.budgets[scenario.label].items(), key=lambda item: item[1].size)
        budget = ordered[len(ordered) // 2][0]
        tried = {label: _draw(request.tune, row) for label, row in rows.items() if not row.cls.learns_jointly}
        alone = dataclasses.replace(
            request,
            scenarios=(_as_table(shown, source),),
            budgets=(budget,),
            seeds=1,
            first_seed=request.first_seed if on_reported_plans(request.protocol) else TUNING_SEED,
            plan_seed=request.plan_seed if on_reported_plans(request.protocol) else None,
            intervals=False,
            protocol="validation",
            tune=0,
        )
        blocks: list[Block] = []
        for number in range(request.tune):
            trial = merged(*(_settings(rows[label], drawn[number]) for label, drawn in tried.items()))
            trials = prepare_grid(alone, loaded, classes, {scenario.label: trial})
            blocks += [
                dataclasses.replace(block, folder=f"tuning/{number:03}/{block.folder}")
                for block in trials.blocks
            ]
        planned.append(Trials(scenario, budget, source, tried, tuple(blocks), _metric(blocks[0])))
    return planned


def _metric(block: Block) -> str:
    """What trials are compared by: accuracy over a stream, or at task ends where it has no regular point."""
    spec = block.specs[0]
    plan = block.prepared.plans[spec.plan_seed]
    curved = isinstance(plan, StreamPlan) and plan.kind == "online" and plan.num_samples >= spec.eval_every
    return "a_auc" if curved else "a_avg"


def _as_table(scenario: AskedScenario, source: str) -> dict[str, Any]:
    """The scenario on another source, as a request names it."""
    named = {"name": scenario.name, "label": scenario.label, "source": source}
    return {**scenario.options, **named, "stream": dict(scenario.stream)}


def choose(grid: Grid, planned: list[Trials], out: Path) -> dict[str, Settings]:
    """Of each scenario, the settings of each strategy's best trial; written to tuning/chosen.json.

    Raises StreamlabError where every trial of a strategy failed.
    """
    chosen: dict[str, Settings] = {}
    report, rows = [], _rows(grid)
    for trials in planned:
        settings: Settings = {}
        for label, tried in trials.tried.items():
            scores = [_score(trials, label, number, out) for number in range(len(tried))]
            found = [score for score in scores if score is not None]
            if not found:
                raise StreamlabError(
                    f"{label}: none of its {len(tried)} trials completed; see {out / 'tuning'}"
                )
            best = scores.index(max(found))
            settings = merged(settings, _settings(rows[label], tried[best]))
            report.append(
                {
                    "scenario": trials.scenario.label,
                    "strategy": label,
                    "metric": trials.metric,
                    "budget": trials.budget,
                    "protocol": grid.request.protocol,
                    "operations": math.fsum(_operations(trials, label, n, out) for n in range(len(tried))),
                    "spread": max(found) - min(found),
                    "trials": [
                        {"parameters": dict(parameters), "score": score}
                        for parameters, score in zip(tried, scores, strict=True)
                    ],
                    "chosen": dict(tried[best]),
                }
            )
        chosen[trials.scenario.label] = settings
    write_json(out / "tuning" / "chosen.json", report)
    return chosen


@dataclasses.dataclass(frozen=True)
class _Tuned:
    """A row that is tuned. set_by_user: its options, and its sections, that a person has given."""

    label: str
    cls: type[Strategy]
    set_by_user: Mapping[str, Any]


def _rows(grid: Grid) -> dict[str, _Tuned]:
    """By label."""
    rows = {}
    for block in grid.blocks:
        for spec in block.specs:
            if spec.label not in rows:
                cls = block.prepared.classes.get(spec.strategy) or load_strategy(spec.strategy)
                asked = {"optimizer": grid.request.settings.get("optimizer", {})}
                given = merged(asked, _given(grid.request, spec.label))
                rows[spec.label] = _Tuned(spec.label, cls, given)
    return rows


def _given(request: Request, label: str) -> Settings:
    """What the request sets for one row alone."""
    named = {row.label: row for row in map(parse_row, request.strategies)}
    row = named.get(label, Row(label, label, {}))  # else a class made in memory
    return merged(request.settings.get(row.strategy, {}), request.settings.get(label, {}), row.options)


def _draw(count: int, row: _Tuned) -> tuple[Mapping[str, Any], ...]:
    """The first trial as it comes, the others drawn from the strategy's search space."""
    space = _space(row)
    draws = random.Random(key(0, "tuning", row.label))
    drawn = [{name: _drawn(draws, searched) for name, searched in space.items()} for _ in range(count - 1)]
    return ({}, *drawn) if space else tuple({} for _ in range(count))


def _drawn(draws: random.Random, searched: Searched) -> Any:
    """A value of a choice, or a number of a range, evenly on its scale."""
    if isinstance(searched, Choice):
        return draws.choice(searched.values)
    if searched.log:
        return math.exp(draws.uniform(math.log(searched.low), math.log(searched.high)))
    return draws.uniform(searched.low, searched.high)


def _space(row: _Tuned) -> dict[str, Searched]:
    """The declared search space, less what the user has set."""

    def is_set(name: str) -> bool:
        section, dot, option = name.partition(".")
        return option in row.set_by_user.get(section, {}) if dot else section in row.set_by_user

    return {name: searched for name, searched in row.cls.search_space.items() if not is_set(name)}


def _settings(row: _Tuned, parameters: Mapping[str, Any]) -> Settings:
    """A trial's parameters as settings of its row; a strategy's own optimizer stays beside its rate."""
    tree: Settings = {}
    for name, value in parameters.items():
        section, dot, option = name.partition(".")
        if dot:
            tree.setdefault(section, {})[option] = value
        else:
            tree[section] = value
    if "optimizer" in tree and not row.set_by_user["optimizer"]:
        tree["optimizer"] = {**row.cls.default_optimizer, **tree["optimizer"]}
    return {row.label: tree} if tree else {}


def _score(trials: Trials, label: str, number: int, out: Path) -> float | None:
    """A trial's accuracy on what it may see, or None where it failed."""
    result = _result(trials, label, number, out)
    return result["metrics"].get(trials.metric) if result else None


def _operations(trials: Trials, label: str, number: int, out: Path) -> float:
    """What a trial's training took; nothing is known of one that failed."""
    result = _result(trials, label, number, out)
    return float(result["resources"]["flops"]) if result else 0.0


def _result(trials: Trials, label: str, number: int, out: Path) -> dict[str, Any] | None:
    for block in trials.blocks:
        if block.folder.startswith(f"tuning/{number:03}/"):
            for spec in block.specs:
                if spec.label == label:
                    return RunFolder(out / block.folder / spec.folder).result
    return None


def as_grid(grid: Grid, planned: list[Trials]) -> Grid:
    """The trials as a grid of their own, to be settled and run as any."""
    return dataclasses.replace(grid, blocks=tuple(block for trials in planned for block in trials.blocks))
