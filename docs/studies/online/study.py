"""Runs the recipe beside this file, a method and a setting at a time, and writes docs/studies/online.md.

    make data
    python docs/studies/online/study.py

About eight hours on two cores; what is done is not run again (runs/online), and a killed study goes on where
it was. `--only SETTING` runs one of them, `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from images import arrays
from results import run

HERE, RUNS = Path(__file__).parent, Path("runs/online")
COUNT, TESTED = 500, 100  # images of a class
# Of each method what is not its own or the recipe's default. The rate and what is replayed are the online
# survey's (Mai et al., 2022), of der++, x-der, er-ace and cls-er Mammoth's, of clib its authors'.
METHODS = {
    "finetune": (), "er": (), "mir": (), "aser": (), "scr": (), "pcr": (),
    "er-ace": ("er-ace.optimizer.lr=0.03",),
    "der++": ("der++.optimizer.lr=0.03", "der++.alpha=0.1"),
    "x-der": ("x-der.optimizer.lr=0.03", "x-der.replay_size=10", "x-der.contrastive_size=10"),
    "cls-er": ("cls-er.optimizer.lr=0.03",),
    "agem": ("agem.reference_size=10",),
    "clib": ("clib.optimizer.lr=0.0003",),
    "gdumb": ("gdumb.passes=32",),
    "gss": (),
}  # fmt: skip
SETTINGS = {
    "500ex": ("500 exemplars", "--budget", "500ex"),
    "clock": (
        "500 exemplars, twice fine-tuning's operations", "--budget", "500ex", "--set", "clock.operations=2x",
    ),
    "bytes": ("the bytes of a network and 500 images", "--budget", "model+500ex"),
    "200ex": ("200 exemplars", "--budget", "200ex"),
    "1000ex": ("1,000 exemplars", "--budget", "1000ex"),
}  # fmt: skip


def folder(setting: str, method: str) -> Path:
    return RUNS / setting / method


def main() -> None:
    images = (RUNS / "images.npz").resolve()
    if not images.exists():
        RUNS.mkdir(parents=True, exist_ok=True)
        np.savez(images, **arrays(COUNT, TESTED))
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    for setting, (_, *options) in SETTINGS.items():
        for method, given in METHODS.items() if only in ("", setting) else ():
            named = ["--strategy", method, "--source", f"npz:{images}"]
            named += [part for option in given for part in ("--set", option)]
            run(HERE / "online.toml", folder(setting, method), *named, *options)


if __name__ == "__main__":
    main()
