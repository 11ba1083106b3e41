"""`streamlab compare` and `streamlab report` in a real terminal, and where output is none."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest
from comparing import SESSIONS, asking
from making import laid_out, resolved
from rich.console import Console
from typer.testing import CliRunner

from streamlab.cli.grid_table import grid_table
from streamlab.cli.live import LiveState, RunState
from streamlab.cli.main import app
from streamlab.data.source import Source, share
from streamlab.errors import StreamlabError
from streamlab.experiments.grid import prepare_grid
from streamlab.experiments.layout import count_done
from streamlab.experiments.request import Request, read_recipe
from streamlab.simulator import events
from streamlab.simulator.pool import Job, run_jobs

COMMAND = str(Path(sys.executable).parent / "streamlab")
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def asked(*arguments: str) -> str:
    """What a command prints, in this process."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.stdout


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    path = tmp_path_factory.mktemp("compare") / "grid.toml"
    path.write_text(
        'scenarios = ["class-incremental"]\nsource = "fashion-mnist"\nstrategies = ["er", "finetune"]\n'
        f'budgets = ["1MiB", "2MiB"]\nseeds = 2\neval_every = 1500\ndata = "{tiny_data}"\n'
        "[stream]\nbatch_size = 50\n"
    )
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path) -> tuple[str, Path]:
    """What a terminal of 80 columns showed of a comparison, and its folder."""
    out = recipe.parent / "out"
    child = pexpect.spawn(
        COMMAND,
        ["compare", str(recipe), "--out", str(out)],
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=120,
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return child.before, out


def test_the_live_table_of_cells_fits_80_columns_and_the_answer_follows(finished: tuple[str, Path]) -> None:
    shown = ANSI.sub("", finished[0]).replace("\r", "\n")
    assert "comparison · 6 of 6 cells done · A_avg %" in shown
    assert re.search(r"class-incremental +1MiB +2MiB", shown)
    assert re.search(r"finetune +\d+\.\d ± ?\d+\.\d +\d+\.\d ± ?\d+\.\d", shown)
    table = shown[: shown.index("On class-incremental")]
    assert max(len(line) for line in table.splitlines()) <= 80
    assert re.search(
        r"On class-incremental at 2MiB \S+ has the best average accuracy", " ".join(shown.split())
    )
    assert "report.html" in shown


def test_done_cells_are_not_run_again_and_a_report_can_be_asked_for_alone(finished: tuple[str, Path]) -> None:
    out = finished[1]
    assert ": starts" not in asked("resume", str(out))
    asked("report", str(out), "--out", str(out / "elsewhere"), "--reference", "finetune")
    assert (out / "elsewhere" / "report.html").exists()
    assert "A_avg, minus finetune" in (out / "elsewhere" / "report.md").read_text()
    one = asked("report", str(out / "class-incremental" / "1MiB"), "--out", str(out / "one"))
    assert "nothing is said of how memory changes it" in one


def test_a_dry_run_says_what_each_budget_buys_and_what_is_done(
    recipe: Path, finished: tuple[str, Path]
) -> None:
    given = ["--budget", "1MiB", "--budget", "model+300ex", "--out", str(finished[1])]
    shown = asked("compare", str(recipe), "--dry-run", *given)
    assert f"4 of 6 runs are done in {finished[1]}, and are not run again" in " ".join(shown.split())
    assert re.search(r"class-incremental at model\+300ex \(\d+ KiB\)", shown)
    assert re.search(r"er +mlp 37,120 +\S+ KiB +300 ", shown)
    assert "6 runs, about" in shown
    assert "budgets count all that is held, a frozen backbone counted; nothing was run (--dry-run)" in shown


MISTAKES = {
    "--seeds 1": "compare: one seed has no interval; ask for --seeds 2 or more, or say --no-intervals",
    "--budget 10kB": "er: it needs 155 KiB for its own state, which the budget of 9.8 KiB does not hold; ",
    "--accounting mine": "compare: accounting is 'mine', and should be 'held' or 'survey'",
    "--engine slurm": "compare: engine is 'slurm', and should be 'local' or 'ray'",
}


@pytest.mark.parametrize("given", MISTAKES)
def test_a_mistake_is_told_before_anything_is_written(recipe: Path, tmp_path: Path, given: str) -> None:
    done = CliRunner().invoke(app, ["compare", str(recipe), "--out", str(tmp_path / "o"), *given.split()])
    assert isinstance(done.exception, StreamlabError)
    assert str(done.exception).startswith(MISTAKES[given])
    assert not (tmp_path / "o").exists()


def test_where_every_cell_fails_the_way_to_go_on_is_said(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "from streamlab import Strategy\n\n\nclass Odd(Strategy):\n"
        "    def losses(self, batch):\n        raise ValueError('not today')\n"
    )
    given = ["--strategy", str(tmp_path / "odd.py"), "--budget", "1MiB", "--workers", "0"]
    done = CliRunner().invoke(app, ["compare", str(recipe), *given, "--out", str(tmp_path / "o")])
    assert done.exit_code == 1
    assert "no report: " in done.stderr
    assert f"not complete; go on with: streamlab resume {tmp_path / 'o'}" in done.stderr


def test_only_what_is_made_the_same_way_counts_as_done(recipe: Path, finished: tuple[str, Path]) -> None:
    asked_for = Request(**read_recipe(recipe))
    for changes, done in (({"seeds": 3}, 6), ({"settings": {"stream": {"batch_size": 40}}}, 0)):
        assert count_done(prepare_grid(replace(asked_for, **changes)), finished[1]) == done


def test_a_mistake_is_one_sentence_and_exit_code_2(recipe: Path, tmp_path: Path) -> None:
    arguments = [COMMAND, "compare", str(recipe), "--out", str(tmp_path / "o"), "--seeds", "1"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, f"streamlab: {MISTAKES['--seeds 1']}\n")


def test_json_is_one_event_a_line(recipe: Path, tmp_path: Path) -> None:
    given = [
        "--strategy",
        "finetune",
        "--budget",
        "1MiB",
        "--json",
        "--workers",
        "0",
        "--out",
        str(tmp_path / "o"),
    ]
    heard = [json.loads(line) for line in asked("compare", str(recipe), *given).splitlines()]
    assert {(own["scenario"], own["budget"], own["strategy"]) for own in heard} == {
        ("class-incremental", "1MiB", "finetune")
    }
    assert [own["event"] for own in heard].count("RunEnded") == 2


def test_a_table_of_cells_shows_what_is_done_going_on_and_failed(tiny: Source) -> None:
    grid = prepare_grid(asking(strategies=("er", "finetune"), seeds=3), {"tiny": tiny})
    runs = {}
    for number, cell in enumerate(grid.cells):
        status = ("complete", "running", "waiting", "failed")[number % 4]
        message = "er: it fell over" if status == "failed" else ""
        runs[cell.folder] = RunState(
            cell.spec.label, cell.spec.seed, cell.block.scenario, cell.block.budget, 100, 40, status=status,
            metrics={"a_avg": 0.5}, message=message,
        )  # fmt: skip
    state = LiveState("comparison", runs, budgets={"class-incremental": ("12kB", "40kB")})
    console = Console(width=80, record=True, color_system=None, file=io.StringIO())
    console.print(grid_table(state, 80, 60.0))
    text = console.export_text()
    assert "comparison · 3 of 9 cells done · 2 running · 2 failed · about" in text
    assert "failed  er: it fell over" in text
    assert re.search(r"finetune +(50\.0 \d/3|failed|\d+%)", text)


def test_workers_are_spread_over_gpus(tiny: Source, tmp_path: Path) -> None:
    """Without a GPU, what a worker is told it may see can still be seen."""
    plugin = tmp_path / "tell.py"
    plugin.write_text(
        "import os\nfrom streamlab import Strategy\n\n\nclass Tell(Strategy):\n"
        "    def losses(self, batch):\n        raise ValueError('sees ' + os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    given = {"scenario": "class-incremental", "seeds": 4, "settings": SESSIONS, "device": "cpu"}
    grid = resolved(tiny, str(plugin), **given)
    laid_out(grid, tmp_path / "out")
    shared = share(tiny)
    jobs = [Job(tmp_path / "out" / cell.folder, shared) for cell in grid.cells]
    seen: set[str] = set()

    def hear(number: int, event: events.Event) -> None:
        if isinstance(event, events.RunFailed):
            seen.update(re.findall(r"sees (\d)", event.message))

    run_jobs(jobs, 4, hear, tmp_path / "log", lambda: None, gpus=[0, 1])
    assert seen == {"0", "1"}


def test_a_worker_whose_gpu_fails_takes_no_other_run(tiny: Source, tmp_path: Path) -> None:
    """The first run leaves torch saying that its GPU fails, for as long as the process lives."""
    plugin = tmp_path / "breaks.py"
    plugin.write_text(
        "import os\nimport torch\nfrom streamlab import Strategy\n\n\ndef fails(*given):\n"
        "    raise RuntimeError('CUDA error')\n\n\nclass Breaks(Strategy):\n"
        "    def losses(self, batch):\n"
        "        torch.cuda.is_initialized, torch.cuda.synchronize = (lambda: True), fails\n"
        "        raise ValueError(f'process {os.getpid()}')\n"
    )
    given = {"scenario": "class-incremental", "seeds": 3, "settings": SESSIONS, "device": "cpu"}
    grid = resolved(tiny, str(plugin), **given)
    laid_out(grid, tmp_path / "out")
    shared = share(tiny)
    jobs = [Job(tmp_path / "out" / cell.folder, shared) for cell in grid.cells]
    processes: list[str] = []

    def hear(number: int, event: events.Event) -> None:
        if isinstance(event, events.RunFailed):
            processes.extend(re.findall(r"process (\d+)", event.message))

    run_jobs(jobs, 1, hear, tmp_path / "log", lambda: None)
    assert len(processes) == len(set(processes)) == 3
