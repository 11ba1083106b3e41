"""Reports: the numbers are those of the runs, unlike is not put beside like, and every form says the same."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import SESSIONS, Listening, asking
from hypothesis import given, settings
from hypothesis import strategies as st
from making import carry_on, laid_out, resolved

from streamlab.augmentation.pipelines import AugmentConfig
from streamlab.config import Budget, ComputeConfig, StreamConfig, parse_budget
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.evaluation.intervals import interval, t_quantile
from streamlab.experiments.grid import prepare_grid
from streamlab.experiments.held import read_request
from streamlab.experiments.request import Request, read_recipe
from streamlab.experiments.run import run_experiment
from streamlab.preprocess import PreprocessConfig
from streamlab.report.charts import pictures_of
from streamlab.report.findings import findings
from streamlab.report.gather import gather, within_budget
from streamlab.report.panel import Gathered, Panel, Result
from streamlab.report.statistics import (
    Ranks,
    against,
    areas,
    chi_squared_tail,
    nemenyi_quantile,
    rank_blocks,
    ranks,
    standings,
)
from streamlab.report.tables import main_table, tables_of
from streamlab.report.write import csv_of, latex_of, markdown_of, write_report
from streamlab.runs.seals import digest_of, read_sealed, write_sealed
from streamlab.runs.spec import RunSpec
from streamlab.training import BaseConfig, FirstConfig, OptimizerConfig


@pytest.fixture(scope="module")
def compared(tiny: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of four rows at three budgets with three seeds; one row fails with one seed."""
    out = tmp_path_factory.mktemp("report")
    plugin = out / "fragile.py"
    plugin.write_text(
        "import torch\nfrom streamlab import Strategy\n\n\nclass Fragile(Strategy):\n"
        "    def setup(self):\n        self.buffer = self.make_buffer()\n\n"
        "    def losses(self, batch):\n"
        "        if self.setting.seed == 1:\n            raise ValueError('seed one')\n"
        "        return {'task': torch.nn.functional.cross_entropy(self.net(batch.images), batch.labels)}\n"
    )
    request = asking(
        strategies=("er", "expandable-der", "finetune", str(plugin)),
        budgets=("12kB", "20kB", "40kB"),
        seeds=3,
    )
    run_experiment(request, out / "out", lambda grid, title: Listening(grid), print, {"tiny": tiny})
    return out / "out"


@pytest.fixture(scope="module")
def gathered(compared: Path) -> Gathered:
    return gather([compared])


def result_of(folder: str, row: str, budget: str, seed: int, value: float) -> Result:
    spec = RunSpec(
        scenario="s", source="s", strategy=row, label=row, seed=seed, plan_seed=seed, budget=parse_budget(budget),
        eval_every=1000, device="cpu", source_digest="", plan_fingerprint=str(seed), ceiling=False, record=(),
        data="", scenario_options={}, stream=StreamConfig(), backbone={}, optimizer=OptimizerConfig(),
        strategy_options={}, first=FirstConfig(), augment=AugmentConfig(), preprocess=PreprocessConfig(), compute=ComputeConfig(), base=BaseConfig(),
    )  # fmt: skip
    cost = {"flops": 1e12, "train_seconds": 1.0}
    return Result(folder, spec, "complete", "", {"a_avg": value, "a_last": value}, cost)


def made_up(
    values: dict[str, dict[str, list[float]]], bytes_of: dict[str, int], label: str = "made up"
) -> Panel:
    """A panel of rows whose A_avg (and A_last) at each budget are these, seed by seed."""
    results = {}
    for row, by_budget in values.items():
        for budget, own in by_budget.items():
            results[budget, row] = tuple(
                result_of(f"{label}/{budget}/{row}/{seed}", row, budget, seed, value)
                for seed, value in enumerate(own)
            )
    return Panel(label, tuple(bytes_of), bytes_of, results)


def test_the_table_is_what_the_runs_say(gathered: Gathered, compared: Path) -> None:
    panel = gathered.panels[0]
    table = main_table(gathered, panel, "20kB")
    rows = {row[0].text: row for row in table.rows}
    assert list(rows) == ["er", "expandable-der", "finetune", "fragile (n=2)"]
    values = [
        json.loads(path.read_text())["metrics"]["a_avg"]
        for path in sorted((compared / "class-incremental" / "20kB" / "er").glob("*/result.json"))
    ]
    shown = interval(values)
    own = rows["er"][table.columns.index("A_avg ↑")]
    assert (own.text, own.half) == (f"{100 * shown.mean:.1f}", f"{100 * (shown.half_width or 0):.1f}")
    assert "1 not complete" in rows["fragile (n=2)"][1].note
    assert any(
        "Failed: fragile, seed 1: fragile: raised ValueError: seed one" in note for note in table.notes
    )
    marks = [row[1].mark for row in table.rows]
    assert marks.count("best") == 1


def test_an_interval_of_two_seeds_is_said_to_say_little(gathered: Gathered) -> None:
    """Student's t of one degree of freedom."""
    for count in (2, 3):
        panel = made_up({"er": {"1MiB": [0.4, 0.6, 0.5][:count]}}, {"1MiB": 1 << 20})
        notes = " ".join(main_table(gathered, panel, "1MiB").notes)
        assert ("± is 12.7 standard errors" in notes) == (count == 2)


@pytest.fixture(scope="module")
def written(gathered: Gathered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its report."""
    out = tmp_path_factory.mktemp("written")
    assert [path.name for path in write_report(gathered, out)] == [
        f"report.{form}" for form in ("html", "md", "tex", "csv")
    ]
    return out


def test_every_form_has_every_row_and_the_failures(gathered: Gathered, written: Path) -> None:
    page, markdown, latex, table = (written / f"report.{form}" for form in ("html", "md", "tex", "csv"))
    html = page.read_text()
    assert page.stat().st_size < 4_000_000
    for text in (html, markdown.read_text(), latex.read_text(), table.read_text()):
        for word in ("expandable-der", "finetune", "fragile", "seed one"):
            assert word in text
    for sentence in findings(gathered):
        assert sentence in markdown.read_text()
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", html)  # it needs nothing beside it
    assert not re.search(r"https?://(?!www\.w3\.org|matplotlib\.org|purl\.org|creativecommons\.org)", html)
    for picture in pictures_of(gathered):
        assert f'id="{picture.key}"' in html
        assert (written / "pictures" / f"{picture.key}.pdf").read_bytes()[:5] == b"%PDF-"
        assert (written / "pictures" / f"{picture.key}.svg").read_text().startswith("<svg")


def test_the_csv_holds_every_run_at_every_budget(gathered: Gathered, compared: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_of(gathered))))
    assert len(rows) == 4 * 3 * 3
    assert {row["status"] for row in rows if row["strategy"] == "fragile" and row["seed"] == "1"} == {
        "failed"
    }
    for row in rows:
        if row["status"] == "complete":
            result = json.loads((Path(row["folder"]) / "result.json").read_text())
            assert float(row["a_avg"]) == result["metrics"]["a_avg"]
            assert float(row["flops"]) == result["resources"]["flops"]


def test_every_table_is_a_csv_too(gathered: Gathered, written: Path) -> None:
    for table in tables_of(gathered):
        head, *rows = csv.reader((written / "tables" / f"{table.key}.csv").read_text().splitlines())
        assert len(rows) == len(table.rows)
        for line, row in zip(rows, table.rows, strict=True):
            found = dict(zip(head, line, strict=True))
            for name, entry in zip(table.columns, row, strict=True):
                assert (found[name], found.get(f"{name} ±", "")) == (entry.text, entry.half)


def test_the_latex_is_whole(gathered: Gathered) -> None:
    latex = latex_of(gathered, tables_of(gathered))
    for name in ("table", "tabular"):
        assert latex.count(f"\\begin{{{name}}}") == latex.count(f"\\end{{{name}}}") > 0
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == latex.count("\\begin{table}")
    body = re.sub(r"%.*", "", re.sub(r"\\%", "", latex))
    assert body.count("{") == body.count("}")
    assert not re.search(r"[^\x00-\x7f]", body), "letters that LaTeX does not know"
    for found in re.finditer(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end", latex, re.DOTALL):
        for line in found[2].split("\\\\\n")[:-1]:
            assert line.count("&") - line.count("\\&") == len(found[1]) - 1


def test_the_recipe_in_the_report_asks_for_the_same_again(
    gathered: Gathered, compared: Path, tmp_path: Path
) -> None:
    (tmp_path / "again.toml").write_text(gathered.recipes[0])
    again = Request(**read_recipe(tmp_path / "again.toml"))
    asked = read_request(compared)
    settled = {"workers": None, "data": None, "settings": {}, "intervals": True}
    assert dataclasses.replace(again, **settled) == dataclasses.replace(asked, **settled)
    assert json.dumps(again.settings) == json.dumps(asked.settings)


def test_a_run_for_every_budget_fails_at_one_that_it_does_not_keep(pair: tuple[Path, Path]) -> None:
    result = gather([pair[1]]).results[0]
    most = int(result.resources["held_bytes"])
    assert within_budget(result, Budget(bytes=most)).status == "complete"
    over = within_budget(result, Budget(bytes=most - 1))
    assert over.status == "failed"
    assert over.message.startswith("finetune: ")


def test_markdown_says_what_was_not_drawn(gathered: Gathered) -> None:
    text = markdown_of(gathered, tables_of(gathered), [])
    assert "No critical-difference diagram: a critical-difference diagram needs 10 blocks" in text


# What is refused


@pytest.fixture(scope="module")
def pair(tiny: Source, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two experiments of one stream."""
    made = []
    for name in ("er", "finetune"):
        out = tmp_path_factory.mktemp(name)
        given = {"scenario": "class-incremental", "settings": SESSIONS, "device": "cpu"}
        assert carry_on(resolved(tiny, name, **given), out / "run")
        made.append(out / "run")
    return made[0], made[1]


def altered(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy of an experiment whose specs say something else."""
    shutil.copytree(folder, target)
    for path in target.rglob("run.json"):
        plain = read_sealed(path)
        for name, value in changes.items():
            inside = isinstance(value, dict)
            plain["spec"][name] = {**plain["spec"][name], **value} if inside else value
        reseal(path, plain)
    return target


def reseal(path: Path, plain: dict[str, Any]) -> None:
    """Write a run's run.json as if it had always been so."""
    write_sealed(path, plain)
    result = path.with_name("result.json")
    if result.exists():
        content = read_sealed(result)
        write_sealed(result, {**content, "seals": {**content["seals"], "run.json": digest_of(path)}})


def as_seed_1(folder: Path) -> None:
    """Name an experiment's only run as one of seed 1."""
    about = folder / "experiment.json"
    plain = read_sealed(about)
    (cell,) = plain["cells"]
    renamed = {**cell, "folder": cell["folder"].replace("seed-0", "seed-1"), "seed": 1}
    (folder / cell["folder"]).rename(folder / renamed["folder"])
    write_sealed(about, {**plain, "cells": [renamed]})


def test_comparable_runs_of_two_folders_stand_in_one_table(pair: tuple[Path, Path]) -> None:
    gathered = gather(list(pair))
    assert gathered.panels[0].rows == ["er", "finetune"]
    assert gather(list(pair), "finetune").reference == "finetune"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plan_fingerprint": "0"}, "with seed 0 they differ in the plan$"),
        ({"source_digest": "0"}, "differ in the source's pixels$"),
        ({"eval_every": 17}, "differ in the evaluation points$"),
        ({"stream": {"epochs": 2}}, "differ in how the stream is served$"),
        ({"augment": {"pipeline": "crop-flip"}}, "differ in how the stream is augmented$"),
        ({"compute": {"precision": "bfloat16"}}, "differ in the precision$"),
        ({"eval_every": 17, "plan_fingerprint": "0"}, "differ in the plan, the evaluation points$"),
    ],
)
def test_unlike_is_not_put_beside_like(
    pair: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    other = altered(pair[1], tmp_path / "other", **changes)
    with pytest.raises(StreamlabError, match=r"^er \(.*\) and finetune \(.*\) are not comparable: .*" + said):
        gather([pair[0], other])


def test_one_row_holds_runs_of_one_make_and_each_once(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(StreamlabError, match="er at 500ex is there twice"):
        gather([pair[0], altered(pair[0], tmp_path / "same")])
    other = altered(pair[0], tmp_path / "other", seed=1, plan_fingerprint="0")
    as_seed_1(other)
    for path in other.rglob("run.json"):
        plain = read_sealed(path)
        plain["provenance"]["packages"]["torch"] = "1.0"
        reseal(path, plain)
    with pytest.raises(StreamlabError, match=r"er: its runs are of different make \(packages\)"):
        gather([pair[0], other])
    tuned = altered(pair[0], tmp_path / "tuned", seed=1, plan_fingerprint="0", optimizer={"lr": 0.7})
    as_seed_1(tuned)
    with pytest.raises(StreamlabError, match=r"er: its runs are of different make \(optimizer\)"):
        gather([pair[0], tuned])
    with pytest.raises(StreamlabError, match="unknown row 'err'; did you mean 'er'"):
        gather([pair[0]], "err")
    held = altered(pair[1], tmp_path / "survey", budget={"accounting": "survey"})
    with pytest.raises(StreamlabError, match="counts its budget otherwise"):
        gather([pair[0], held])


def test_one_budget_of_two_folders_is_as_many_bytes(tiny: Source, tmp_path: Path) -> None:
    for width in (8, 16):
        wide = {**SESSIONS, "backbone": {**SESSIONS["backbone"], "width": width}}
        asked = asking(strategies=("er",), budgets=("model+100ex",), settings=wide)
        grid = prepare_grid(asked, {"tiny": tiny})
        laid_out(grid, tmp_path / str(width))
    with pytest.raises(
        StreamlabError, match=r"its budget model\+100ex of class-incremental comes to \d+ bytes"
    ):
        gather([tmp_path / "8", tmp_path / "16"])


# Statistics


def test_the_area_is_the_surveys(tiny: Source) -> None:
    """Trapezoids over MB: a method at 0.6 everywhere from 7.6 to 23.5 MB has 0.6 x 15.9."""
    sizes = [7.6, 12.4, 16.0, 19.8, 23.5]
    bytes_of = {f"{size}MB": round(size * 2**20) for size in sizes}
    flat = made_up({"er": {name: [0.6] for name in bytes_of}}, bytes_of)
    assert areas(flat, "er", "a_avg")[0] == pytest.approx(0.6 * 15.9, abs=1e-6)
    curve = [0.5, 0.55, 0.6, 0.62, 0.63]
    rising = made_up({"er": {name: [value] for name, value in zip(bytes_of, curve, strict=True)}}, bytes_of)
    steps = zip(sizes, sizes[1:], curve, curve[1:], strict=False)
    assert areas(rising, "er", "a_avg")[0] == pytest.approx(
        sum((b - a) * (x + y) / 2 for a, b, x, y in steps), abs=1e-6
    )
    assert areas(dataclasses.replace(flat, bytes_of={}), "er", "a_avg") == {}


def test_who_is_not_told_apart_from_the_best() -> None:
    values = {
        "best": {0: 0.80, 1: 0.82, 2: 0.81, 3: 0.79},
        "near": {0: 0.79, 1: 0.83, 2: 0.80, 3: 0.79},
        "far": {0: 0.60, 1: 0.61, 2: 0.62, 3: 0.60},
        "lost": {},
    }
    found = standings(values, False)
    assert {row: (own.best, own.tied) for row, own in found.items()} == {
        "best": (True, False), "near": (False, True), "far": (False, False),
    }  # fmt: skip
    assert standings(values, True)["far"].best
    untested = standings({"a": {0: 0.9}, "b": {0: 0.85, 1: 0.6, 2: 0.62}}, False)
    assert (untested["a"].best, untested["b"].tied) == (True, True)


def test_simultaneous_intervals_are_widened_as_bonferronis() -> None:
    values = {"a": {0: 0.5, 1: 0.6, 2: 0.7}, "b": {0: 0.4, 1: 0.6, 2: 0.5}, "c": {0: 0.1, 1: 0.3, 2: 0.1}}
    rows = against(values, "a")
    gaps = np.array([0.4 - 0.5, 0.6 - 0.6, 0.5 - 0.7])
    assert rows[0].row == "b"
    assert rows[0].mean == pytest.approx(gaps.mean())
    assert rows[0].half_width == pytest.approx(t_quantile(0.975, 2) * gaps.std(ddof=1) / 3**0.5)


def test_quantiles_are_demsars_and_the_chi_squared_table() -> None:
    published = {
        2: 1.960,
        3: 2.343,
        4: 2.569,
        5: 2.728,
        6: 2.850,
        8: 3.031,
        10: 3.164,
    }  # Demšar 2006, table 5
    for k, value in published.items():
        assert nemenyi_quantile(k) == pytest.approx(value, abs=1.5e-3)
    for value, degrees in ((3.841, 1), (5.991, 2), (7.815, 3), (9.488, 4), (16.919, 9)):
        assert chi_squared_tail(value, degrees) == pytest.approx(0.05, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=2, max_size=12))
def test_ranks_are_averages_that_sum_up(blocks: list[list[int]]) -> None:
    found = rank_blocks(list("abcd"), [list(map(float, block)) for block in blocks])
    assert sum(found.means.values()) == pytest.approx(10)
    assert all(1 <= rank <= 4 for rank in found.means.values())
    assert 0 <= found.p <= 1


def test_ten_blocks_make_a_critical_difference_diagram() -> None:
    draws = np.random.default_rng(0)
    rows = {"low": 0.3, "middle": 0.5, "high": 0.7}
    sizes = {"1MB": 10**6}

    def panel(label: str) -> Panel:
        values = {row: {"1MB": (mean + draws.normal(0, 0.02, 5)).tolist()} for row, mean in rows.items()}
        return made_up(values, sizes, label)

    few = Gathered((panel("one"),), "held", True, None, ("x",))
    assert isinstance(ranks(few, "a_avg"), str)
    enough = Gathered((panel("one"), panel("two")), "held", True, None, ("x",))
    found = ranks(enough, "a_avg")
    assert isinstance(found, Ranks)
    assert (found.blocks, list(found.means.values())) == (10, [3.0, 2.0, 1.0])
    assert found.critical_difference == pytest.approx(2.343 * (3 * 4 / 60) ** 0.5, abs=1e-3)
    assert "ranks" in {picture.key for picture in pictures_of(enough)}


def test_half_a_comparison_claims_nothing() -> None:
    values = {"a": {"1MB": [0.9]}, "b": {"1MB": [0.1, 0.1]}}
    first, _, third = findings(Gathered((made_up(values, {"1MB": 10**6}),), "held", True, None, ("x",)))
    assert first.endswith("though no other row is told apart from it.")
    assert third.endswith(
        "no difference is told from chance, for fewer than two seeds are complete of every row."
    )


def test_budgets_in_bytes_and_in_exemplars_stand_in_one_report() -> None:
    values = {"a": {"70ex": [0.5, 0.4], "1MB": [0.5, 0.6], "2MB": [0.7, 0.6]}}
    panel = made_up(values, {"70ex": 0, "1MB": 10**6, "2MB": 2 * 10**6})
    panel = dataclasses.replace(panel, bytes_of={"1MB": 10**6, "2MB": 2 * 10**6})
    keys = [picture.key for picture in pictures_of(Gathered((panel,), "held", True, None, ("x",)))]
    assert "p0memorya" in keys


def test_pictures_show_every_budget_of_a_row_and_no_failed_run() -> None:
    values = {"a": {"1MB": [0.5, 0.6]}, "b": {"1MB": [0.5, 0.6], "2MB": [0.7, 0.6]}}
    panel = made_up(values, {"1MB": 10**6, "2MB": 2 * 10**6})
    filled = {
        place: tuple(
            dataclasses.replace(own, held={"model": 4}, curve=((1, 0.5),), matrix=((0.5, None), (0.1, 0.9)))
            for own in results
        )
        for place, results in panel.results.items()
    }
    lost = tuple(dataclasses.replace(own, status="failed") for own in filled["2MB", "b"])
    panel = dataclasses.replace(panel, results={**filled, ("2MB", "b"): lost})
    drawn = {p.key: p.svg for p in pictures_of(Gathered((panel,), "held", True, None, ("x",)))}
    assert "a at 1MB: model" in drawn["p0kinds"]
    assert "a at every budget" not in drawn["p0kinds"]
    assert "b, sample 1" in drawn["p0stream0"]
    assert "b, sample 1" not in drawn["p0stream1"]
    assert "p0heat" not in drawn  # of the largest budget, where nothing is complete


def test_only_what_was_tuned_is_said_to_be(gathered: Gathered, compared: Path, tmp_path: Path) -> None:
    shutil.copytree(compared, tmp_path / "again")
    (tmp_path / "again" / "tuning").mkdir()
    (tmp_path / "again" / "tuning" / "chosen.json").write_text('[{"scenario": "old"}]')
    assert gather([tmp_path / "again"]).tuned == []


def test_the_findings_name_the_best_and_what_is_not_told_apart() -> None:
    sizes = {"1MB": 10**6, "2MB": 2 * 10**6}
    values = {
        "a": {"1MB": [0.50, 0.52, 0.51], "2MB": [0.60, 0.61, 0.62]},
        "b": {"1MB": [0.45, 0.47, 0.46], "2MB": [0.70, 0.71, 0.72]},
        "c": {"1MB": [0.20, 0.22, 0.21], "2MB": [0.69, 0.72, 0.70]},
    }
    first, second, third = findings(Gathered((made_up(values, sizes),), "held", True, None, ("x",)))
    assert first == "On made up at 2MB b has the best average accuracy, 71.0 ± 2.5 %, not told apart from c."
    assert second.startswith(
        "On made up a leads at the smallest budget (1MB), b at the largest, and b has the largest"
    )
    assert third.endswith("all of it rests on 3 seeds, differences paired by seed and Holm-corrected.")


def test_a_clock_ranks_at_equal_compute() -> None:
    """What the stream grants is said of the table, which counts what passed unseen, and of the first finding."""
    panel = made_up({"slow": {"1MB": [0.4, 0.5]}, "quick": {"1MB": [0.6, 0.7]}}, {"1MB": 10**6})
    clocked = {
        (budget, row): tuple(
            dataclasses.replace(
                own,
                resources={
                    "granted_flops_per_sample": 2.5e6,
                    "samples_lost": 1200.0 if row == "slow" else 0.0,
                },
            )
            for own in results
        )
        for (budget, row), results in panel.results.items()
    }
    whole = Gathered((dataclasses.replace(panel, results=clocked),), "held", True, None, ("x",))
    assert findings(whole)[0].startswith("On made up at 1MB and equal compute quick has the best")
    (table,) = (one for one in tables_of(whole) if one.key.startswith("main"))
    assert table.title.endswith(", at equal compute")
    assert any("2.50 MFLOP with each sample" in note for note in table.notes)
    place = table.columns.index("lost ↓")
    assert [row[place].text for row in table.rows] == ["1,200", "0"]
    waits = Gathered((panel,), "held", True, None, ("x",))
    assert all("equal compute" not in one.title for one in tables_of(waits))
    assert "lost ↓" not in tables_of(waits)[0].columns


def test_the_findings_say_what_the_best_row_costs_beside_the_cheapest() -> None:
    values = {"dear": {"1MB": [0.9, 0.9]}, "middle": {"1MB": [0.2, 0.2]}, "cheap": {"1MB": [0.1, 0.1]}}
    flops = {"dear": 600.0, "middle": 300.0, "cheap": 200.0}
    panel = made_up(values, {"1MB": 10**6})
    costed = {
        (budget, row): tuple(
            dataclasses.replace(own, metrics={**own.metrics, "flops": flops[row]}) for own in results
        )
        for (budget, row), results in panel.results.items()
    }
    panel = dataclasses.replace(panel, results=costed)
    _, _, third = findings(Gathered((panel,), "held", True, None, ("x",)))
    assert third.startswith("Training dear takes 3.0 times the operations of cheap, the cheapest")
