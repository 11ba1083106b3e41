"""What trials of a tuning may see, by protocol, and that nothing of it is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import Listening, asking

from streamlab.cli.live import title_of
from streamlab.data.source import Source
from streamlab.data.validation import in_memory, shared_out
from streamlab.errors import StreamlabError
from streamlab.experiments.grid import Grid, prepare_grid
from streamlab.experiments.request import Request
from streamlab.experiments.run import run_experiment
from streamlab.experiments.tuning import plan_trials
from streamlab.planning import make_plan
from streamlab.plans.stream import StreamPlan
from streamlab.report.gather import gather
from streamlab.report.write import write_report


def asked(protocol: str, **given: Any) -> Request:
    return asking(strategies=("er",), budgets=("12kB",), tune=2, protocol=protocol, **given)


def both(source: Source, protocol: str, **given: Any) -> tuple[Grid, Any]:
    grid = prepare_grid(asked(protocol, **given), {"tiny": source})
    (trials,) = plan_trials(grid, {"tiny": source})
    return grid, trials


def images(source: Source, split: str) -> set[bytes]:
    return {image.tobytes() for image in getattr(source, f"{split}_images")}


def test_two_phases_share_no_image_and_no_class_order(tiny: Source) -> None:
    grid, trials = both(tiny, "two-phase")
    reported, trial = grid.cells[0], trials.blocks[0]
    tuning, evaluation = trial.prepared.source, reported.source
    assert (tuning.name, evaluation.name) == ("validation:tuning:tiny", "evaluation:tiny")
    seen = images(tuning, "train") | images(tuning, "test")
    assert not seen & (images(evaluation, "train") | images(evaluation, "test"))
    assert len(seen) + len(images(evaluation, "train")) == len(images(tiny, "train"))
    assert images(evaluation, "test") == images(tiny, "test")
    assert not {cell.spec.plan_seed for cell in grid.cells} & {spec.plan_seed for spec in trial.specs}


def test_shares_have_a_fifth_and_four_fifths_of_every_class(tiny: Source) -> None:
    small, large = shared_out(tiny)
    every = np.bincount(tiny.train_labels)
    np.testing.assert_array_equal(np.bincount(small.train_labels), np.round(every / 5))
    np.testing.assert_array_equal(np.bincount(large.train_labels), every - np.round(every / 5))
    assert in_memory("tuning:tiny", {"tiny": tiny}) is not None
    assert in_memory("tuning:other", {"tiny": tiny}) is None


def test_first_tasks_are_tuned_on_and_are_no_part_of_what_is_reported(tiny: Source) -> None:
    grid, trials = both(tiny, "first-tasks:1", plan_seed=0)
    whole = make_plan(
        "class-incremental", tiny.labels, 0, dict(grid.cells[0].spec.scenario_options) | {"part": ""}
    )
    (trial_plan,) = trials.blocks[0].prepared.plans.values()
    plan = grid.cells[0].plan
    assert isinstance(plan, StreamPlan)
    assert isinstance(whole, StreamPlan)
    for cut, experiences in ((trial_plan, whole.experiences[:1]), (plan, whole.experiences[1:])):
        for one, other in zip(cut.experiences, experiences, strict=True):
            np.testing.assert_array_equal(one.indices, other.indices)
    assert not set(tiny.train_labels[plan.stream]) & set(tiny.train_labels[trial_plan.stream])
    assert not set(plan.test_indices) & set(trial_plan.test_indices)


def test_an_oracle_is_tuned_on_what_is_reported(tiny: Source) -> None:
    grid, trials = both(tiny, "oracle")
    assert trials.blocks[0].specs[0].plan_fingerprint == grid.cells[0].spec.plan_fingerprint
    assert trials.blocks[0].prepared.source is grid.cells[0].source
    assert title_of(grid).endswith("seeds · tuned by an oracle")
    assert "oracle" not in title_of(both(tiny, "two-phase")[0])


def test_a_report_says_how_it_was_tuned_what_that_cost_and_marks_an_oracle(
    tiny: Source, tmp_path: Path
) -> None:
    run_experiment(asked("oracle"), tmp_path, lambda grid, title: Listening(grid), print, {"tiny": tiny})
    (row,) = json.loads((tmp_path / "tuning" / "chosen.json").read_text())
    scores = [trial["score"] for trial in row["trials"]]
    results = [json.loads(path.read_text()) for path in tmp_path.glob("tuning/*/**/result.json")]
    assert row["spread"] == max(scores) - min(scores)
    assert row["operations"] == sum(result["resources"]["flops"] for result in results) > 0
    page = write_report(gather([tmp_path]), tmp_path)[1].read_text()
    tables = (
        page.count("\n## ")
        - page.count("## Pictures")
        - page.count("## What was tuned")
        - page.count("## Prov")
    )
    assert page.count("Hyperparameters were chosen by an oracle") == tables > 0
    assert "no fair estimate" in page
    assert f"The trials took {row['operations']:.2g} operations" in page


def test_a_stream_is_cut_where_its_classes_part(tiny: Source) -> None:
    for options, sentence in (
        ({"tasks": 3, "part": "last:1"}, "part is 'last:1', and should be first:3 or after:3"),
        ({"tasks": 3, "part": "first:3"}, "has 3 experiences"),
        ({"tasks": 3, "part": "after:0"}, "has 3 experiences"),
    ):
        with pytest.raises(StreamlabError, match=sentence):
            make_plan("class-incremental", tiny.labels, 0, options)
    with pytest.raises(
        StreamlabError, match="classes of the first 2 experiences of si-blurry come again later"
    ):
        make_plan("si-blurry", tiny.labels, 0, {"part": "first:2"})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"protocol": "fair", "tune": 2}, "unknown protocol 'fair'"),
        ({"protocol": "oracle:2", "tune": 2}, "unknown protocol 'oracle:2'"),
        ({"protocol": "two-phase"}, "protocol two-phase says how to tune; ask for trials by --tune"),
        ({"protocol": "first-tasks:0", "tune": 2, "seeds": 1}, "should be first-tasks:3"),
        ({"protocol": "first-tasks", "tune": 2, "seeds": 2}, "give all seeds one stream by --plan-seed"),
    ],
)
def test_a_protocol_that_cannot_be_is_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StreamlabError, match=sentence):
        Request(**given)
