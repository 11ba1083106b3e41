"""Runs the recipes beside this file and writes docs/studies/few-shot.md.

    make data && python docs/studies/few-shot/study.py

About half an hour on two cores; what is done is not run again (runs/few-shot, and bases in the user's
cache), and a killed study goes on where it was. `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from results import complete_runs, difference_table, metric_table, rows, run, session_table, values

from streamlab.evaluation.few_shot import confusion

HERE = Path(__file__).parent
RUNS = Path("runs/few-shot")
PAGE = HERE.parent / "few-shot.md"
RECIPES = ("glyphs", "glyphs-one-pass", "calibration", "fashion-mnist")
METRICS = {
    "average": "a_avg",
    "last": "a_last",
    "drop": "performance_drop",
    "base": "base_accuracy",
    "novel": "novel_accuracy",
    "harmonic mean": "harmonic_mean",
    "novel only": "novel_only_accuracy",
    "novel as base": "novel_as_base",
    "base as novel": "base_as_novel",
}
HEAT = {"novel": "novel_accuracy", "base": "base_accuracy", "harmonic mean": "harmonic_mean"}


def paired(recipe: str, own: str, other: str) -> list[str]:
    """One row minus another, in novel, base and harmonic mean."""
    folder = RUNS / recipe
    lines = []
    for metric in HEAT.values():
        table = difference_table((folder, own), [(folder, other)], metric)
        lines += table if not lines else table[2:]
    head, body = lines[:2], lines[2:]
    named = [line.replace(f"`{other}`", f"`{other}`, {name}") for line, name in zip(body, HEAT, strict=False)]
    return [*head, *named]


def heat_maps(path: Path) -> list[str]:
    """TEEN's shift and softmax_t against novel and base accuracy and their harmonic mean; Markdown."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = {}
    for row in rows(RUNS / "calibration"):
        options = dict(part.split("=") for part in row.split(" ")[1].split(","))
        found[float(options["shift"]), float(options["softmax_t"])] = row
    if not found:
        return ["not run", ""]
    shifts, sharp = sorted({s for s, _ in found}), sorted({t for _, t in found})
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 4.2), layout="constrained")
    for axis, (name, metric) in zip(axes, HEAT.items(), strict=True):
        means = np.array(
            [
                [
                    100 * np.mean(list(values(RUNS / "calibration", found[s, t], metric).values()))
                    for t in sharp
                ]
                for s in shifts
            ]
        )
        axis.imshow(means, cmap="cividis", aspect="auto", interpolation="nearest")
        middle = (means.min() + means.max()) / 2
        for row, column in np.ndindex(means.shape):
            colour = "white" if means[row, column] < middle else "black"
            axis.text(
                column, row, f"{means[row, column]:.1f}", ha="center", va="center", color=colour, fontsize=7
            )
        axis.set_xticks(range(len(sharp)), [f"{t:g}" for t in sharp])
        axis.set_yticks(range(len(shifts)), [f"{s:g}" for s in shifts])
        axis.set_title(f"{name}, %", fontsize=10)
        axis.set_xlabel("softmax_t")
    axes[0].set_ylabel("shift")
    pyplot.rcParams["svg.hashsalt"] = "streamlab"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return [f"![TEEN's shift and softmax_t against novel and base accuracy]({HERE.name}/{path.name})", ""]


def confusion_pictures(path: Path) -> list[str]:
    """Mean confusion matrices of three rows beside one another; Markdown."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in ("proto-cosine", "teen", "fscil-finetune") if row in rows(RUNS / "glyphs")]
    if not shown:
        return ["not run", ""]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(10, 3.6), layout="constrained", squeeze=False)
    for axis, row in zip(axes[0], shown, strict=True):
        found = [confusion(run.record) for run in complete_runs(RUNS / "glyphs", row)]
        sizes = found[0][2]
        image = axis.imshow(
            100 * np.mean([shares for shares, _, _ in found], axis=0), cmap="magma_r", vmin=0, vmax=100
        )
        for edge in np.cumsum(sizes)[:-1]:
            axis.axhline(edge - 0.5, color="0.6", linewidth=0.4)
            axis.axvline(edge - 0.5, color="0.6", linewidth=0.4)
        axis.set_title(row, fontsize=10)
        axis.set_xticks([sizes[0] / 2], ["base"])
        axis.set_yticks([sizes[0] / 2], ["base"])
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of a class's images")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return [f"![Which class is taken for which, ordered by session]({HERE.name}/{path.name})", ""]


def page() -> str:
    glyphs, fashion = RUNS / "glyphs", RUNS / "fashion-mnist"
    vit = "backbone.name=glyph-vit"
    return "\n".join(
        [
            "# Few-shot sessions",
            "",
            "Made by `python docs/studies/few-shot/study.py`; do not edit. Percent; means with a 95 %",
            "interval over seeds (Student's t), every seed with its own class order, shots and base. After",
            "the last session, all classes competing unless said. Recipes: [glyphs](few-shot/glyphs.toml),",
            "[glyphs-one-pass](few-shot/glyphs-one-pass.toml) (`ncm` and `slda`, on glyph-vit),",
            "[calibration](few-shot/calibration.toml), [fashion-mnist](few-shot/fashion-mnist.toml).",
            "",
            (HERE / "notes.md").read_text(encoding="utf-8"),
            "## glyphs-100, 60 + 8 of 5-way 5-shot",
            "",
            *metric_table([glyphs, RUNS / "glyphs-one-pass"], METRICS),
            "",
            "Accuracy over all classes so far, session by session:",
            "",
            *session_table(glyphs),
            "",
            *confusion_pictures(HERE / "confusion.png"),
            "## Does calibration raise novel accuracy at little cost to base?",
            "",
            *paired("glyphs", "teen", "proto-cosine"),
            "",
            *paired("glyphs", f"teen {vit}", f"proto-cosine {vit}"),
            "",
            "## TEEN's two numbers",
            "",
            *heat_maps(HERE / "calibration.svg"),
            "## Fashion-MNIST, 4 + 3 of 2-way 5-shot",
            "",
            *metric_table([fashion], METRICS),
            "",
            *paired("fashion-mnist", "teen", "proto-cosine"),
            "",
            *paired("fashion-mnist", "teen shift=0.5", "proto-cosine"),
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
