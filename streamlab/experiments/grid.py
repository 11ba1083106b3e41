"""The grid of a comparison: scenarios, strategies, budgets and seeds, resolved into cells.

A cell is an ordinary run; a block is an ordinary experiment, the cells of one scenario at one budget.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import plugins
from ..config import Budget, merged, parse_budget, readable_bytes
from ..data.load import load_source
from ..data.source import Source
from ..errors import StreamlabError
from ..runs.spec import RunSpec, parse_row
from .budgets import Need, fitting, need_of, resolve
from .experiment import Experiment, prepare
from .request import Compared, CompareRequest

if TYPE_CHECKING:
    from ..strategy import Strategy

ANY = "any-budget"


@dataclass(frozen=True)
class Block:
    """The cells of one scenario at one budget: an experiment in a folder of its own.

    budget: as it was asked for (ANY: of strategies that keep no exemplars).
    """

    folder: str
    scenario: str
    budget: str
    experiment: Experiment


@dataclass(frozen=True)
class Cell:
    """One run of the grid: its block's folder and its own in it."""

    block: Block
    spec: RunSpec

    @property
    def folder(self) -> str:
        """Where it lies inside the comparison's folder."""
        return f"{self.block.folder}/{self.spec.folder}"


@dataclass(frozen=True)
class Grid:
    """A request, checked and resolved. budgets: of each scenario, as asked for -> as a spec states it."""

    request: CompareRequest
    blocks: tuple[Block, ...]
    budgets: Mapping[str, Mapping[str, str]]

    @property
    def classes(self) -> list[str]:
        """Strategies that are classes made in memory, which no recipe can name."""
        return sorted({name for block in self.blocks for name in block.experiment.classes})

    @property
    def cells(self) -> list[Cell]:
        """Every run, seed by seed, so that the first seeds of all rows are there first."""
        cells = [Cell(block, spec) for block in self.blocks for spec in block.experiment.specs]
        return sorted(cells, key=lambda cell: cell.spec.seed)


def prepare_grid(
    request: CompareRequest,
    sources: Mapping[str, Source] | None = None,
    classes: tuple[type[Strategy], ...] = (),
    tuned: Mapping[str, Mapping[str, Any]] | None = None,
    scenarios: Sequence[Compared] = (),
    first_seed: int = 0,
) -> Grid:
    """Check a comparison and resolve it into cells; nothing is trained and nothing written.

    sources: by name, ones that are there already. tuned: of each scenario, settings that tuning chose.
    scenarios: in place of the request's own. first_seed: seeds count from it.
    Raises StreamlabError, in one sentence, for the first thing that is wrong.
    """
    for text in request.smaller:
        plugins.find("backbones", parse_row(text).strategy)
    blocks: list[Block] = []
    budgets: dict[str, dict[str, str]] = {}
    loaded = dict(sources or {})
    for scenario in scenarios or request.compared():
        name = scenario.source or request.source
        if name not in loaded:
            loaded[name] = load_source(name, request.data)
        settings = merged(request.of(scenario).settings, (tuned or {}).get(scenario.label, {}))
        own_request = request.of(scenario, settings=settings, first_seed=first_seed)
        whole = prepare(own_request, loaded[name], classes)
        if any(plan.kind == "episodes" for plan in whole.plans.values()):
            raise StreamlabError(
                f"{scenario.label}: episodes have no budgets to be aligned; streamlab run compares them"
            )
        own, at = _blocks(request, scenario, whole)
        blocks += own
        budgets[scenario.label] = at
    grid = Grid(request, tuple(blocks), budgets)
    _check_folders(grid)
    return grid


_RESERVED = ("", ".", "..", "tuning", "superseded", "tables", "pictures")


def _check_folders(grid: Grid) -> None:
    """Raise StreamlabError where a scenario's label names no folder of its own, or two cells share one."""
    for label in grid.budgets:
        if _safe(label) in _RESERVED:
            raise StreamlabError(f"compare: a scenario cannot be labelled {label!r}; give it another label")
    folder, times = Counter(cell.folder for cell in grid.cells).most_common(1)[0]
    if times > 1:
        raise StreamlabError(
            f"compare: two rows, budgets or scenarios would lie in one folder, {folder}; name one of them "
            f"otherwise (letters, digits and +-._= tell names apart)"
        )


def _blocks(
    request: CompareRequest, scenario: Compared, whole: Experiment
) -> tuple[list[Block], dict[str, str]]:
    """The blocks of one scenario, and its budgets as specs state them."""
    known: dict[str, Need] = {}

    def need(spec: RunSpec) -> Need:
        key = repr((spec.strategy, spec.backbone, spec.strategy_options))
        if key not in known:
            known[key] = need_of(whole, spec)
        return known[key]

    rows: dict[str, RunSpec] = {}
    for spec in whole.specs:
        if not spec.ceiling:
            rows.setdefault(spec.label, spec)
    if not rows:
        raise StreamlabError(f"{scenario.label}: only ceilings are named, which have no budget to be aligned")
    backbone = request.of(scenario).settings.get("backbone", {})
    at = {text: resolve(text, rows, need, backbone) for text in request.budgets}
    parsed = {text: _parsed(budget, request) for text, budget in at.items()}
    least = min((budget.bytes for budget in parsed.values() if budget.bytes is not None), default=None)
    everywhere = {
        label
        for label, spec in rows.items()
        if need(spec).each == 0 and (least is None or need(spec).total <= least)
    }
    folder = _safe(scenario.label)
    blocks = []
    anywhere = tuple(spec for spec in whole.specs if spec.ceiling or spec.label in everywhere)
    if anywhere:
        own = dataclasses.replace(whole, specs=anywhere)
        blocks.append(Block(f"{folder}/{ANY}", scenario.label, ANY, own))
    for text, budget in at.items():
        specs = tuple(
            dataclasses.replace(fitting(spec, parsed[text], text, request.smaller, need), budget=budget)
            for spec in whole.specs
            if spec not in anywhere
        )
        if specs:
            own = dataclasses.replace(whole, specs=specs)
            blocks.append(Block(f"{folder}/{_safe(text)}", scenario.label, text, own))
    return blocks, at


def _parsed(budget: str, request: CompareRequest) -> Budget:
    parsed = parse_budget(budget)
    return dataclasses.replace(parsed, accounting=request.accounting, count_frozen=request.count_frozen)


def needs(grid: Grid) -> dict[tuple[str, str], Need]:
    """By block's folder and label, what each row needs."""
    found: dict[tuple[str, str], Need] = {}
    for block in grid.blocks:
        for spec in block.experiment.specs:
            if (block.folder, spec.label) not in found:
                found[block.folder, spec.label] = need_of(block.experiment, spec)
    return found


def shown_budget(text: str, resolved: str) -> str:
    """`expandable-der+2000ex (3.9 MiB)`; a plain one as it was asked for."""
    plain = text == resolved or text.endswith(("B", "b")) or text.isdigit()
    return text if plain else f"{text} ({readable_bytes(int(resolved))})" if resolved.isdigit() else text


def size_of(budget: str) -> int:
    """For order: the bytes of a budget as a spec states it, or its exemplars."""
    parsed = parse_budget(budget)
    return parsed.bytes or parsed.exemplars or 0


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() or c in "+-._=" else "_" for c in text)
