"""`streamlab runs sessions` and `runs confusion`: few-shot sessions, and what is taken for what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from streamlab.data.load import load_source
from streamlab.errors import StreamlabError
from streamlab.evaluation.few_shot import by_session, confusion
from streamlab.evaluation.record import Record
from streamlab.experiments.held import read_runs
from streamlab.runs.folder import RunFolder

_HEADINGS = {
    "accuracy": "all classes so far",
    "base_accuracy": "base",
    "novel_accuracy": "novel, all compete",
    "harmonic_mean": "harmonic mean",
    "novel_as_base": "novel taken for base",
    "base_as_novel": "base taken for novel",
}


def _runs(folder: Path) -> list[RunFolder]:
    found = [run.folder for run in read_runs(folder)]
    if not found[0].plan().has_base:
        raise StreamlabError(f"{folder} is no run of few-shot sessions (fscil)")
    return found


def print_sessions(folder: Path) -> None:
    """For every row the means over its seeds of each session's figures, in percent."""
    rows: dict[str, list[Record]] = {}
    for run in _runs(folder):
        if run.result is not None and not run.spec.ceiling:
            rows.setdefault(run.spec.label, []).append(run.stream_record())
    console = Console()
    for label, records in rows.items():
        figures = [by_session(record) for record in records]
        table = Table(title=f"{label}, n={len(records)}", title_justify="left", box=None, header_style="dim")
        table.add_column("percent")
        for number in range(len(figures[0]["accuracy"])):
            table.add_column("base" if number == 0 else f"+{number}", justify="right")
        for name, heading in _HEADINGS.items():
            means = np.mean([figure[name] for figure in figures], axis=0)
            cells = ["–" if value != value else f"{100 * value:.1f}" for value in means]
            table.add_row(heading, *cells)
        console.print(table, highlight=False)
        console.print()


def draw_confusion(folder: Path, picture: Path) -> None:
    """The confusion matrix after the last session, a row a true class, ordered by session."""
    from streamlab.report.canvas import Canvas

    run = next((run for run in _runs(folder) if run.result is not None), None)
    if run is None:
        raise StreamlabError(f"{folder} has no complete run")
    shares, order, sizes = confusion(run.stream_record())
    names = load_source(run.spec.source, run.spec.data).class_names
    canvas = Canvas("confusion", 7.5, 7)
    axes = canvas.axes
    axes.grid(visible=False)
    image = axes.imshow(100 * shares, cmap="magma_r", vmin=0, vmax=100, interpolation="nearest")
    for edge in np.cumsum(sizes)[:-1]:
        axes.axhline(edge - 0.5, color="0.6", linewidth=0.5)
        axes.axvline(edge - 0.5, color="0.6", linewidth=0.5)
    middles = np.cumsum(sizes) - np.array(sizes) / 2 - 0.5
    ticks = ["base", *(f"+{number}" for number in range(1, len(sizes)))]
    axes.set_xticks(middles, ticks, fontsize=8)
    axes.set_yticks(middles, ticks, fontsize=8)
    if len(order) <= 40:
        axes.set_yticks(np.arange(len(order)), [names[label] for label in order], fontsize=7)
    axes.set_xlabel("taken for a class of session")
    axes.set_ylabel("class of session")
    axes.set_title(f"{run.spec.label}, seed {run.spec.seed}, after the last session", fontsize=10, loc="left")
    canvas.figure.colorbar(image, shrink=0.8, label="% of the class's test images")
    canvas.write(picture)
