"""`streamlab runs episodes`: what was tested of runs of episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from streamlab.errors import StreamlabError
from streamlab.evaluation.episode_metrics import by_condition
from streamlab.evaluation.episode_record import EpisodeRecord
from streamlab.evaluation.intervals import bootstrap, interval
from streamlab.evaluation.record import Record
from streamlab.experiments.held import read_runs


def print_episodes(folder: Path) -> None:
    """Of every row: meta-test accuracy by seed and over seeds, by environment, and the confusion by way."""
    console = Console()
    results = {run.label: run.folder.result or {} for run in read_runs(folder) if run.complete}
    for label, records in records_of(folder).items():
        of_episodes = [record for record in records if isinstance(record, EpisodeRecord)]
        if not of_episodes:
            raise StreamlabError(f"{folder} is no run of episodes")
        tests = [tested for record in of_episodes if (tested := record.tested()) is not None]
        means = [100 * tested.interval.mean for tested in tests]
        each = ", ".join(
            f"{100 * t.interval.mean:.1f} ± {100 * (t.interval.half_width or 0):.1f}" for t in tests
        )
        console.print(f"[bold]{label}[/]: {each} %, by seed (1.96 s/√n over episodes)", highlight=False)
        if results[label].get("transductive"):
            console.print("  transductive: the queries of an episode are classified together")
        if len(means) > 1:
            over, (low, high) = interval(means), bootstrap(means)
            console.print(
                f"  over {len(means)} seeds {over.mean:.1f} ± {over.half_width:.1f} (Student's t), "
                f"bootstrap {low:.1f} to {high:.1f}",
                highlight=False,
            )
        conditions = [by_condition(record) for record in of_episodes]
        if conditions[0]:
            table = Table(box=None, pad_edge=False, header_style="dim")
            table.add_column("accuracy, %, by severity")
            for severity in range(1, 6):
                table.add_column(str(severity), justify="right")
            table.add_column("mean", justify="right")
            table.add_column("relative drop", justify="right")
            clean = float(np.mean(means))
            for name in conditions[0]:
                by = {
                    severity: 100 * float(np.mean([found[name][severity].mean for found in conditions]))
                    for severity in conditions[0][name]
                }
                mean = float(np.mean(list(by.values())))
                cells = [f"{by[severity]:.1f}" if severity in by else "–" for severity in range(1, 6)]
                table.add_row(f"  {name}", *cells, f"{mean:.1f}", f"{(clean - mean) / clean:.0%}")
            console.print(table, highlight=False)
        confusion = np.sum([tested.confusion for tested in tests], axis=0)
        table = Table(box=None, pad_edge=False, show_header=False)
        for row in 100 * confusion / confusion.sum(1, keepdims=True):
            table.add_row(*(f"{value:5.1f}" for value in row))
        console.print("  queries of each place of the way (row) taken for each (column), %:", highlight=False)
        console.print(table, "", highlight=False)


def records_of(folder: Path) -> dict[str, list[Record | EpisodeRecord]]:
    """Of every row, the records of its complete runs."""
    rows: dict[str, list[Record | EpisodeRecord]] = {}
    for run in read_runs(folder):
        if run.complete:
            rows.setdefault(run.label, []).append(run.folder.record())
    if not rows:
        raise StreamlabError(f"{folder} has no complete run")
    return rows
