"""What the studies share: running recipes, and reading finished runs into tables and charts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlab
from streamlab.evaluation.intervals import Interval, interval, paired_differences
from streamlab.evaluation.record import Record
from streamlab.report.tables import Entry, Table

COMMAND = str(Path(sys.executable).with_name("streamlab"))
BySeed = dict[int, float]


def run(recipe: Path, folder: Path, *options: str) -> None:
    """One recipe, or what is left of it. options: of the command, beside it."""
    done = (folder / "experiment.json").exists()
    arguments = ["resume", folder] if done else ["run", recipe, "--out", folder, *options]
    subprocess.run([COMMAND, *map(str, arguments)], check=True)


def complete_runs(folder: Path, row: str | None = None) -> list[streamlab.Run]:
    """The complete runs of an experiment, or of one of its rows; none where it was not run."""
    if not (folder / "experiment.json").exists():
        return []
    return [run for run in streamlab.load_run(folder).runs if run.complete and row in (None, run.spec.label)]


def values(folder: Path, row: str, metric: str) -> BySeed:
    """A metric by seed (0..1) of a row's complete runs."""
    runs = complete_runs(folder, row)
    return {run.spec.seed: run.metrics[metric] for run in runs if metric in run.metrics}


def rows(folder: Path) -> list[str]:
    """The labels of an experiment that have a complete run."""
    return list(dict.fromkeys(run.spec.label for run in complete_runs(folder)))


def markdown(table: Table) -> list[str]:
    """A table with its notes."""

    def cell(entry: Entry) -> str:
        text = f"{entry.text} ± {entry.half}" if entry.half else entry.text
        around = {"best": "**", "tied": "*"}.get(entry.mark, "")
        return f"{around}{text}{around}"

    lines = [f"### {table.title}", "", "| " + " | ".join(table.columns) + " |"]
    lines += ["| --- |" + " ---: |" * (len(table.columns) - 1)]
    lines += ["| " + " | ".join(cell(entry) for entry in row) + " |" for row in table.rows]
    return [*lines, "", *(f"{note}  " for note in table.notes), ""]


def percent(shown: Interval, sign: str = "") -> str:
    half = "" if shown.half_width is None else f" ± {100 * shown.half_width:.1f}"
    return f"{100 * shown.mean:{sign}.1f}{half}"


def metric_table(folders: Sequence[Path], metrics: Mapping[str, str]) -> list[str]:
    """A row a strategy, a column a metric (heading -> name): mean ± 95 % over seeds; seconds to train."""
    lines = [
        "| | " + " | ".join(metrics) + " | n | training, s |",
        "| --- |" + " ---: |" * (len(metrics) + 2),
    ]
    for folder in folders:
        for row in rows(folder):
            cells = []
            for metric in metrics.values():
                found = list(values(folder, row, metric).values())
                cells.append(percent(interval(found)) if found else "n/a")
            runs = complete_runs(folder, row)
            seconds = sorted(run.result["resources"]["train_seconds"] for run in runs)[len(runs) // 2]
            lines.append(f"| `{row}` | " + " | ".join(cells) + f" | {len(runs)} | {seconds:.0f} |")
    return lines


def difference_table(own: tuple[Path, str], others: Sequence[tuple[Path, str]], metric: str) -> list[str]:
    """`own` minus each other row in points, paired by seed, p corrected as Holm does."""
    found = paired_differences(
        values(*own, metric), {row: values(folder, row, metric) for folder, row in others}
    )
    lines = [
        f"| `{own[1]}` minus | {metric}, points | n | p (Holm) | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row, shown in found.items():
        verdict = ("above" if shown.interval.mean > 0 else "below") if shown.told_apart else "not told apart"
        cells = [
            f"`{row}`",
            percent(shown.interval, "+"),
            str(shown.interval.n),
            f"{shown.p_holm:.3f}",
            verdict,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def accuracy_curves(shown: Mapping[str, tuple[Path, str]], path: Path, title: str, alt: str) -> list[str]:
    """A chart of accuracy over the stream (legend -> row), a band of ± one 95 % interval; its Markdown."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    styles = ("-", "--", "-.", ":")
    for number, (legend, (folder, row)) in enumerate(shown.items()):
        records: list[Record] = [run.record for run in complete_runs(folder, row)]
        if not records:
            continue
        points = sorted({e.samples_seen for record in records for e in record.evaluations if e.periodic})
        curves = [
            {e.samples_seen: 100 * e.accuracy for e in record.evaluations if e.periodic} for record in records
        ]
        common = [point for point in points if all(point in curve for curve in curves)]
        means = [interval([curve[point] for curve in curves]) for point in common]
        centre = [mean.mean for mean in means]
        half = [mean.half_width or 0 for mean in means]
        line = axes.plot(
            common, centre, styles[number // 4 % 4], label=legend, marker="osD^v<>P"[number % 8], markersize=4
        )[0]
        low = [c - h for c, h in zip(centre, half, strict=True)]
        high = [c + h for c, h in zip(centre, half, strict=True)]
        axes.fill_between(common, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_ylim(0, 100)
    axes.set_xlabel("samples seen")
    axes.set_ylabel("accuracy on the classes seen so far, %")
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(alpha=0.3, linewidth=0.5)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    pyplot.rcParams["svg.hashsalt"] = "streamlab"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return [
        f"![{alt}]({path.name if path.parent.name == 'studies' else f'{path.parent.name}/{path.name}'})",
        "",
    ]


def session_table(folder: Path) -> list[str]:
    """A row a strategy, a column a session: mean accuracy over all classes so far."""
    lines: list[str] = []
    for row in rows(folder):
        curves = [
            [100 * evaluation.accuracy for evaluation in run.record.at_task_ends]
            for run in complete_runs(folder, row)
        ]
        if len(curves[0]) == 1:
            continue  # trained on everything at once: there are no sessions
        if not lines:
            names = ["base", *(f"+{number}" for number in range(1, len(curves[0])))]
            lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
        means = [sum(column) / len(column) for column in zip(*curves, strict=True)]
        lines.append(f"| `{row}` | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    return lines
