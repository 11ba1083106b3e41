"""Runs the recipe beside this file and writes docs/studies/imbalance.md: answers to a long tail.

    make data
    python docs/studies/imbalance/study.py

About ten minutes on two cores; what is done is not run again (runs/imbalance), and a killed study goes on
where it was. `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from results import complete_runs, percent, run

from streamlab.evaluation.intervals import interval

HERE, RUNS = Path(__file__).parent, Path("runs/imbalance")
METRICS = {
    "A_last": "a_last",
    "rare third": "rare_accuracy",
    "A_avg": "a_avg",
    "forgetting": "average_forgetting",
}


def table(scenario: str) -> list[str]:
    """A row a strategy on this scenario: mean ± 95 % over seeds."""
    runs = [one for one in complete_runs(RUNS) if one.record.plan.scenario == scenario]
    lines = ["| | " + " | ".join(METRICS) + " | n |", "| --- |" + " ---: |" * (len(METRICS) + 1)]
    for row in dict.fromkeys(one.spec.label for one in runs):
        own = [one for one in runs if one.spec.label == row]
        cells = [percent(interval([one.metrics[name] for one in own])) for name in METRICS.values()]
        lines.append(f"| `{row}` | " + " | ".join(cells) + f" | {len(own)} |")
    return lines


def main() -> None:
    if "--page" not in sys.argv:
        run(HERE / "fashion-mnist.toml", RUNS)
    page = [
        "# A long tail, and answers to it",
        "",
        "Made by `python docs/studies/imbalance/study.py`; do not edit. The recipe:",
        "[fashion-mnist](imbalance/fashion-mnist.toml). Percent, mean ± 95 % over seeds (Student's t), every",
        "seed with a stream of its own.",
        "",
        (HERE / "notes.md").read_text(encoding="utf-8"),
    ]
    for scenario in ("class-incremental", "i-blurry"):
        page += [f"## {scenario}", "", *table(scenario), ""]
    HERE.with_suffix(".md").write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
