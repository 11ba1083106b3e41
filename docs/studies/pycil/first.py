"""Ours and PyCIL's first session alone, at sixty seeds: writes docs/studies/pycil-first.md.

    python docs/studies/pycil/theirs.py CHECKOUT --classes 2 --methods finetune --seeds 60 \\
        --keep docs/studies/pycil/first.json
    python docs/studies/pycil/first.py

About fifteen minutes each on two cores. What is done is not run again (runs/pycil-first). The recipe is the
study's; the images are those of its first two classes. `--page` only writes the page.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import ttest_ind

sys.path.insert(0, str(Path(__file__).parents[1]))
from images import arrays
from results import complete_runs, percent, run
from theirs import COUNT, TESTED

from streamlab.evaluation.intervals import interval

HERE, RUNS, SEEDS = Path(__file__).parent, Path("runs/pycil-first"), 60


def main() -> None:
    images = (RUNS / "images.npz").resolve()
    if "--page" not in sys.argv:
        images.parent.mkdir(parents=True, exist_ok=True)
        np.savez(images, **arrays(COUNT, TESTED, classes=2))
        given = "--strategy", "finetune", "--seeds", str(SEEDS), "--source", f"npz:{images}"
        run(HERE / "sessions.toml", RUNS / "ours", *given)
    kept = json.loads((HERE / "first.json").read_text(encoding="utf-8"))
    ours = [one.record.at_task_ends[0].accuracy for one in complete_runs(RUNS / "ours", "finetune")]
    theirs = [one["network"][0] / 100 for one in kept["runs"]]
    pages = [
        "# PyCIL's first session, at sixty seeds",
        "",
        "Made by `python docs/studies/pycil/first.py`; do not edit. The first session of",
        f"[the study](pycil.md) alone, ours beside PyCIL's (commit {kept['commit'][:7]}):",
        "finetune, two classes, accuracy in percent, mean ± 95 % over seeds.",
        "",
        "| | accuracy | seeds |",
        "| --- | ---: | ---: |",
        *(
            f"| {name} | {percent(interval(found))} | {len(found)} |"
            for name, found in (("ours", ours), ("PyCIL", theirs))
        ),
        "",
        f"Welch's t test: p = {ttest_ind(ours, theirs, equal_var=False).pvalue:.2f}. A seed's deviation: "
        f"{100 * np.std(ours, ddof=1):.1f} points (ours), {100 * np.std(theirs, ddof=1):.1f} (PyCIL's).",
        "",
    ]
    (HERE.parent / "pycil-first.md").write_text("\n".join(pages), encoding="utf-8")


if __name__ == "__main__":
    main()
