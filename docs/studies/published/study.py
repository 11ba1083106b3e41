"""Runs the recipes beside this file and writes docs/studies/published.md.

    make data && python docs/studies/published/study.py

About 50 minutes on two cores; what is done is not run again (runs/published), and a killed study goes
on where it was. `--only RECIPE` (repeatable) runs some of them; `--page` runs none. Rows whose runs
are not in runs/published stay as the page has them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tomllib
from pathlib import Path

import streamlab
from streamlab.evaluation.intervals import interval

sys.path.insert(0, str(Path(__file__).parents[1]))
from results import percent, run, values

HERE = Path(__file__).parent
RUNS = Path("runs/published")
PAGE = HERE.parent / "published.md"
RECIPES = sorted(path.stem for path in HERE.glob("*.toml") if path.stem != "figures")


def own_values(recipe: str, row: str, metric: str) -> dict[int, float]:
    """A metric by seed (0..1) of a recipe's complete runs."""
    return values(RUNS / recipe, row, metric)


def figure_rows(figures: list[dict], sources: dict[str, str]) -> list[str]:
    """A table for every method: the published figure, ours, and the difference."""
    lines = []
    for method in dict.fromkeys(figure["method"] for figure in figures):
        lines += [f"### {method}", ""]
        lines += ["| published by | recipe, row | metric | published | ours | n | difference | |"]
        lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: | --- |"]
        for figure in figures:
            if figure["method"] != method:
                continue
            metric = figure.get("metric", "a_last")
            own = list(own_values(figure["recipe"], figure["row"], metric).values())
            spread = f" ± {figure['spread']}" if figure["spread"] else ""
            where = f"[{figure['recipe']}]({HERE.name}/{figure['recipe']}.toml), `{figure['row']}`"
            cells = [sources[figure["source"]], where, metric, f"{figure['value']}{spread}"]
            if own:
                shown = interval(own)
                gap = 100 * shown.mean - figure["value"]
                slack = 100 * (shown.half_width or 0) + max(figure["spread"], 0.05)
                inside = "inside" if abs(gap) <= slack else "outside"
                cells += [percent(shown), str(shown.n), f"{gap:+.1f}", inside]
            else:
                cells += ["not run", "", "", ""]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def ordering_rows(orderings: list[dict]) -> list[str]:
    """A row for every claim and recipe: the paired difference over seeds."""
    lines = [
        "| claim | recipe | metric | difference, points | n | |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for ordering in orderings:
        metric = ordering.get("metric", "a_last")
        for recipe in ordering["recipes"]:
            above, below = (own_values(recipe, ordering[side], metric) for side in ("above", "below"))
            both = sorted(above.keys() & below.keys())
            if not both:
                lines.append(f"| {ordering['claim']} | {recipe} | {metric} | not run | | |")
                continue
            gap = interval([above[seed] - below[seed] for seed in both])
            half = gap.half_width or 0.0
            verdict = "holds" if gap.mean > half else "reversed" if gap.mean < -half else "not told apart"
            lines.append(
                f"| {ordering['claim']} | {recipe} | {metric} | {percent(gap, '+')} | {gap.n} | {verdict} |"
            )
    return lines


def standing(line: str, before: list[str]) -> str:
    """A row of the page before, where the runs of this one are not here."""
    if "| not run |" not in line:
        return line
    about = line.split(" | ")[:3]
    return next((old for old in before if old.split(" | ")[:3] == about), line)


def online_table(recipe: str, before: list[str]) -> list[str]:
    """All rows of an online recipe."""
    lines = [f"### {recipe}", ""]
    if not (RUNS / recipe / "experiment.json").exists():
        start = before.index(lines[0]) if lines[0] in before else len(before)
        later = (place for place in range(start + 1, len(before)) if before[place].startswith("#"))
        return before[start : next(later, len(before))] or [*lines, "not run", ""]
    lines += ["| | A_last | A_avg | forgetting | samples/s |", "| --- | ---: | ---: | ---: | ---: |"]
    experiment = streamlab.load_run(RUNS / recipe)
    for label, metrics in experiment.summary().items():
        cells = [
            percent(metrics[name]) if name in metrics else "n/a"
            for name in ("a_last", "a_avg", "average_forgetting")
        ]
        speeds = [
            r.result["resources"]["samples_per_second"]
            for r in experiment.runs
            if r.spec.label == label and r.complete
        ]
        cells.append(f"{statistics.median(speeds):,.0f}" if speeds else "")
        lines.append(f"| `{label}` | " + " | ".join(cells) + " |")
    return [*lines, ""]


def page() -> str:
    with (HERE / "figures.toml").open("rb") as file:
        content = tomllib.load(file)
    figures, orderings = content.pop("figure"), content.pop("ordering")
    before = PAGE.read_text(encoding="utf-8").split("\n") if PAGE.exists() else []
    return "\n".join(
        [
            "# Published figures, run again",
            "",
            "Made by `python docs/studies/published/study.py`; do not edit. Percent; ours with a 95 %",
            "interval over seeds (Student's t). *inside*: the difference is within both spreads together.",
            "",
            "## Beside the tables",
            "",
            *(standing(line, before) for line in figure_rows(figures, content)),
            (HERE / "notes.md").read_text(encoding="utf-8"),
            "## Orderings",
            "",
            "Paired by seed: both rows saw the same streams.",
            "",
            *(standing(line, before) for line in ordering_rows(orderings)),
            "",
            "## The online methods side by side",
            "",
            *online_table("online-fashion-mnist", before),
            *online_table("online-glyphs-100", before),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--only", action="append", choices=RECIPES, help="run this recipe; repeatable")
    given = parser.parse_args()
    if not given.page:
        for recipe in given.only or RECIPES:
            run(HERE / f"{recipe}.toml", RUNS / recipe)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
