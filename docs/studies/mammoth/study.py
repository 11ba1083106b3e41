"""Runs the recipe beside this file and writes docs/studies/mammoth.md: ours beside Mammoth's.

    make data
    python docs/studies/mammoth/study.py

About twenty minutes on two cores; what is done is not run again (runs/mammoth), and a killed study goes
on where it was. Mammoth's accuracies are in theirs.json, which theirs.py made by Mammoth's own code.
`--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from beside import Pair, Study

HERE = Path(__file__).parent
STUDY = Study(
    HERE, "online.toml", "Mammoth", "github.com/aimagelab/mammoth", 500, 100,
    (
        Pair("er", "er", "accuracies"), Pair("der++", "derpp", "accuracies"),
        Pair("er-ace", "er_ace", "accuracies"),
    ),
)  # fmt: skip

if __name__ == "__main__":
    if "--page" not in sys.argv:
        STUDY.run()
    HERE.with_suffix(".md").write_text(STUDY.page(), encoding="utf-8")
