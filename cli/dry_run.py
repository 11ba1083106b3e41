"""`--dry-run`: what would run, the exemplars that each budget buys, and the time expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamlab.config import readable_bytes
from streamlab.device import gpus_of
from streamlab.experiments.budgets import Need
from streamlab.experiments.engines import workers_for
from streamlab.experiments.grid import Block, Cell, Grid, needs, prepare_grid, shown_budget
from streamlab.experiments.layout import count_done
from streamlab.experiments.pilot import Pilot, take_pilots
from streamlab.experiments.request import Request
from streamlab.runs.spec import RunSpec, load_strategy

from .lines import readable_seconds
from .live import title_of


def print_dry_run(request: Request, out: Path | None) -> None:
    """A table a block; nothing is run. out: a folder, of which it is said how many runs are done there."""
    grid = prepare_grid(request)
    console, found = Console(), needs(grid)
    pilots = take_pilots(grid)
    print(title_of(grid))
    for block in grid.blocks:
        resolved = grid.budgets[block.scenario].get(block.budget)
        console.print(f"[bold]{block.scenario}[/] at {shown_budget(block.budget, resolved)}", highlight=False)
        console.print(_table(block, found, pilots), highlight=False)
    _print_plans(grid)
    if out is not None:
        done = count_done(grid, out)
        print(f"{done} of {len(grid.cells)} runs are done in {out}, and are not run again")
    if any(pilot.from_one_image for pilot in pilots.values()):
        print("* told from a single image: a step would take more than a second, and none was taken")
    print(_summary(grid, pilots))


def _table(
    block: Block, found: Mapping[tuple[str, str], Need], pilots: Mapping[tuple[str, str], Pilot]
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("strategy", no_wrap=True)
    for heading in ("network", "own state", "exemplars", "a run takes about"):
        table.add_column(heading, justify="right")
    for spec in {spec.label: spec for spec in block.specs}.values():
        need, pilot = found[block.folder, spec.label], pilots[block.folder, spec.label]
        table.add_row(
            spec.label,
            f"{_network(Cell(block, spec))} {need.parameters:,}",
            readable_bytes(need.most_bytes),
            _bought(spec, need),
            f"{readable_seconds(pilot.seconds)}{' *' if pilot.from_one_image else ''}",
        )
    return table


def _network(cell: Cell) -> str:
    strategy = cell.strategy or load_strategy(cell.spec.strategy)
    return str((cell.spec.backbone or strategy.backbone).get("name", "mlp"))


def _bought(spec: RunSpec, need: Need) -> str:
    if spec.ceiling:
        return "unbounded"
    first, last = need.buys(spec.budget)
    if not need.exemplar_bytes:
        return "none"
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _print_plans(grid: Grid) -> None:
    plans = {(cell.block.scenario, cell.spec.plan_seed): cell.plan for cell in grid.cells}
    several = len(grid.budgets) > 1
    for (scenario, seed), plan in plans.items():
        print(f"plan of {scenario + ', ' if several else ''}seed {seed}: {plan.fingerprint[:16]}")


def _summary(grid: Grid, pilots: Mapping[tuple[str, str], Pilot]) -> str:
    request, count = grid.request, len(grid.cells)
    gpus = gpus_of(grid.cells[0].spec.device)
    at_once = max(1, min(workers_for(grid, len(gpus)), count))
    seconds = [pilots[cell.block.folder, cell.spec.label].seconds for cell in grid.cells]
    counted = "all that is held" if request.accounting == "held" else "the survey's accounting"
    frozen = "counted" if request.count_frozen else "not counted"
    tuning = f", and {request.tune} trials of each strategy before it" if request.tune else ""
    expected = readable_seconds(max(sum(seconds) / at_once, max(seconds)))
    return (
        f"{count} run{'s' if count > 1 else ''}, about {expected} in all on {at_once} at once{tuning}; "
        f"budgets count {counted}, a frozen backbone {frozen}; nothing was run (--dry-run)"
    )
