"""Runs the comparisons beside this file and writes docs/studies/memory.md.

    python docs/studies/memory/study.py

About two hours on two cores; what is done is not run again (runs/memory), and a killed study goes on where
it was. `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from results import COMMAND, markdown

from streamlab.evaluation.intervals import interval
from streamlab.report.charts import pictures_of
from streamlab.report.findings import findings
from streamlab.report.gather import gather
from streamlab.report.panel import Gathered, Panel
from streamlab.report.provenance import provenance_of
from streamlab.report.statistics import areas, ranked
from streamlab.report.tables import tables_of
from streamlab.report.write import accounting_of

HERE = Path(__file__).parent
RUNS = Path("runs/memory")
PAGE = HERE.parent / "memory.md"
STUDIES = {
    "sessions": "Sessions: does the survey's ordering hold?",
    "prompts": "Si-Blurry beside a frozen transformer: what do exemplars buy?",
}
# AUC-A and AUC-L on CIFAR-100, base 0 and 10 classes a task (Zhou et al., arXiv 2302.03648).
SURVEY = {
    "er": (10.49, 8.02),
    "icarl": (10.81, 8.64),
    "wa": (10.80, 8.92),
    "bic": (10.73, 8.30),
    "foster": (11.12, 9.03),
    "expandable-der": (10.74, 8.95),
    "memo": (10.85, 9.03),
}


def against_the_survey(panel: Panel) -> list[str]:
    """A row a method: its areas here and there, and its place by each; how alike the two orders are."""
    own = {}
    for row in ranked(panel):
        name = row.split(" ")[0]
        both = [areas(panel, row, metric) for metric in ("a_avg", "a_last")]
        if name in SURVEY and name not in own and all(both):
            own[name] = tuple(interval(list(area.values())).mean for area in both)
    if len(own) < 3:
        return ["Not complete.", ""]
    lines = [
        "| | AUC-A here | place | the survey's | place | AUC-L here | place | the survey's | place |",
        "| --- |" + " ---: |" * 8,
    ]
    places = {
        (where, metric): _places({name: table[name][metric] for name in own})
        for where, table in (("here", own), ("there", SURVEY))
        for metric in (0, 1)
    }
    for name in own:
        cells = []
        for metric in (0, 1):
            cells += [f"{own[name][metric]:.3f}", str(places["here", metric][name])]
            cells += [f"{SURVEY[name][metric]:.2f}", str(places["there", metric][name])]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    alike = [_kendall(places["here", metric], places["there", metric]) for metric in (0, 1)]
    return [
        *lines,
        "",
        f"Kendall's tau between the two orders: {alike[0]:+.2f} by AUC-A, {alike[1]:+.2f} by AUC-L (1: the",
        "same order, 0: no relation, -1: reversed).",
        "",
    ]


def _places(values: dict[str, float]) -> dict[str, int]:
    order = sorted(values, key=lambda name: -values[name])
    return {name: order.index(name) + 1 for name in values}


def _kendall(one: dict[str, int], other: dict[str, int]) -> float:
    """Of all pairs, the share in the same order less the share in the other."""
    names = list(one)
    signs = [
        1 if (one[a] - one[b]) * (other[a] - other[b]) > 0 else -1
        for number, a in enumerate(names)
        for b in names[number + 1 :]
    ]
    return sum(signs) / len(signs)


def of_study(name: str) -> list[str]:
    """One study's part of the page."""
    folder = RUNS / name
    lines = [f"## {STUDIES[name]}", ""]
    if not (folder / "experiment.json").exists():
        return [*lines, "Not run.", ""]
    gathered: Gathered = gather([folder])
    lines += [" ".join(findings(gathered)), "", accounting_of(gathered), ""]
    if name == "sessions":
        lines += against_the_survey(gathered.panels[0])
    for table in tables_of(gathered):
        if table.key.startswith(("areas", "main")):
            lines += markdown(table)
    for picture in pictures_of(gathered):
        if picture.key in ("p0memorya", "p0flops"):
            path = HERE / f"{name}-{picture.key.removeprefix('p0')}.svg"
            path.write_text(picture.svg, encoding="utf-8")
            lines += [f"![{picture.caption}]({HERE.name}/{path.name})", "", picture.caption, ""]
    kept = ("packages", "machine", "device", "made", "sources", "runs")
    lines += [f"- {key}: {text}" for key, text in provenance_of(gathered) if key in kept]
    return [*lines, ""]


def page() -> str:
    """The whole page."""
    lines = [
        "# Accuracy against memory",
        "",
        "Made by `python docs/studies/memory/study.py`; do not edit. Recipes:",
        "[sessions](memory/sessions.toml), [prompts](memory/prompts.toml). Means with a 95 % interval over",
        "seeds (Student's t), every seed with a stream of its own; bold is the best, italic what is not told",
        "apart from it.",
        "",
        (HERE / "notes.md").read_text(encoding="utf-8"),
    ]
    for name in STUDIES:
        lines += of_study(name)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page")
    if not parser.parse_args().page:
        for name in STUDIES:
            command = [COMMAND, "compare", str(HERE / f"{name}.toml"), "--out", str(RUNS / name)]
            subprocess.run(command, check=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
