"""Runs the recipe beside this file and writes docs/studies/avalanche.md.

    python docs/studies/avalanche/study.py

A few minutes on two cores; what is done is not run again (runs/avalanche), and a killed study goes on where
it was. `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))
from results import metric_table, percent, run, values

from streamlab.data.load import load_source
from streamlab.data.source import open_shared, share
from streamlab.evaluation.intervals import holm, paired_differences
from streamlab.experiments.grid import prepare_grid
from streamlab.experiments.request import Request, read_recipe
from streamlab.simulator.assembly import build
from streamlab.simulator.execute import deterministic, drive

HERE = Path(__file__).parent
RUNS = Path("runs/avalanche")
PAGE = HERE.parent / "avalanche.md"
RECIPE = HERE / "sessions.toml"
UNMIRRORED = "avalanche:ICaRL fixed_memory=true,optimizer.lr=1.0, not mirrored"
METRICS = {"A_avg, %": "a_avg", "A_last, %": "a_last", "forgetting, %": "average_forgetting"}
PAIRS = [
    ("finetune", "avalanche:Naive"),
    ("er selection=herding,replay_size=32", "avalanche:Replay"),
    ("er selection=balanced,replay_size=32", "avalanche:Replay"),
    ("ewc strength=50,fisher=empirical", "avalanche:EWC ewc_lambda=50"),
    ("ewc strength=1.5,fisher=empirical", "avalanche:EWC ewc_lambda=50"),
    ("lwf weight=1,heads=shared", "avalanche:LwF alpha=1.0,temperature=2.0"),
    ("icarl replay_size=0", "avalanche:ICaRL fixed_memory=true"),
    ("icarl replay_size=0", "avalanche:ICaRL fixed_memory=true,optimizer.lr=1.0"),
    ("icarl replay_size=0", UNMIRRORED),
]


def run_unmirrored(path: Path) -> None:
    """Their iCaRL with the mirrored half of its class means left out: A_last by seed, as JSON."""
    import avalanche.training.supervised.icarl as theirs
    import torch

    fields = read_recipe(RECIPE)
    request = Request(**{**fields, "strategies": ("avalanche:ICaRL:fixed_memory=true,optimizer.lr=1.0",)})
    source = load_source(request.source)
    grid = prepare_grid(request, {source.name: source})
    shared = open_shared(share(source))
    plain = mock.Mock(wraps=torch)
    plain.flip = lambda images, dims: images
    found: dict[str, float] = {}
    for cell in grid.cells:
        with deterministic(), mock.patch.object(theirs, "torch", plain):
            made: Any = build(cell.spec, cell.plan, shared, lambda event: None, None)
            drive(made)
        found[str(cell.spec.seed)] = made.record().at_task_ends[-1].accuracy
    path.write_text(json.dumps(found), encoding="utf-8")


def last(row: str) -> dict[int, float]:
    """A_last of a row by seed."""
    path = RUNS / "unmirrored.json"
    if row == UNMIRRORED:
        return {int(k): v for k, v in json.loads(path.read_text()).items()} if path.exists() else {}
    return values(RUNS / "sessions", row, "a_last")


def differences() -> list[str]:
    """Ours minus theirs in points of A_last, paired by seed, p corrected as Holm does."""
    lines = [
        "| ours | theirs | ours minus theirs, points | n | p (Holm) | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    found = {pair: paired_differences(last(pair[0]), {pair[1]: last(pair[1])}) for pair in PAIRS}

    p_values = {str(pair): own[pair[1]].p for pair, own in found.items() if own}
    corrected = holm(p_values)
    for pair, own in found.items():
        if own:
            shown, p = own[pair[1]].interval, corrected[str(pair)]
            verdict = "not told apart" if p >= 0.05 else "above" if shown.mean > 0 else "below"
            cells = (f"`{pair[0]}`", f"`{pair[1]}`", percent(shown, "+"), str(shown.n), f"{p:.3f}", verdict)
            lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Ours and Avalanche's of the same name",
            "",
            "Made by `python docs/studies/avalanche/study.py`; do not edit. One recipe",
            "([sessions](avalanche/sessions.toml)), one live table: theirs run through the",
            "[bridge](../migrating.md), on the same plans and under our evaluator.",
            "",
            (HERE / "notes.md").read_text(encoding="utf-8"),
            "## Differences",
            "",
            *differences(),
            "## All rows",
            "",
            *metric_table([RUNS / "sessions"], METRICS),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page")
    if not parser.parse_args().page:
        run(RECIPE, RUNS / "sessions")
        if not (RUNS / "unmirrored.json").exists():
            run_unmirrored(RUNS / "unmirrored.json")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
