"""Runs the recipes beside this file and writes docs/studies/prompts.md.

    python docs/studies/prompts/study.py

About an hour and a half on two cores; what is done is not run again (runs/prompts), and a killed study
goes on where it was. `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from results import accuracy_curves, difference_table, metric_table, rows, run

HERE = Path(__file__).parent
RUNS = Path("runs/prompts")
PAGE = HERE.parent / "prompts.md"
RECIPES = ("no-memory", "memory")
METRICS = {"A_AUC": "a_auc", "A_avg": "a_avg", "A_last": "a_last", "F_last": "f_last"}
MAIN = ("mvp", "l2p", "dualprompt", "linear-probe", "ncm", "slda", "ranpac")


def differences(recipe: str, metric: str) -> list[str]:
    """The recipe's first row (MVP) minus each other, paired by seed."""
    folder = RUNS / recipe
    first, *others = rows(folder) or ["not run"]
    return difference_table((folder, first), [(folder, row) for row in others], metric)


def page() -> str:
    free, kept = (RUNS / recipe for recipe in RECIPES)
    curves = accuracy_curves(
        {row: (free, row) for row in MAIN},
        HERE / "curves.svg",
        "Si-Blurry on glyphs-100, glyph-vit frozen, no exemplars",
        "Accuracy over the stream, a line a strategy: the table above tells their means",
    )
    return "\n".join(
        [
            "# Prompts on a frozen transformer",
            "",
            "Made by `python docs/studies/prompts/study.py`; do not edit. Si-Blurry with its paper's numbers",
            "(N=50, M=10, T=5, batch 64, 3 updates, Adam at 0.005) on glyphs-100 with glyph-vit. Percent;",
            "means with a 95 % interval over seeds (Student's t). Recipes:",
            "[no-memory](prompts/no-memory.toml), [memory](prompts/memory.toml).",
            "",
            (HERE / "notes.md").read_text(encoding="utf-8"),
            "## Without exemplars",
            "",
            *metric_table([free], METRICS),
            "",
            *curves,
            "MVP beside every other row, its four parts among them; p corrected for all of them:",
            "",
            *differences("no-memory", "a_auc"),
            "",
            "## With 500 exemplars",
            "",
            *metric_table([kept], METRICS),
            "",
            *differences("memory", "a_auc"),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page")
    if not parser.parse_args().page:
        for recipe in RECIPES:
            run(HERE / f"{recipe}.toml", RUNS / recipe)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
