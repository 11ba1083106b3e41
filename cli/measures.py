"""`streamlab runs metrics` and `runs matrix`: what the record of a finished run says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamlab.errors import StreamlabError
from streamlab.evaluation.episode_record import EpisodeRecord
from streamlab.evaluation.intervals import Interval
from streamlab.evaluation.libraries import as_libraries
from streamlab.evaluation.metrics import NotDefined, Value, is_share
from streamlab.evaluation.record import accuracy_matrix
from streamlab.experiments.held import HeldRun, read_runs, tables_of
from streamlab.experiments.measures import measure_runs

from .lines import hanging

if TYPE_CHECKING:
    from numpy.typing import NDArray


def print_metrics(folder: Path, names: tuple[str, ...], as_json: bool) -> None:
    """A table of metrics by row, and below it why some are not defined."""
    tables = tables_of(read_runs(folder))
    if as_json:
        plain = {
            f"{scenario} at {budget}": _plain(runs, names) for (scenario, budget), runs in tables.items()
        }
        print(json.dumps(plain if len(plain) > 1 else next(iter(plain.values())), indent=1))
        return
    for number, ((scenario, budget), runs) in enumerate(tables.items()):
        if len(tables) > 1:
            print(("\n" if number else "") + f"{scenario} at {budget}")
        _print_table(runs, names)


def _plain(runs: list[HeldRun], names: tuple[str, ...]) -> dict[str, object]:
    return {
        label: {
            name: vars(value) if isinstance(value, Interval) else {"not_defined": value.reason}
            for name, value in row.items()
        }
        for label, row in measure_runs(runs, names).items()
    }


def _print_table(runs: list[HeldRun], names: tuple[str, ...]) -> None:
    measured = measure_runs(runs, names)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("metric")
    for label in measured:
        table.add_column(label, justify="right")
    for name in dict.fromkeys(name for row in measured.values() for name in row):
        scale = 100 if is_share(name) else 1
        table.add_row(name, *(_cell(row[name], scale) for row in measured.values()))
    Console().print(table, highlight=False)
    if any(isinstance(row.get("intransigence"), Interval) for row in measured.values()):
        ceilings = dict.fromkeys(run.label for run in runs if run.spec.ceiling)
        print(f"intransigence is against {', '.join(ceilings)}, seed by seed")
    reasons: dict[str, list[str]] = {}
    for label, row in measured.items():
        for name, value in row.items():
            if isinstance(value, NotDefined):
                reasons.setdefault(value.reason, []).append(f"{label}: {name}")
    for reason, places in reasons.items():
        shown = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
        print(hanging("n/a  ", f"{reason} ({shown})"))


def _cell(value: Interval | NotDefined, scale: int) -> Text:
    """In percent (scale 100), or as it is."""
    if isinstance(value, NotDefined):
        return Text("n/a", style="dim")
    digits = 1 if scale == 100 else 2
    text = Text(f"{scale * value.mean:.{digits}f}")
    half = "" if value.half_width is None else f" ±{scale * value.half_width:4.{digits}f}"
    return text.append(half, "dim")


def print_matrices(folder: Path, as_json: bool) -> None:
    """Each run's task matrix in percent, and its forgetting and transfer by library."""
    found = list(_matrices(folder))
    if not found:
        raise StreamlabError(f"{folder} holds no run with a finished task")
    if as_json:
        print(json.dumps([_plain_matrix(held, matrix) for held, matrix in found]))
        return
    console = Console()
    for held, matrix in found:
        console.print(f"[bold]{held.label}[/], seed {held.seed}: accuracy (%) on each task", highlight=False)
        for table in _matrix_tables(matrix, console.width):
            console.print(table)
        console.print(libraries_table(matrix), "")


def _matrices(folder: Path) -> Iterator[tuple[HeldRun, NDArray[np.float64]]]:
    """Of each run that has one, in percent: (tasks, tasks), NaN where a task was not judged."""
    for held in read_runs(folder):
        record = held.folder.record()
        if isinstance(record, EpisodeRecord):
            raise StreamlabError(f"{folder} is of episodes, which have no tasks; see streamlab runs episodes")
        if not record.ceiling and record.at_task_ends:
            yield held, 100 * accuracy_matrix(record)


def _plain_matrix(held: HeldRun, matrix: NDArray[np.float64]) -> dict[str, object]:
    rows = [[None if value != value else round(float(value), 4) for value in row] for row in matrix]
    return {"run": str(held.path), "strategy": held.label, "seed": held.seed, "accuracy_percent": rows}


def _matrix_tables(matrix: NDArray[np.float64], width: int) -> Iterator[Table]:
    """A row a task end, a column a task: as many columns as the terminal has room for, then the next ones.

    What was not judged yet is left out, where a whole row of a table would be.
    """
    most = max(1, (width - len("after task")) // len(" 100.0 "))
    for first in range(0, len(matrix), most):
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("after task", justify="right")
        for task in range(first, min(first + most, len(matrix))):
            table.add_column(str(task + 1), justify="right", min_width=len("100.0"))
        for task, row in enumerate(matrix):
            judged = row[first : first + most]
            if not np.isnan(judged).all():
                table.add_row(str(task + 1), *map(_share, judged))
        yield table


def _share(value: float) -> Text:
    return Text("–", style="dim") if value != value else Text(f"{value:.1f}")


def libraries_table(matrix: NDArray[np.float64]) -> Table:
    """Forgetting and backward transfer of one matrix (in percent), a row a library."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("as reported by")
    table.add_column("forgetting", justify="right")
    table.add_column("BWT", justify="right")
    for name, (forgetting, transfer) in as_libraries(matrix).items():
        table.add_row(name, _figure(forgetting), _figure(transfer))
    return table


def _figure(value: Value) -> Text:
    return Text("n/a", style="dim") if isinstance(value, NotDefined) else Text(f"{value:.1f}")
