"""The grid of an experiment: scenarios, strategies, budgets and seeds, resolved into cells.

A cell is one run; a block is the cells of one scenario at one budget, which may stand in one table.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config import Budget, readable_bytes
from ..data.validation import found
from ..errors import StreamlabError
from ..runs.spec import RunSpec, folder_name
from .budgets import Need, fitting, need_of, resolve
from .names import check_names
from .networks import check_networks
from .prepare import Prepared, prepare
from .protocol import of_report
from .request import ANY, AskedScenario, Request

if TYPE_CHECKING:
    from ..data.source import Source
    from ..plans.stream import Plan
    from ..strategy import Strategy


@dataclass(frozen=True)
class Block:
    """The cells of one scenario at one budget, in a folder of their own.

    scenario: its label. budget: as it was asked for (ANY: of ceilings and, where there are several budgets,
    of strategies that keep no exemplars, whose runs stand for every one).
    """

    folder: str
    scenario: str
    budget: str
    specs: tuple[RunSpec, ...]
    prepared: Prepared


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    block: Block
    spec: RunSpec

    @property
    def folder(self) -> str:
        """Where it lies inside the experiment's folder: SCENARIO/BUDGET/ROW/seed-N."""
        return f"{self.block.folder}/{self.spec.folder}"

    @property
    def plan(self) -> Plan:
        """The plan that it runs."""
        return self.block.prepared.plans[self.spec.plan_seed]

    @property
    def source(self) -> Source:
        """The source that it runs on."""
        return self.block.prepared.source

    @property
    def strategy(self) -> type[Strategy] | None:
        """The strategy itself, where it is a class made in memory."""
        return self.block.prepared.classes.get(self.spec.strategy)


@dataclass(frozen=True)
class Grid:
    """A request, checked and resolved. budgets: of each scenario, as asked for -> as its specs have it."""

    request: Request
    blocks: tuple[Block, ...]
    budgets: Mapping[str, Mapping[str, Budget]]

    @property
    def classes(self) -> list[str]:
        """Strategies that are classes made in memory, which no recipe can name."""
        return sorted({name for block in self.blocks for name in block.prepared.classes})

    @property
    def notes(self) -> list[str]:
        """What should be known before it is run, a sentence each."""
        return list(dict.fromkeys(note for block in self.blocks for note in block.prepared.notes))

    @property
    def cells(self) -> list[Cell]:
        """Every run, seed by seed, so that the first seeds of all rows are there first; rows as asked for."""
        cells = [Cell(block, spec) for block in self.blocks for spec in block.specs]
        scenarios = list(self.budgets)

        def place(cell: Cell) -> tuple[int, int, int]:
            rows = [spec.label for spec in cell.block.prepared.specs]
            return cell.spec.seed, scenarios.index(cell.block.scenario), rows.index(cell.spec.label)

        return sorted(cells, key=place)


def prepare_grid(
    request: Request,
    sources: Mapping[str, Source] | None = None,
    classes: Sequence[type[Strategy]] = (),
    chosen: Mapping[str, Mapping[str, Any]] | None = None,
) -> Grid:
    """Check a request and resolve it into cells; nothing is trained and nothing written.

    sources: by name, ones that are there already. chosen: of each scenario, settings that tuning chose.
    Raises StreamlabError, in one sentence, for the first thing that is wrong.
    """
    loaded = dict(sources or {})
    check_names(request, tuple(loaded))
    blocks: list[Block] = []
    budgets: dict[str, Mapping[str, Budget]] = {}
    for one in request.asked():
        name, options = of_report(request.protocol, one.source or request.source)
        asked = dataclasses.replace(one, source=name, options={**one.options, **options})
        loaded[name] = found(name, loaded, request.data)
        prepared = prepare(request, asked, loaded[name], classes, (chosen or {}).get(asked.label))
        kinds = {plan.kind for plan in prepared.plans.values()}
        if "episodes" in kinds and (len(request.budgets) > 1 or request.tune):
            raise StreamlabError(f"{asked.label}: episodes have no budgets to be aligned, and are not tuned")
        made, budgets[asked.label] = _blocks(request, asked, prepared)
        check_networks(prepared.specs, prepared.classes, prepared.source.image_shape)
        blocks += made
    grid = Grid(request, tuple(blocks), budgets)
    _check_folders(grid)
    return grid


_RESERVED = ("", ".", "..", "tuning", "superseded", "tables", "pictures")


def _check_folders(grid: Grid) -> None:
    """Raise StreamlabError where a scenario's label names no folder of its own, or two cells share one."""
    for label in grid.budgets:
        if folder_name(label) in _RESERVED:
            raise StreamlabError(f"a scenario cannot be labelled {label!r}; give it another label")
    folder, times = Counter(cell.folder for cell in grid.cells).most_common(1)[0]
    if times > 1:
        raise StreamlabError(
            f"two rows, budgets or scenarios would lie in one folder, {folder}; name one of them otherwise "
            f"(letters, digits and +-._= tell names apart)"
        )


def _blocks(
    request: Request, asked: AskedScenario, prepared: Prepared
) -> tuple[list[Block], Mapping[str, Budget]]:
    """The blocks of one scenario, and its budgets as its specs have them."""
    known: dict[str, Need] = {}

    def need(spec: RunSpec) -> Need:
        key = repr((spec.strategy, spec.backbone, spec.strategy_options))
        if key not in known:
            known[key] = _need_or_none(prepared, spec)
        return known[key]

    counting = Budget(accounting=request.accounting, count_frozen=request.count_frozen)
    specs = [dataclasses.replace(spec, budget=counting) for spec in prepared.specs]
    rows: dict[str, RunSpec] = {}
    for spec in specs:
        if not spec.ceiling:
            rows.setdefault(spec.label, spec)
    backbone = request.settings_of(asked).get("backbone", {})
    at = {text: resolve(text, rows, need, backbone) for text in request.budgets} if rows else {ANY: counting}
    least = min((budget.bytes for budget in at.values() if budget.bytes is not None), default=None)
    everywhere = {
        label
        for label, spec in rows.items()
        if len(at) > 1 and need(spec).exemplar_bytes == 0 and (least is None or need(spec).total <= least)
    }
    folder = folder_name(asked.label)
    anywhere = tuple(spec for spec in specs if spec.ceiling or spec.label in everywhere)
    blocks = [Block(f"{folder}/{ANY}", asked.label, ANY, anywhere, prepared)] if anywhere else []
    others = [spec for spec in specs if not (spec.ceiling or spec.label in everywhere)]
    for text, budget in at.items():
        at_budget = tuple(fitting(spec, budget, text, request.smaller, need) for spec in others)
        if at_budget:
            blocks.append(Block(f"{folder}/{folder_name(text)}", asked.label, text, at_budget, prepared))
    return blocks, at


def _need_or_none(prepared: Prepared, spec: RunSpec) -> Need:
    """A row's need; of a plugin that falls over while it is made, nothing: its runs will say why."""
    try:
        return need_of(prepared, spec)
    except StreamlabError as error:
        problem = str(error)
        raise StreamlabError(
            problem if problem.startswith(f"{spec.label}: ") else f"{spec.label}: {problem}"
        ) from None
    except Exception:
        return Need(0, 0, 1, 1, 0, 0)


def needs(grid: Grid) -> dict[tuple[str, str], Need]:
    """By block's folder and label, what each row needs."""
    found: dict[tuple[str, str], Need] = {}
    for block in grid.blocks:
        for spec in block.specs:
            if (block.folder, spec.label) not in found:
                found[block.folder, spec.label] = _need_or_none(block.prepared, spec)
    return found


def shown_budget(text: str, budget: Budget | None) -> str:
    """`expandable-der+2000ex (3.9 MiB)`; a plain one as it was asked for."""
    plain = text.endswith(("B", "b")) or text.isdigit() or budget is None or budget.bytes is None
    return text if plain or budget is None else f"{text} ({readable_bytes(budget.bytes or 0)})"
