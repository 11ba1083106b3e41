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
from results import complete_runs, percent, rows, run

from streamlab.evaluation.episode_metrics import by_condition
from streamlab.evaluation.episode_record import EpisodeRecord
from streamlab.evaluation.intervals import bootstrap, interval, paired_differences

HERE = Path(__file__).parent
RUNS = Path("runs/episodes")
PAGE = HERE.parent / "episodes.md"
RECIPES = {"one-shot": "5-way 1-shot", "five-shot": "5-way 5-shot", "twenty-way": "20-way 1-shot"}
BASELINE = "protonet"


def found(name: str) -> list[tuple[str, list[EpisodeRecord], list[float]]]:
    """(label, records, seconds of training) of every row of a recipe and of its baseline's."""
    table = []
    for folder in (RUNS / name, RUNS / f"baseline-{name}"):
        for row in rows(folder):
            runs = complete_runs(folder, row)
            own = [run.record for run in runs]
            seconds = [run.result["resources"]["train_seconds"] for run in runs]
            table.append((row, [record for record in own if isinstance(record, EpisodeRecord)], seconds))
    return table


def clean(records: list[EpisodeRecord]) -> dict[int, float]:
    """Meta-test accuracy by seed."""
    return {record.plan.seed: tested.interval.mean for record in records if (tested := record.tested())}


def accuracy_table(name: str) -> list[str]:
    """A row a strategy: mean ± 95 % over seeds, the bootstrap, and the mean interval over episodes."""
    lines = [
        "| | accuracy, % | bootstrap | ± over episodes | n | training, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row, records, seconds in found(name):
        means = list(clean(records).values())
        low, high = bootstrap(means)
        half = np.mean([tested.interval.half_width or 0 for record in records if (tested := record.tested())])
        cells = (percent(interval(means)), f"{100 * low:.1f} to {100 * high:.1f}", f"{100 * half:.1f}")
        lines.append(f"| `{row}` | " + " | ".join(cells) + f" | {len(means)} | {np.median(seconds):.0f} |")
    return [*lines, ""] if len(lines) > 2 else ["not run", ""]


def gains(name: str) -> list[str]:
    """Every other row minus cross-entropy alone, in points, paired by seed, p corrected as Holm does."""
    by_row = {row: clean(records) for row, records, _ in found(name)}
    if BASELINE not in by_row:
        return ["not run", ""]
    own = by_row.pop(BASELINE)
    lines = [f"| minus `{BASELINE}` | points | n | p (Holm) | |", "| --- | ---: | ---: | ---: | --- |"]
    for row, shown in paired_differences(own, by_row).items():
        mean, half = -100 * shown.interval.mean, 100 * (shown.interval.half_width or 0)
        verdict = ("above" if mean > 0 else "below") if shown.told_apart else "not told apart"
        cells = (f"{mean:+.1f} ± {half:.1f}", str(shown.interval.n), f"{shown.p_holm:.3f}", verdict)
        lines.append(f"| `{row}` | " + " | ".join(cells) + " |")
    return [*lines, ""]


def environment_table(name: str) -> list[str]:
    """A row a strategy, a column a condition: mean accuracy over its severities; then the relative drop."""
    lines: list[str] = []
    for row, records, _ in found(name):
        tables = [by_condition(record) for record in records]
        means = [
            {name: float(np.mean([o.mean for o in own.values()])) for name, own in t.items()} for t in tables
        ]
        names = list(means[0])
        if not lines:
            lines = [
                "| | " + " | ".join(names) + " | all | relative drop |",
                "| --- |" + " ---: |" * (len(names) + 2),
            ]
        cells = [percent(interval([own[name] for own in means])) for name in names]
        whole = [float(np.mean(list(own.values()))) for own in means]
        drops = [1 - worn / own for worn, own in zip(whole, clean(records).values(), strict=True)]
        lines.append(
            f"| `{row}` | " + " | ".join([*cells, percent(interval(whole)), percent(interval(drops))]) + " |"
        )
    return [*lines, ""] if lines else ["not run", ""]


def severity_chart(name: str, path: Path) -> list[str]:
    """Accuracy against severity in each condition, a line a strategy; its Markdown."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    wanted = (BASELINE, "protonet loss=cross-entropy+icnn", "simpleshot", "maml")
    shown = [(row, records) for row, records, _ in found(name) if row in wanted]
    if not shown:
        return ["not run", ""]
    figure, axes = pyplot.subplots(2, 3, figsize=(9, 5), sharey=True, layout="constrained")
    for number, (row, own) in enumerate(shown):
        unworn = float(np.mean(list(clean(own).values())))
        tables = [by_condition(record) for record in own]
        for axis, name in zip(axes.flat, tables[0], strict=True):
            severities = sorted(tables[0][name])
            means = [float(np.mean([table[name][level].mean for table in tables])) for level in severities]
            axis.plot(
                [0, *severities],
                [100 * unworn, *(100 * mean for mean in means)],
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
        + ", and `baseline-` before each.",
        "",
        (HERE / "notes.md").read_text(encoding="utf-8"),
    ]
    for name, title in RECIPES.items():
        lines += [f"## {title}", "", *accuracy_table(name), *gains(name)]
    lines += ["## In environments", ""]
    lines += ["5-way 1-shot; queries are in each condition at severities 1, 3 and 5.", ""]
    lines += environment_table("one-shot")
    lines += severity_chart("one-shot", HERE / "severity.svg")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page")
    if not parser.parse_args().page:
        for recipe in (*RECIPES, *(f"baseline-{name}" for name in RECIPES)):
            run(HERE / f"{recipe}.toml", RUNS / recipe)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
