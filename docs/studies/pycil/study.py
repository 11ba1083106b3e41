"""Runs the recipe beside this file and writes docs/studies/pycil.md: ours beside PyCIL's, on the same images.

    make data
    python docs/studies/pycil/study.py

About forty minutes on two cores; what is done is not run again (runs/pycil), and a killed study goes
on where it was. PyCIL's accuracies are in theirs.json, which theirs.py made by PyCIL's own code. `--page`
only writes the page, from what is complete.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from beside import Pair, Study

HERE = Path(__file__).parent
STUDY = Study(
    HERE, "sessions.toml", "PyCIL", "github.com/G-U-N/PyCIL", 200, 50,
    (
        Pair("finetune", "finetune", "network"), Pair("er", "replay", "network"),
        Pair("icarl", "icarl", "means"), Pair("wa", "wa", "network"), Pair("bic", "bic", "network"),
        Pair("bic", "bic-once", "network"),
        Pair("expandable-der", "der", "network"), Pair("foster", "foster", "network"),
        Pair("memo", "memo", "network"),
    ),
)  # fmt: skip

if __name__ == "__main__":
    if "--page" not in sys.argv:
        STUDY.run()
    HERE.with_suffix(".md").write_text(STUDY.page(), encoding="utf-8")
