"""Runs the recipe beside this file, a method and a setting at a time, and writes docs/studies/online.md.

    make data
    python docs/studies/online/study.py

Many hours on two cores; what is done is not run again (runs/online), and a killed study goes on where
it was. `--only SETTING` runs one of them, `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from images import arrays
from results import complete_runs, markdown, run

from streamlab.report.findings import findings
from streamlab.report.gather import gather
from streamlab.report.provenance import provenance_of
from streamlab.report.tables import tables_of

HERE, RUNS = Path(__file__).parent, Path("runs/online")
COUNT, TESTED, SEEDS = 500, 100, 3  # images of a class; seeds of the recipe
# Of each method what is not its own or the recipe's default. The rate and what is replayed are the online
# survey's (Mai et al., 2022), of der++, x-der, er-ace and cls-er Mammoth's, of clib its authors'.
METHODS = {
    "finetune": (), "er": (), "mir": (), "aser": (), "pcr": (),
    "er-ace": ("er-ace.optimizer.lr=0.03",),
    "der++": ("der++.optimizer.lr=0.03", "der++.alpha=0.1"),
    "x-der": ("x-der.optimizer.lr=0.03", "x-der.replay_size=10", "x-der.contrastive_size=10"),
    "cls-er": ("cls-er.optimizer.lr=0.03",),
    "agem": ("agem.reference_size=10",),
    "clib": ("clib.optimizer.lr=0.0003",),
    "gdumb": ("gdumb.passes=32",),
    "gss": (), "scr": (),
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


def of_setting(setting: str, title: str) -> list[str]:
    """A setting's part of the page, of the methods whose seeds are complete; nothing of fewer than two."""
    done = [folder(setting, method) for method in METHODS]
    done = [path for path in done if len(complete_runs(path)) == SEEDS]
    if len(done) < 2:
        return []
    gathered = gather(done)
    left = [method for method in METHODS if folder(setting, method) not in done]
    lines = [f"## {title[0].upper()}{title[1:]}", "", " ".join(findings(gathered)), ""]
    for table in tables_of(gathered):
        if table.key.startswith("main"):
            lines += markdown(table)
    lines += [f"Not run: {', '.join(f'`{method}`' for method in left)}.", ""] if left else []
    kept = ("packages", "machine", "device", "made")
    return [*lines, *(f"- {key}: {text}" for key, text in provenance_of(gathered) if key in kept), ""]


def page() -> str:
    """The whole page."""
    lines = [
        "# Online methods",
        "",
        "Made by `python docs/studies/online/study.py`; do not edit. The recipe:",
        "[online](online/online.toml); what a method has beside it stands in [study.py](online/study.py).",
        "Means with a 95 % interval over seeds (Student's t), every seed with a stream of its own; bold is",
        "the best, italic what is not told apart from it.",
        "",
        (HERE / "notes.md").read_text(encoding="utf-8"),
    ]
    missing = []
    for setting, (title, *_) in SETTINGS.items():
        part = of_setting(setting, title)
        lines += part
        missing += [] if part else [title]
    lines += [f"Not run: {'; '.join(missing)}."] if missing else []
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    if "--page" not in sys.argv:
        run_all(sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else "")
    HERE.with_suffix(".md").write_text(page(), encoding="utf-8")


def run_all(only: str) -> None:
    """Every method in every setting, or in this one alone."""
    images = (RUNS / "images.npz").resolve()
    if not images.exists():
        RUNS.mkdir(parents=True, exist_ok=True)
        np.savez(images, **arrays(COUNT, TESTED))
    for setting, (_, *options) in SETTINGS.items():
        for method, given in METHODS.items() if only in ("", setting) else ():
            named = ["--strategy", method, "--source", f"npz:{images}"]
            named += [part for option in given for part in ("--set", option)]
            run(HERE / "online.toml", folder(setting, method), *named, *options)


if __name__ == "__main__":
    main()
