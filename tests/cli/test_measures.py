"""What is measured of finished runs, where rows belong together."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

import streamlab
from streamlab.cli.main import app
from streamlab.data.source import Source


def test_intransigence_is_against_the_joint_run_of_the_same_seed(tiny: Source, tmp_path: Path) -> None:
    settings = {"scenario": {"tasks": 3}}
    experiment = streamlab.run(
        "class-incremental", tiny, ["finetune", "joint"], seeds=2, workers=0, out=tmp_path / "out", show=False,
        settings=settings,
    )  # fmt: skip
    gaps = []
    for seed in range(2):
        matrix = np.array(experiment.runs[2 * seed].result["accuracy_matrix"], float)
        ceiling = experiment.runs[2 * seed + 1].record
        plan = experiment.runs[2 * seed].record.plan
        own = [np.isin(ceiling.evaluations[-1].test_indices, e.test_indices) for e in plan.experiences]
        joint = np.array([ceiling.evaluations[-1].correct[mask].mean() for mask in own])
        gaps.append(float((joint - np.diag(matrix)).mean()))
    shown = (
        CliRunner()
        .invoke(app, ["runs", "metrics", str(tmp_path / "out"), "--metric", "intransigence"])
        .output
    )
    assert re.search(rf"^intransigence +{100 * np.mean(gaps):.1f} ", shown, re.MULTILINE), shown
    assert "intransigence is against joint, seed by seed" in shown
