"""Comparisons: what budgets mean, which cells are run, what is refused, and what tuning may read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparing import SESSIONS, Listening, asking
from making import make_source, resolved

from streamlab.config import Budget
from streamlab.data.load import load_source
from streamlab.data.source import Source
from streamlab.data.validation import carved
from streamlab.errors import StreamlabError
from streamlab.experiments.budgets import need_of
from streamlab.experiments.grid import prepare_grid
from streamlab.experiments.held import read_request, read_runs, request_to_resume, tables_of
from streamlab.experiments.layout import hold, left_out, settle, write_experiment
from streamlab.experiments.request import ANY, Request, read_recipe
from streamlab.experiments.run import run_experiment
from streamlab.experiments.tuning import plan_trials
from streamlab.plans.stream import StreamPlan
from streamlab.runs.folder import RunFolder
from streamlab.strategy import Batch, Strategy

COMMAND = str(Path(sys.executable).parent / "streamlab")


class Idle(Strategy):
    """Learns nothing, and is no plugin."""

    def observe(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {}


def compare(request: Request, out: Path, source: Source) -> list[str]:
    """Run it; returns what was told of runs that are made anew."""
    told: list[str] = []
    assert run_experiment(request, out, lambda grid, title: Listening(grid), told.append, {"tiny": source})
    return told


# Budgets


@pytest.fixture(scope="module")
def cifar_like() -> Source:
    """100 classes of two 32x32 colour images: the survey's shapes without its pixels."""
    draws = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 2)
    images = draws.integers(0, 256, (200, 3, 32, 32)).astype(np.uint8)
    return Source("cifar-like", tuple(map(str, range(100))), images, labels, images[:100], labels[:100])


def test_the_surveys_accounting_gives_the_surveys_figures(cifar_like: Source) -> None:
    """ResNet-32: 463,504 parameters, worth 603 exemplars; B0 Inc10 costs 7.6 to 23.5 MB with 2,000 of them."""
    settings = {"scenario": {"kind": "sessions", "tasks": 10}, "backbone": {"name": "resnet32"}}
    rows = ("icarl", "expandable-der", "memo", "foster", "wa", "bic", "er")
    given = {"scenario": "class-incremental", "settings": settings, "device": "cpu", "accounting": "survey"}
    grid = resolved(cifar_like, *rows, **given)
    needs = {cell.spec.label: need_of(cell.block.prepared, cell.spec) for cell in grid.cells}
    megabytes = {label: (own.most_bytes + 2000 * own.exemplar_bytes) / 2**20 for label, own in needs.items()}
    one = needs["er"]
    assert one.parameters == 463_504
    assert (one.most_bytes, one.exemplar_bytes, one.most_bytes // one.exemplar_bytes) == (
        463_504 * 4,
        3072,
        603,
    )
    for label in ("er", "icarl", "wa", "bic"):  # one network at rest, no teacher
        assert round(megabytes[label], 1) == 7.6
    assert (
        round(megabytes["foster"], 1) == 9.4
    )  # both that are judged; the survey counts the compressed one, 7.6
    assert round(megabytes["expandable-der"], 1) == 23.5
    assert 19.5 < megabytes["memo"] < 19.9
    aligned = Budget(bytes=needs["expandable-der"].most_bytes + 2000 * 3072, accounting="survey")
    assert needs["expandable-der"].buys(aligned)[1] == 2000
    assert one.buys(aligned) == (7431, 7431)


def test_held_counts_what_the_survey_does_not(cifar_like: Source) -> None:
    settings = {"scenario": {"kind": "sessions", "tasks": 10}, "backbone": {"name": "resnet32"}}
    given = {"scenario": "class-incremental", "device": "cpu", "settings": settings}
    cells = resolved(cifar_like, "icarl", "er", **given).cells
    icarl, er = (need_of(cell.block.prepared, cell.spec) for cell in cells)
    assert (
        icarl.most_bytes - er.most_bytes > 463_504 * 4
    )  # the teacher, whose normalisation has statistics beside
    assert er.exemplar_bytes == 3072 + 8


def test_budgets_as_needs(tiny: Source) -> None:
    request = asking(budgets=("40kB", "model+300ex", "expandable-der", "expandable-der+100ex", "70ex"))
    grid = prepare_grid(request, {"tiny": tiny})
    at = grid.budgets["class-incremental"]
    er, der = (need_of(grid.blocks[0].prepared, spec) for spec in grid.blocks[0].specs[:2])
    assert at["40kB"].bytes == 40000
    assert at["model+300ex"].bytes == er.most_bytes + 300 * er.exemplar_bytes
    assert (
        at["expandable-der"].bytes == der.most_bytes + 6 * der.exemplar_bytes
    )  # one of each class, which it must have
    assert at["expandable-der+100ex"].bytes == der.most_bytes + 100 * der.exemplar_bytes
    assert at["70ex"] == Budget(exemplars=70)
    rows = ("er", "expandable-der:backbone.width=4", "er:selection=herding")
    budgets = ("expandable-der+200ex", "er selection=herding+900ex")
    named = prepare_grid(asking(strategies=rows, budgets=budgets), {"tiny": tiny}).budgets[
        "class-incremental"
    ]
    assert (
        named["expandable-der+200ex"].bytes < der.most_bytes + 200 * der.exemplar_bytes
    )  # the row's is a smaller one
    assert named["er selection=herding+900ex"].bytes == er.most_bytes + 900 * er.exemplar_bytes
    with pytest.raises(StreamlabError, match="the budget er means one of several rows; name it whole"):
        prepare_grid(asking(strategies=("er:replay_size=5", *rows[1:]), budgets=("er",)), {"tiny": tiny})


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"budgets": ("2kB",)}, r"^er: it needs 3\.\d KiB for its own state, which the budget of 2.0 KiB does not hold"),
        ({"budgets": ("5kB",)}, r"^expandable-der: it needs .* KiB .*; --smaller names smaller networks$"),
        ({"budgets": ("4kB",), "smaller": ("convnet:width=6,blocks=2",)}, "nor does any of the smaller networks"),
        ({"budgets": ("expandable",)}, r"budget 'expandable' is not understood; .* as model\+500ex; did you mean 'expandable-der'"),
        ({"seeds": 1}, "one seed has no interval; ask for --seeds 2 or more, or say --no-intervals"),
        ({"budgets": ("9kB", "9kB")}, "9kB is among the budgets twice"),
        ({"scenarios": ("class-incremental", "class-incremental")}, "two scenarios are labelled 'class-incremental'"),
        ({"scenarios": ({"tasks": 2},)}, "a table of scenarios has no name"),
        (
            {
                "scenarios": ({"name": "episodes", "way": 2, "train_way": 2, "query": 3, "train_classes": 2, "validation_classes": 2,
                    "test_classes": 2},),
                "strategies": ("protonet",),
                "settings": {},
            },
            "episodes have no budgets",
        ),
        ({"scenarios": ({"name": "class-incremental", "taks": 2},)}, "unknown option of class-incremental 'taks'"),
        ({"scenarios": ({"name": "class-incremental", "label": ".."},)}, "cannot be labelled '..'"),
        ({"scenarios": ({"name": "class-incremental", "label": "tuning"},)}, "cannot be labelled 'tuning'"),
        (
            {"scenarios": ({"name": "class-incremental", "label": "a b"}, {"name": "class-incremental", "label": "a_b"})},
            "would lie in one folder, a_b/",
        ),
    ],
)  # fmt: skip
def test_refusals(tiny: Source, others: dict[str, Any], said: str) -> None:
    with pytest.raises(StreamlabError, match=said):
        prepare_grid(asking(**others), {"tiny": tiny})


def test_a_smaller_network_stands_in_where_the_own_does_not_fit(tiny: Source) -> None:
    smaller = ("convnet:width=6,blocks=2", "convnet:width=4,blocks=2")
    grid = prepare_grid(asking(budgets=("8kB", "40kB"), smaller=smaller), {"tiny": tiny})
    used = {
        (block.budget, spec.label): spec.backbone["width"] for block in grid.blocks for spec in block.specs
    }
    assert used[("40kB", "er")] == used[("40kB", "expandable-der")] == used[("8kB", "er")] == 8
    assert int(used[("8kB", "expandable-der")]) < 8
    other = prepare_grid(asking(budgets=("8kB",), smaller=("mlp:widths=4",)), {"tiny": tiny})
    named = {spec.label: spec.backbone for spec in other.blocks[0].specs}
    assert named["expandable-der"] == {
        "name": "mlp",
        "widths": (4,),
        "norm": "none",
    }  # and no width of a ConvNet


def test_what_keeps_no_exemplars_is_run_once_for_all_budgets(tiny: Source) -> None:
    grid = prepare_grid(asking(strategies=("er", "finetune", "joint")), {"tiny": tiny})
    by_block = {block.budget: {spec.label for spec in block.specs} for block in grid.blocks}
    assert by_block == {ANY: {"finetune", "joint"}, "12kB": {"er"}, "40kB": {"er"}}


def test_avalanches_memory_is_bought_by_each_budget(tiny: Source) -> None:
    pytest.importorskip("avalanche")
    names = ("avalanche:Replay", "avalanche:Naive")
    grid = prepare_grid(asking(strategies=names), {"tiny": tiny})
    by_block = {block.budget: {spec.label for spec in block.specs} for block in grid.blocks}
    assert by_block == {ANY: {"avalanche:Naive"}, "12kB": {"avalanche:Replay"}, "40kB": {"avalanche:Replay"}}


def test_what_a_command_does_not_name_leaves_the_report_and_is_said(tiny: Source, tmp_path: Path) -> None:
    compare(asking(), tmp_path, tiny)
    (told,) = compare(asking(strategies=("er",), budgets=("40kB",)), tmp_path, tiny)
    other = prepare_grid(asking(scenarios=({"name": "class-incremental", "label": "other"},)), {"tiny": tiny})
    assert any(
        "also holds class-incremental, not asked for now" in line for line in left_out(other, tmp_path)
    )
    assert (
        told
        == f"{tmp_path} also holds expandable-der, the budget 12kB, not asked for now: left out of its tables"
    )
    (tmp_path / "file").write_text("x")
    with pytest.raises(StreamlabError, match="file is a file, and an experiment needs a folder"):
        compare(asking(), tmp_path / "file", tiny)
    tables = tables_of(read_runs(tmp_path))
    assert list(tables) == [("class-incremental", "40kB")]
    assert [run.label for run in tables["class-incremental", "40kB"]] == ["er", "er"]
    assert read_runs(tmp_path / "class-incremental" / "40kB")[0].path.is_dir()


def test_a_command_that_finds_the_folder_in_use_moves_nothing(tiny: Source, tmp_path: Path) -> None:
    compare(asking(strategies=("er",), budgets=("40kB",)), tmp_path, tiny)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    asked = read_request(tmp_path)
    with hold(tmp_path), pytest.raises(StreamlabError, match="is in use by another streamlab command"):
        compare(asking(strategies=("er",), settings={**SESSIONS, "stream": {"epochs": 2}}), tmp_path, tiny)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
    assert read_request(tmp_path) == asked


def test_a_class_made_in_memory_is_missed_where_it_is_not_there(tiny: Source, tmp_path: Path) -> None:
    grid = prepare_grid(asking(strategies=("er",)), {"tiny": tiny}, (Idle,))
    write_experiment(grid, tmp_path)
    with pytest.raises(
        StreamlabError, match=r"holds runs of Idle, made in memory; go on .* streamlab\.run\("
    ):
        request_to_resume(tmp_path)
    (told,) = left_out(prepare_grid(asking(strategies=("er",)), {"tiny": tiny}), tmp_path)
    assert "also holds Idle, not asked for now" in told


def test_a_comparison_is_gone_on_with_from_another_folder(tiny: Source, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from streamlab import Strategy\n\n\nclass Mine(Strategy):\n    pass\n")
    with contextlib.chdir(tmp_path):
        grid = prepare_grid(asking(strategies=("./mine.py:optimizer.lr=0.1",)), {"tiny": tiny})
        write_experiment(grid, tmp_path)
    asked = read_request(tmp_path)
    assert asked.strategies == (f"{tmp_path.resolve()}/mine.py:optimizer.lr=0.1",)
    assert [spec.label for spec in prepare_grid(asked, {"tiny": tiny}).blocks[0].specs] == [
        "mine optimizer.lr=0.1"
    ] * 2


def test_a_kill_before_run_json_spoils_no_cell(tiny: Source, tmp_path: Path) -> None:
    three, two = (
        prepare_grid(
            asking(settings={**SESSIONS, "scenario": {"kind": "sessions", "tasks": tasks}}), {"tiny": tiny}
        )
        for tasks in (3, 2)
    )
    settle(three, tmp_path)
    for path in tmp_path.rglob("run.json"):
        path.unlink()
    settle(two, tmp_path)
    for cell in two.cells:
        held = StreamPlan.load(tmp_path / cell.folder / "plan.safetensors")
        assert held.fingerprint == cell.spec.plan_fingerprint


def test_a_recipe_names_one_scenario_or_several_and_one_budget_or_several(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('scenario = "si-blurry"\nbudget = "2MiB"\n')
    assert read_recipe(path) == {"scenarios": ("si-blurry",), "budgets": ("2MiB",), "settings": {}}
    path.write_text('scenario = "si-blurry"\nscenarios = ["permuted"]\n')
    with pytest.raises(StreamlabError, match=r"it has scenario and scenarios; give one of them"):
        read_recipe(path)
    path.write_text("stream = 3\n")
    with pytest.raises(StreamlabError, match=r"recipe run\.toml: stream is 3, and must be a section$"):
        read_recipe(path)


# Cells


def test_a_cell_that_is_done_is_not_run_again_unless_it_would_differ(tiny: Source, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from streamlab import Strategy\n\n\nclass Mine(Strategy):\n"
        "    def setup(self):\n        self.buffer = self.make_buffer()\n\n"
        "    def losses(self, batch):\n        return {'task': self.net(batch.images).square().mean()}\n"
    )
    out = tmp_path / "out"
    request = asking(strategies=("er", str(plugin)), budgets=("12kB",))
    assert compare(request, out, tiny) == []
    made = {path: path.stat().st_mtime_ns for path in out.glob("class-incremental/**/result.json")}
    assert len(made) == 4
    wider = dataclasses.replace(request, seeds=3, budgets=("12kB", "40kB"))
    assert compare(wider, out, tiny) == []
    assert len(list(out.glob("class-incremental/**/result.json"))) == 12
    assert all(path.stat().st_mtime_ns == then for path, then in made.items())

    plugin.write_text(plugin.read_text().replace("square", "abs"))
    told = compare(wider, out, tiny)
    assert len(told) == 6
    assert all(line.endswith("is run again: strategy's source changed") and "mine" in line for line in told)
    assert len(list(out.glob("superseded/**/result.json"))) == 6
    changed = [path for path, then in made.items() if path.stat().st_mtime_ns != then]
    assert {path.parent.parent.name for path in changed} == {"mine"}
    assert read_request(out) == wider


def test_a_failed_cell_is_tried_again_and_its_neighbours_finish(tiny: Source, tmp_path: Path) -> None:
    plugin, out = tmp_path / "odd.py", tmp_path / "out"
    plugin.write_text(
        "from streamlab import Strategy\n\n\nclass Odd(Strategy):\n"
        "    def losses(self, batch):\n        raise ValueError('not today')\n"
    )
    request = asking(strategies=("er", str(plugin)), budgets=("12kB",))
    assert not run_experiment(request, out, lambda grid, title: Listening(grid), print, {"tiny": tiny})
    states = {path.parent.parent.name for path in out.glob("class-incremental/**/result.json")}
    assert states == {"er"}
    failed = RunFolder(out / "class-incremental" / "12kB" / "odd" / "seed-0")
    assert "odd: raised ValueError: not today" in str(failed.failure)


@pytest.mark.slow
def test_a_grid_that_was_killed_goes_on_where_it_was(tiny_data: Path, tmp_path: Path) -> None:
    """Killed with its workers in mid-run, thrice; the cells that were done keep their bits."""
    out, recipe = tmp_path / "out", tmp_path / "grid.toml"
    recipe.write_text(
        'scenarios = ["si-blurry"]\nsource = "fashion-mnist"\nstrategies = ["er", "finetune"]\n'
        f'budgets = ["1MiB", "2MiB"]\nseeds = 2\neval_every = 500\nworkers = 2\ndata = "{tiny_data}"\n'
    )
    command, kills = [COMMAND, "compare", str(recipe), "--out", str(out)], 0
    done: dict[Path, bytes] = {}
    for wanted in (1, 2, 4):
        child = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while child.poll() is None and len(list(out.glob("si-blurry/**/result.json"))) < wanted:
            time.sleep(0.02)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            kills += 1
        child.wait()
        command = [COMMAND, "resume", str(out)]
        for path, content in done.items():
            assert path.read_bytes() == content
        done = {path: path.read_bytes() for path in out.glob("si-blurry/**/result.json")}
    assert kills >= 2
    last = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert last.returncode == 0, last.stderr
    assert len(list(out.glob("si-blurry/**/result.json"))) == 6
    whole = tmp_path / "whole"
    subprocess.run(
        [COMMAND, "compare", str(recipe), "--out", str(whole)], capture_output=True, check=True, timeout=120
    )
    for path in out.glob("si-blurry/**/result.json"):
        own, other = (json.loads((root / path.relative_to(out)).read_text()) for root in (out, whole))
        assert own["metrics"] == other["metrics"]
    assert (out / "report.html").exists()


# Tuning


def test_validation_images_are_carved_from_the_training_split_alone(tiny: Source) -> None:
    own = carved(tiny)
    assert len(own.train_images) + len(own.test_images) == len(tiny.train_images)
    pixels = {image.tobytes() for image in tiny.train_images}
    assert {image.tobytes() for image in own.test_images} <= pixels
    assert not {image.tobytes() for image in own.test_images} & {
        image.tobytes() for image in own.train_images
    }
    assert np.bincount(own.test_labels).tolist() == [8] * 6
    np.testing.assert_array_equal(own.test_images, carved(tiny).test_images)
    named = load_source("validation:glyphs-100")
    assert (len(named.train_images), len(named.test_images)) == (16_000, 4_000)


def test_tuning_gives_all_the_same_trials_on_images_apart_and_the_report_says_so(
    tiny: Source, tmp_path: Path
) -> None:
    sources = {"tiny": tiny, "validation:tiny": carved(tiny)}
    request = asking(
        strategies=("er", "wa", "er:selection=herding,optimizer.lr=0.1"), budgets=("12kB",), tune=3
    )
    out = tmp_path / "out"
    assert run_experiment(request, out, lambda grid, title: Listening(grid), print, sources)
    chosen = json.loads((out / "tuning" / "chosen.json").read_text())
    assert [len(own["trials"]) for own in chosen] == [3, 3, 3]
    assert all(own["trials"][0]["parameters"] == {} for own in chosen)
    assert set(chosen[1]["trials"][1]["parameters"]) == {"optimizer.lr", "temperature"}
    assert chosen[2]["trials"][1]["parameters"] == {}  # the user has set all that is searched
    for own in chosen:
        scores = [trial["score"] for trial in own["trials"]]
        assert own["chosen"] == own["trials"][scores.index(max(scores))]["parameters"]
    trials = [RunFolder(path.parent).spec for path in out.glob("tuning/**/run.json")]
    reported = [RunFolder(path.parent).spec for path in out.glob("class-incremental/**/run.json")]
    assert {spec.source for spec in trials} == {"validation:tiny"}
    assert not {spec.plan_seed for spec in trials} & {spec.plan_seed for spec in reported}
    best = chosen[0]["chosen"].get("optimizer.lr")
    if best is not None:
        assert {s.optimizer.lr for s in reported if s.label == "er"} == {best}
    before = sorted(path.stat().st_mtime_ns for path in out.glob("tuning/**/result.json"))
    assert run_experiment(request, out, lambda grid, title: Listening(grid), print, sources)
    assert sorted(path.stat().st_mtime_ns for path in out.glob("tuning/**/result.json")) == before


def test_trials_keep_what_the_user_set_at_the_middle_budget_and_on_plans_of_their_own(tiny: Source) -> None:
    sources = {"tiny": tiny, "validation:tiny": carved(tiny)}
    given = {**SESSIONS, "optimizer": {"name": "adam"}, "wa": {"optimizer": {"lr": 0.01}}}
    request = asking(
        strategies=("er", "wa"), budgets=("40kB", "12kB", "20kB"), tune=2, plan_seed=0, settings=given
    )
    (trials,) = plan_trials(prepare_grid(request, sources, (Idle,)), sources, (Idle,))
    assert trials.budget == "20kB"
    assert {label: set(tried[1]) for label, tried in trials.tried.items()} == {
        "er": {"optimizer.lr"}, "wa": {"temperature"}, "Idle": {"optimizer.lr"},
    }  # fmt: skip
    specs = [spec for block in trials.blocks for spec in block.specs]
    assert {spec.plan_seed for spec in specs} == {1000}
    assert {spec.optimizer.name for spec in specs} == {"adam"}


def test_settling_twice_changes_nothing(tiny: Source, tmp_path: Path) -> None:
    grid = prepare_grid(asking(), {"tiny": tiny})
    assert settle(grid, tmp_path) == settle(grid, tmp_path) == []
    assert len({cell.folder for cell in grid.cells}) == len(grid.cells) == 8


def test_no_engine_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, streamlab.experiments.run, streamlab.report, streamlab.cli.watch; "
        "print([m for m in ('ray', 'matplotlib', 'jinja2') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_a_source_of_few_images_cannot_be_carved() -> None:
    with pytest.raises(StreamlabError, match="has one image, and needs two to hold one out"):
        carved(make_source(train=1))


def test_a_budget_does_not_depend_on_the_order_of_rows(tiny: Source) -> None:
    """`model`, and a strategy that is no row, have the network that was asked of all, and no row's own."""

    def budgets(*strategies: str, budget: str = "model+6000ex", **settings: Any) -> set[Budget]:
        asked = asking(strategies=strategies, budgets=(budget,), settings={**SESSIONS, **settings})
        return {spec.budget for block in prepare_grid(asked, {"tiny": tiny}).blocks for spec in block.specs}

    convnet = {"backbone": {"name": "convnet", "blocks": 2, "width": 8}}
    assert budgets("memo", "er", **convnet) == budgets("er", "memo", **convnet)
    own = "er:backbone.name=convnet,backbone.width=4,backbone.blocks=2"
    for name in ("model+6000ex", "icarl+6000ex"):
        assert budgets(own, "wa", budget=name) == budgets("wa", own, budget=name)


def test_rows_of_one_strategy_with_other_networks_have_needs_of_their_own(tiny: Source) -> None:
    small, large = "er:backbone.name=mlp,backbone.widths=4", "er:backbone.name=mlp,backbone.widths=4000"
    for strategies in ((small, large), (large, small)):
        with pytest.raises(StreamlabError, match=r"widths=4000: it needs .* for its own state"):
            prepare_grid(asking(strategies=strategies, budgets=("100kB",)), {"tiny": tiny})


def test_trials_on_a_stream_without_a_regular_point_are_judged_at_task_ends(tiny: Source) -> None:
    for every, metric in ((60, "a_auc"), (1000, "a_avg")):
        request = Request(source="tiny", strategies=("er",), tune=2, eval_every=every)
        (trials,) = plan_trials(prepare_grid(request, {"tiny": tiny}), {"tiny": tiny})
        assert trials.metric == metric


def test_a_recipe_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    recipe = tmp_path / "theirs.toml"
    recipe.write_bytes(b"\xef\xbb\xbfseeds = 2\r\n")
    assert read_recipe(recipe)["seeds"] == 2
