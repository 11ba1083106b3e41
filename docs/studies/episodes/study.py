"""Runs the recipes beside this file and writes docs/studies/episodes.md.

    python docs/studies/episodes/study.py

About three quarters of an hour on two cores; what is done is not run again (runs/episodes), and a
killed study goes on where it was. `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from results import complete_runs, difference_table, percent, rows, run

from streamlab.evaluation.episodic import EpisodeRecord, by_condition
from streamlab.evaluation.intervals import bootstrap, interval

HERE = Path(__file__).parent
RUNS = Path("runs/episodes")
PAGE = HERE.parent / "episodes.md"
RECIPES = {"one-shot": "5-way 1-shot", "five-shot": "5-way 5-shot", "twenty-way": "20-way 1-shot"}
BASELINE = "protonet"


def records(folder: Path, row: str) -> list[EpisodeRecord]:
    """The records of a row's complete runs."""
    found = [run.record for run in complete_runs(folder, row)]
    return [record for record in found if isinstance(record, EpisodeRecord)]


def accuracy_table(folder: Path) -> list[str]:
    """A row a strategy: mean ± 95 % over seeds, the bootstrap, and the mean interval over episodes."""
    lines = [
        "| | accuracy, % | bootstrap | ± over episodes | n | training, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows(folder):
        tests = [tested for record in records(folder, row) if (tested := record.tested()) is not None]
        means = [tested.interval.mean for tested in tests]
        low, high = bootstrap(means)
        half = np.mean([tested.interval.half_width or 0 for tested in tests])
        seconds = np.median([run.result["resources"]["train_seconds"] for run in complete_runs(folder, row)])
        cells = (percent(interval(means)), f"{100 * low:.1f} to {100 * high:.1f}", f"{100 * half:.1f}")
        lines.append(f"| `{row}` | " + " | ".join(cells) + f" | {len(means)} | {seconds:.0f} |")
    return [*lines, ""] if len(lines) > 2 else ["not run", ""]


def gains(folder: Path) -> list[str]:
    """Every other row minus cross-entropy alone, in points, paired by seed."""
    others = [row for row in rows(folder) if row != BASELINE]
    if not others or BASELINE not in rows(folder):
        return ["not run", ""]
    table = difference_table((folder, BASELINE), [(folder, row) for row in others], "episode_accuracy")
    return [*table, ""]


def environment_table(folder: Path) -> list[str]:
    """A row a strategy, a column a condition: mean accuracy over its severities; then the relative drop."""
    lines: list[str] = []
    for row in rows(folder):
        tables = [by_condition(record) for record in records(folder, row)]
        names = list(tables[0])
        if not lines:
            lines = [
                "| | " + " | ".join(names) + " | all | relative drop |",
                "| --- |" + " ---: |" * (len(names) + 2),
            ]
        cells = [
            percent(
                interval([float(np.mean([own.mean for own in table[name].values()])) for table in tables])
            )
            for name in names
        ]
        runs = complete_runs(folder, row)
        whole = interval([run.metrics["environment_accuracy"] for run in runs])
        drop = interval([run.metrics["relative_drop"] for run in runs])
        lines.append(f"| `{row}` | " + " | ".join(cells) + f" | {percent(whole)} | {percent(drop)} |")
    return [*lines, ""] if lines else ["not run", ""]


def severity_chart(folder: Path, path: Path) -> list[str]:
    """Accuracy against severity in each condition, a line a strategy; its Markdown."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [
        row
        for row in (BASELINE, "protonet loss=cross-entropy+icnn", "simpleshot", "maml")
        if row in rows(folder)
    ]
    if not shown:
        return ["not run", ""]
    figure, axes = pyplot.subplots(2, 3, figsize=(9, 5), sharey=True, layout="constrained")
    for number, row in enumerate(shown):
        own = records(folder, row)
        clean = float(np.mean([tested.interval.mean for record in own if (tested := record.tested())]))
        tables = [by_condition(record) for record in own]
        for axis, name in zip(axes.flat, tables[0], strict=True):
            severities = sorted(tables[0][name])
            means = [float(np.mean([table[name][level].mean for table in tables])) for level in severities]
            axis.plot(
                [0, *severities],
                [100 * clean, *(100 * mean for mean in means)],
                ("-", "--", "-.", ":")[number % 4],
                marker="osD^"[number % 4],
                markersize=4,
                label=row,
            )
            axis.set_title(name, fontsize=9, loc="left")
            axis.grid(alpha=0.3, linewidth=0.5)
    axes[0, 0].set_ylim(0, 100)
    for axis in axes[1]:
        axis.set_xlabel("severity (0: clean)", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %", fontsize=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    pyplot.rcParams["svg.hashsalt"] = "streamlab"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return [f"![Accuracy against severity by condition]({HERE.name}/{path.name})", ""]


def page() -> str:
    """The whole page."""
    lines = [
        "# Few-shot episodes",
        "",
        "Made by `python docs/studies/episodes/study.py`; do not edit. Meta-test of glyphs-100, classes that",
        "no training saw; percent, means with a 95 % interval over seeds (Student's t), every seed with its",
        "own classes and episodes. Recipes: "
        + ", ".join(f"[{name}](episodes/{name}.toml)" for name in RECIPES)
        + ".",
        "",
        (HERE / "notes.md").read_text(encoding="utf-8"),
    ]
    for name, title in RECIPES.items():
        lines += [f"## {title}", "", *accuracy_table(RUNS / name)]
        lines += [f"Cross-entropy alone (`{BASELINE}`) minus each:", "", *gains(RUNS / name)]
    lines += ["## In environments", ""]
    lines += ["5-way 1-shot; queries wear each condition at severities 1, 3 and 5.", ""]
    lines += environment_table(RUNS / "one-shot")
    lines += severity_chart(RUNS / "one-shot", HERE / "severity.svg")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page")
    if not parser.parse_args().page:
        for recipe in RECIPES:
            run(HERE / f"{recipe}.toml", RUNS / recipe)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
