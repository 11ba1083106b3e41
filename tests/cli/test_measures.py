"""What is measured of finished runs, where rows belong together."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from making import make_source
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


def test_a_matrix_of_many_tasks_shows_every_figure_and_is_json_too(tmp_path: Path) -> None:
    """30 tasks of a class are wider than 80 columns: columns that have no room follow below."""
    many = make_source(classes=30, train=4, test=3)
    (run,) = streamlab.run(
        "class-incremental", many, ["ncm"], seeds=1, workers=0, out=tmp_path, show=False,
        settings={"scenario": {"tasks": 30}},
    ).runs  # fmt: skip
    expected = 100 * np.array(run.result["accuracy_matrix"], float)
    shown = CliRunner().invoke(app, ["runs", "matrix", str(tmp_path)], env={"COLUMNS": "80"}).output
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    figures = sum(len(re.findall(r"\d+\.\d", line)) for line in lines if re.match(r" +\d+ ", line))
    assert figures == (~np.isnan(expected)).sum()
    (plain,) = json.loads(CliRunner().invoke(app, ["runs", "matrix", str(tmp_path), "--json"]).output)
    np.testing.assert_allclose(np.array(plain["accuracy_percent"], float), expected, atol=1e-4)
