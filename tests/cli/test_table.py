"""The table is a pure function of a folded state: snapshots at fixed widths, without colour."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from making import broken_off, carry_on, make_source, resolved
from rich.console import Console

from streamlab.cli.live import LiveState, RunState, fold_run, state_of, states_of
from streamlab.cli.table import accuracy_table, short_label, sparkline
from streamlab.errors import CorruptFile
from streamlab.simulator import events

SNAPSHOTS = Path(__file__).parent / "snapshots"


def evaluated(seen: int, accuracy: float, held: dict[str, int], exemplars: int) -> events.Evaluated:
    metrics = {"a_auc": accuracy - 0.05, "a_last": accuracy, "f_last": 0.3 - accuracy / 4}
    return events.Evaluated(seen, (), accuracy, metrics, {"task": 1.0}, held, exemplars, seen / 12_000, 0.5)


def example() -> LiveState:
    """Two seeds of four rows: one half-way, one done, one failed, one ceiling."""
    runs = {}
    held = {"model": 900_000, "exemplars": 396_000}
    for seed in (0, 1):
        start = events.RunStarted(20_000, 0, 5, 2 * 2**20, 500)
        er = fold_run(RunState("er", seed), start)
        for number in range(1, 11):
            er = fold_run(er, evaluated(1000 * number, 0.2 + 0.05 * number + 0.01 * seed, held, 500))
        runs[f"er/{seed}"] = er
        done = fold_run(RunState("finetune", seed), replace(start, exemplar_capacity=0))
        for number in range(1, 21):
            done = fold_run(done, evaluated(1000 * number, 0.5 - 0.01 * number, {"model": 900_000}, 0))
        runs[f"finetune/{seed}"] = fold_run(done, events.RunEnded(done.metrics, {}, {}))
        failed = fold_run(RunState("my-long-strategy-name", seed), start)
        runs[f"mine/{seed}"] = fold_run(
            failed, events.RunFailed(f"my-long-strategy-name: raised ValueError: {seed}")
        )
        ceiling = RunState("joint", seed, bounded=False)
        runs[f"joint/{seed}"] = fold_run(ceiling, replace(start, budget_bytes=None, exemplar_capacity=0))
    return LiveState("si-blurry on glyphs-100 · 20,000 samples in 5 experiences · 2MiB · 2 seeds", runs)


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_reads_as_its_snapshot(width: int) -> None:
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, no_color=True, force_terminal=False)
    console.print(accuracy_table(example(), width), highlight=False)
    shown = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
    assert max(map(len, shown.splitlines())) <= width
    assert shown == (SNAPSHOTS / f"table-{width}.txt").read_text(encoding="utf-8")


def test_a_sparkline_spans_0_to_1_and_keeps_its_last_value() -> None:
    assert sparkline([0.0, 0.5, 1.0], 8) == "▁▅█"
    assert sparkline([0.1] * 50 + [1.0], 8) == "▁▁▁▁▁▁▁█"
    assert sparkline([], 8) == ""
    assert sparkline([float("nan"), 1.0], 8) == " █"


def test_rows_of_one_strategy_can_be_told_apart_in_a_narrow_table() -> None:
    labels = [
        "er",
        "er replay_size=10",
        "er replay_size=20",
        "prototype-replay",
        "prototype-replay decay=0.9",
    ]
    shown = [short_label(label, 11) for label in labels]
    assert shown == ["er", "er…_size=10", "er…_size=20", "prototype-…", "prot…ay=0.9"]
    assert max(map(len, shown)) <= 11


def test_a_failed_run_has_no_figures_and_is_in_no_mean() -> None:
    """Two seeds of `er`, of which the one that was best fails: what is left is the other's."""
    state = example()
    failed = fold_run(state.runs["er/1"], events.RunFailed("er: task is nan"))
    finished = fold_run(state.runs["er/0"], events.RunEnded(state.runs["er/0"].metrics, {}, {}))
    shown = lines_of(replace(state, runs={**state.runs, "er/0": finished, "er/1": failed}))
    (row,) = (line for line in shown if line.startswith("er "))
    assert re.match(r"er +1 of 2 +70\.0 +", row), row
    (lost,) = (line for line in shown if line.startswith("my-long") and "failed" in line)
    assert not re.search(r"\d", lost), lost


def lines_of(state: LiveState) -> list[str]:
    buffer = io.StringIO()
    Console(file=buffer, width=140, no_color=True).print(accuracy_table(state, 140), highlight=False)
    return buffer.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "heading", "cell"), [(80, "used", "62%"), (140, "learned / seen", "5,000 / 8,000")]
)
def test_a_row_under_a_clock_says_what_it_learned_of_what_came(width: int, heading: str, cell: str) -> None:
    runs = {}
    for seed in (0, 1):
        run = fold_run(RunState("er", seed), events.RunStarted(20_000, 0, 5, 2 * 2**20, 500))
        runs[f"er/{seed}"] = fold_run(run, replace(evaluated(8000, 0.5, {"model": 1000}, 10), lost=3000))
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, no_color=True, force_terminal=False)
    console.print(accuracy_table(LiveState("under a clock", runs), width), highlight=False)
    shown = buffer.getvalue()
    assert heading in shown
    assert cell in shown
    assert "smp/s" not in shown
    assert max(map(len, shown.splitlines())) <= width


def test_a_run_that_goes_on_keeps_the_curve_until_its_checkpoint() -> None:
    run = fold_run(RunState("er", 0), events.RunStarted(5000, 0, 5, None, 0))
    for seen in (1000, 2000, 3000):
        run = fold_run(run, evaluated(seen, seen / 10_000, {"model": 1}, 0))
    again = fold_run(run, events.RunStarted(5000, 2400, 5, None, 0))
    assert again.curve == (0.1, 0.2)
    assert fold_run(run, events.RunStarted(5000, 0, 5, None, 0)).curve == ()


def test_a_table_begins_with_the_curves_of_what_is_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    grid = resolved(make_source(), "er", eval_every=30)
    broken_off(grid, tmp_path, after=15)
    (run,) = state_of(grid, tmp_path).runs.values()
    assert run.status == "waiting"
    assert len(run.curve) > 2
    log = tmp_path / grid.cells[0].folder / "events.jsonl"
    for damage in (b"{no\n", b'{"event": "BlassesArrived"}\n', b"[]\n"):
        log.write_bytes(damage)
        (run,) = state_of(grid, tmp_path).runs.values()
        assert run.curve == ()


def test_damaged_runs_are_named_and_not_shown(tmp_path: Path) -> None:
    grid = resolved(make_source(), "er", eval_every=60)
    assert carry_on(grid, tmp_path)
    assert states_of(tmp_path)
    log = tmp_path / grid.cells[0].folder / "events.jsonl"
    log.write_bytes(re.sub(rb'"accuracy": ?0\.\d+', b'"accuracy":0.99', log.read_bytes()))
    with pytest.raises(CorruptFile, match=r"events\.jsonl is damaged"):
        states_of(tmp_path)


def test_no_clock_binds_a_ceiling() -> None:
    runs = {}
    for label, bounded in (("er", True), ("joint", False)):
        run = fold_run(RunState(label, 0, bounded=bounded), events.RunStarted(200, 0, 5, None, 0))
        runs[label] = fold_run(run, replace(evaluated(100, 0.5, {"model": 1}, 0), lost=40 if bounded else 0))
    for width in (80, 140):
        buffer = io.StringIO()
        console = Console(file=buffer, width=width, no_color=True, force_terminal=False)
        console.print(accuracy_table(LiveState("under a clock", runs), width), highlight=False)
        ceiling = next(line for line in buffer.getvalue().splitlines() if line.startswith("joint"))
        assert ceiling.count("n/a") == buffer.getvalue().count("n/a") > 0
        assert "100 / 100" not in ceiling
        assert "100%" not in ceiling
