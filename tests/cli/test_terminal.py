"""The command in a real terminal (a pty), and where its output is none."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import pexpect
import pytest

from streamlab import plugins
from streamlab.cli.main import main
from streamlab.evaluation.intervals import interval

COMMAND = str(Path(sys.executable).parent / "streamlab")
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, which takes seconds to import torch."""
    command = [COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def call(*arguments: str, cwd: Path = Path()) -> subprocess.CompletedProcess[str]:
    """What the command's process calls, in this one, without a terminal."""
    out, error, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", [COMMAND, *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
        contextlib.chdir(cwd),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), error.getvalue())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> tuple[str, Path]:
    """What a terminal of 80 columns showed of a run, and the run's folder."""
    out = tmp_path_factory.mktemp("cli") / "out"
    arguments = ["run", "si-blurry", "--source", "fashion-mnist", "--data", str(tiny_data)]
    arguments += ["--strategy", "er", "--strategy", "slda", "--seeds", "2", "--eval-every", "60"]
    arguments += ["--budget", "100ex", "--out", str(out)]
    child = pexpect.spawn(COMMAND, arguments, dimensions=(24, 80), encoding="utf-8", timeout=90)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return child.before, out


def test_the_live_table_is_drawn_and_fits_80_columns(finished: tuple[str, Path]) -> None:
    shown = ANSI.sub("", finished[0]).replace("\r", "\n")
    assert "si-blurry on fashion-mnist · 3,000 samples in 5 experiences · 100ex · 2 seeds" in shown
    for heading in ("strategy", "acc %", "curve", "A_AUC %", "forget %", "memory", "left"):
        assert heading in shown
    assert "classes arrive" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert re.search(r"er +done", shown)


def test_a_run_folder_holds_a_result_with_metrics(finished: tuple[str, Path]) -> None:
    results = [json.loads(p.read_text()) for p in sorted(finished[1].glob("*/*/*/seed-*/result.json"))]
    assert len(results) == 4
    for result in results:
        assert set(plugins.names("metrics")) == set(result["metrics"]) | set(result["not_defined"])
        assert result["resources"]["flops_per_step"] > 0
        assert len(result["class_accuracy"]) == 10


def test_runs_are_listed_shown_and_removed(finished: tuple[str, Path], tmp_path: Path) -> None:
    out = finished[1]
    listed = call("runs", "list", str(out.parent)).stdout
    assert f"{out}  " in listed
    assert "si-blurry on fashion-mnist  er, slda  complete" in listed
    shown = call("runs", "show", str(out)).stdout
    accuracies = [json.loads(p.read_text())["metrics"]["a_auc"] for p in out.glob("*/*/er/*/result.json")]
    assert f"{100 * interval(accuracies).mean:.1f}" in shown
    assert "        a er\n        b slda\n" in shown
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(out), str(copy)], check=True)
    assert call("runs", "remove", str(copy), "--yes").stdout == f"removed {copy}\n"
    assert not copy.exists()
    refused = call("runs", "remove", str(tmp_path))
    assert (refused.returncode, refused.stderr) == (
        2,
        f"streamlab: {tmp_path} holds no experiment (there is no experiment.json in it)\n",
    )


def test_json_is_one_event_a_line(tiny_data: Path, tmp_path: Path) -> None:
    done = call(
        "run", "si-blurry", "--source", "fashion-mnist", "--data", str(tiny_data), "--strategy", "finetune",
        "--seeds", "1", "--json", "--out", str(tmp_path / "o"), "--workers", "0",
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"RunStarted", "ClassesArrived", "Evaluated", "ExperienceEnded", "RunEnded"} <= {
        event["event"] for event in events
    }
    assert events[-1]["event"] == "RunEnded"
    assert events[-1]["strategy"] == "finetune"
    assert events[-1]["metrics"]["a_last"] > 0


def test_ctrl_c_leaves_a_run_that_resume_finishes(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["run", "si-blurry", "--source", "fashion-mnist", "--data", str(tiny_data)]
    arguments += ["--strategy", "er", "--seeds", "1", "--set", "stream.updates_per_batch=10"]
    arguments += ["--out", str(out)]
    heard = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # ignored where the suite is in the background
    child = pexpect.spawn(
        COMMAND, arguments, dimensions=(24, 140), encoding="utf-8", timeout=60, preexec_fn=heard
    )
    child.expect("classes arrive")
    child.sendintr()
    child.expect(f"stopped; go on with: streamlab resume {re.escape(str(out))}")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert not list(out.rglob("result.json"))
    done = call("resume", str(out))
    assert done.returncode == 0, done.stderr
    assert "er seed 0: done" in done.stdout
    assert list(out.rglob("result.json"))


def test_a_mistake_is_one_sentence_and_exit_code_2() -> None:
    done = process("run", "si-blurry", "--strategy", "err")
    assert done.returncode == 2
    assert (
        done.stderr == "streamlab: unknown strategy 'err'; did you mean 'er'? (streamlab list strategies)\n"
    )
    assert done.stdout == ""
    assert "Traceback" in process("run", "si-blurry", "--strategy", "err", "--debug").stderr


def test_a_dry_run_says_what_would_run_and_runs_nothing(tmp_path: Path) -> None:
    done = call(
        "run", "si-blurry", "--strategy", "er", "--budget", "2MiB", "--seeds", "2", "--dry-run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    model = 4 * (784 * 256 + 256 + 256 * 100 + 100)
    bought = f"{(2 * 2**20 - model) // 792:,}"
    shown = done.stdout
    assert re.search(rf"^ *er +mlp 200,960 +\S+ KiB +{bought} +[\d.]+ s$", shown, re.MULTILINE), shown
    assert re.search(r"^2 runs, about [\d.]+ s in all on \d at once; budgets count", shown, re.MULTILINE)
    assert "nothing was run (--dry-run)" in shown
    assert not list(tmp_path.iterdir())


def test_a_recipe_is_run_as_written(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'scenario = "si-blurry"\nstrategies = ["er", "er:selection=balanced"]\nseeds = 2\n'
        'budget = "1MiB"\n[stream]\nbatch_size = 32\n[er.optimizer]\nlr = 0.1\n'
    )
    done = call("run", "mine.toml", "--dry-run", "--set", "scenario.tasks=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "20,000 samples in 4 experiences" in done.stdout
    assert "si-blurry at 1MiB" in done.stdout
    assert re.search(r"^ *er selection=balanced +mlp ", done.stdout, re.MULTILINE)
    (tmp_path / "wrong.toml").write_text('scenari = "si-blurry"\n')
    wrong = call("run", "wrong.toml", cwd=tmp_path)
    assert "unknown field of recipe wrong.toml 'scenari'; did you mean 'scenario'?" in wrong.stderr


def test_describe_shows_a_plan_and_draws_it(tmp_path: Path) -> None:
    done = call("describe", "si-blurry", "--seed", "3", "--picture", str(tmp_path / "plan.png"))
    assert done.returncode == 0, done.stderr
    assert "5 experiences, 20,000 samples\nboundaries hidden\nfingerprint" in done.stdout
    assert re.search(r"fingerprint [0-9a-f]{64}", done.stdout)
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert "unknown section 'stream'" in call("describe", "--set", "stream.batch_size=3").stderr


def test_help_lists_and_mistyped_names_import_no_torch_and_no_plugin(tmp_path: Path) -> None:
    program = (
        "import sys; from streamlab.cli.main import app, plugins\n"
        "for kind in plugins.KINDS: assert all(p.description for p in plugins.installed(kind))\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "plugged = [m for m in sys.modules if m.startswith(('streamlab.strategies.', 'streamlab.scenarios.'))]\n"
        "sys.exit(str([heavy, plugged]) if heavy or plugged else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in (["runs", "list"], ["run", "si-blurry", "--strategy", "err"]):
        program = (
            "import sys; from streamlab.cli.main import main\n"
            f"sys.argv[1:] = {command}\n"
            "try: main()\nexcept SystemExit: pass\n"
            "print({'torch', 'numpy', 'rich.table', 'matplotlib'} & set(sys.modules) or 'none')"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.stdout.endswith("none\n"), done
    listed = call("list").stdout
    for name in ("si-blurry", "er", "slda", "glyphs-100", "resnet18"):
        assert re.search(rf"^  {name} +\S", listed, re.MULTILINE)
    assert call("list", "strategy").stderr.startswith(
        "streamlab: unknown kind of plugin 'strategy'; did you mean"
    )


def test_a_terminal_without_colour_shows_the_same_table(tiny_data: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "NO_COLOR": "1"}
    arguments = ["run", "si-blurry", "--source", "fashion-mnist", "--data", str(tiny_data)]
    arguments += ["--strategy", "finetune", "--seeds", "1", "--workers", "0", "--out", str(tmp_path / "o")]
    child = pexpect.spawn(
        COMMAND, arguments, dimensions=(24, 140), env=environment, encoding="utf-8", timeout=60
    )
    child.expect(pexpect.EOF)
    child.close()
    assert not re.search(r"\x1b\[(3|4|9)\d", child.before)
    assert "accuracy so far" in child.before
    assert child.exitstatus == 0


def test_a_terminal_that_hangs_up_takes_its_workers_along(tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["run", "si-blurry", "--source", "fashion-mnist", "--data", str(tiny_data)]
    arguments += ["--strategy", "er", "--seeds", "1", "--set", "stream.updates_per_batch=100"]
    child = pexpect.spawn(COMMAND, [*arguments, "--out", str(tmp_path / "o")], encoding="utf-8", timeout=60)
    child.expect("experience")
    workers = [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]
    assert workers
    os.kill(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers
    ):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    child.close()


def test_a_finished_run_is_measured_and_its_matrix_shown_as_libraries_would(
    finished: tuple[str, Path],
) -> None:
    out = finished[1]
    measured = json.loads(call("runs", "metrics", str(out), "--json").stdout)
    assert set(measured) == {"er", "slda"}
    assert set(measured["er"]) == set(plugins.names("metrics"))
    stored = [json.loads(p.read_text())["metrics"]["a_auc"] for p in out.glob("*/*/er/*/result.json")]
    assert measured["er"]["a_auc"]["mean"] == pytest.approx(interval(stored).mean)
    assert measured["er"]["auroc_energy"] == {
        "not_defined": "the run did not record it; --record unexposed does"
    }
    shown = call("runs", "metrics", str(out), "--metric", "a_auc", "--metric", "auroc_energy").stdout
    assert f"{100 * interval(stored).mean:.1f}" in shown
    assert "n/a  the run did not record it; --record unexposed does (er: auroc_energy" in shown
    wrong = call("runs", "metrics", str(out), "--metric", "a_ac")
    assert (wrong.returncode, wrong.stderr) == (
        2, "streamlab: unknown metric 'a_ac'; did you mean 'a_auc'? (streamlab list metrics)\n",
    )  # fmt: skip
    matrix = call("runs", "matrix", str(next(out.glob("*/*/er/seed-0")))).stdout
    assert "er, seed 0: accuracy (%) on each task" in matrix
    for library in ("Mammoth", "PyCIL", "Avalanche", "Continuum", "online surveys"):
        assert re.search(rf"^{library} +-?\d+\.\d +(-?\d+\.\d|n/a)$", matrix, re.MULTILINE), matrix


def test_a_run_says_what_to_cite(finished: tuple[str, Path]) -> None:
    entries = call("cite", str(finished[1])).stdout
    keys = re.findall(r"^@\w+\{(\w+),$", entries, re.MULTILINE)
    assert keys == [
        "streamlab", "moon2023siblurry", "xiao2017fashion", "chaudhry2019tiny", "hayes2020slda",
    ]  # fmt: skip
    assert entries.count("{") == entries.count("}")


def test_tensorboard_hears_what_the_table_hears(tiny_data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = call(
        "run", "si-blurry", "--source", "fashion-mnist", "--data", str(tiny_data), "--strategy", "er",
        "--seeds", "1", "--log", f"tensorboard:folder={tmp_path / 'board'}", "--out", str(tmp_path / "o"),
        "--record", "unexposed", "--record", "neighbours",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    board = EventAccumulator(str(tmp_path / "board/si-blurry/500ex/er/seed-0")).Reload()
    result = json.loads((tmp_path / "o/si-blurry/500ex/er/seed-0/result.json").read_text())
    points = board.Scalars("metrics/a_avg")
    assert points[-1].step == 3000
    assert points[-1].value == pytest.approx(result["metrics"]["a_avg"])
    assert {"accuracy", "losses/task", "memory/held_bytes"} <= set(board.Tags()["scalars"])
    asked = ("auroc_softmax", "auroc_energy", "auroc_neighbour", "fpr95_neighbour", "forward_transfer")
    assert set(asked) <= set(result["metrics"])


def test_sources_are_listed_with_where_they_were_found(tiny_data: Path) -> None:
    shown = call("data", "--data", str(tiny_data)).stdout
    assert re.search(r"glyphs-100 +100 +20,000 +5,000 +1x28x28 +\d\.\d MiB +bundled", shown)
    assert re.search(r"cifar-10 +10 +50,000 +10,000 +3x32x32 +– +not there", shown)
    assert "folder:PATH - your own pictures" in shown
    assert re.search(r"fashion-mnist .* DATA/fashion-mnist", shown)
    assert max(len(line) for line in shown.splitlines()[:6]) <= 80
    there = call("data", "fetch", "fashion-mnist", "--data", str(tiny_data))
    assert there.stdout.strip() == f"fashion-mnist: in {tiny_data}"
    kept = call("data", "fetch", "cub200@64", "--data", str(tiny_data))
    assert (kept.returncode, kept.stderr) == (
        2, "streamlab: source cub200@64: it is not fetched from here; have it from "
        f"https://data.caltech.edu/records/65de6-vp158, and unpack it to {tiny_data / 'CUB_200_2011'}\n",
    )  # fmt: skip
    own = call("data", "fetch", "folder:somewhere")
    assert (own.returncode, own.stderr) == (
        2, "streamlab: source folder:somewhere is your own; there is nothing to fetch\n",
    )  # fmt: skip


def test_few_shot_sessions_have_a_column_each_and_their_figures(tmp_path: Path, tiny_data: Path) -> None:
    """In a terminal of 80 columns; the second strategy finds the first one's base."""
    sizes = [f"scenario.{name}" for name in ("base_classes=6", "sessions=2", "way=2", "shot=3")]
    arguments = ["run", "fscil", "--source", "fashion-mnist", "--data", str(tiny_data), "--seeds", "1"]
    arguments += ["--strategy", "teen", "--strategy", "proto-cosine", "--out", str(tmp_path / "out")]
    for setting in (*sizes, "base.epochs=40", "backbone.name=mlp"):
        arguments += ["--set", setting]
    child = pexpect.spawn(COMMAND, arguments, dimensions=(24, 80), encoding="utf-8", timeout=90)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    shown = ANSI.sub("", child.before).replace("\r", "\n")
    assert re.search(r"strategy +run +base +\+1 +\+2 +avg % +drop +harm", shown)
    assert "base training" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    folders = {
        json.loads(path.read_text())["base"]["folder"] for path in (tmp_path / "out").rglob("result.json")
    }
    assert len(folders) == 1
    told = call("runs", "sessions", str(tmp_path / "out")).stdout
    for words in ("teen, n=1", "novel, all compete", "base taken for novel"):
        assert words in told
    picture = tmp_path / "confusion.png"
    assert call("runs", "confusion", str(tmp_path / "out"), "--picture", str(picture)).returncode == 0
    assert picture.stat().st_size > 5000
    done = call("runs", "show", str(tmp_path / "out"))
    assert "frozen backbone" in done.stdout


def test_pretraining_shows_a_bar_and_is_refused_in_a_sentence(tmp_path: Path, tiny_data: Path) -> None:
    arguments = ["pretrain", "fashion-mnist", "--data", str(tiny_data), "--out", str(tmp_path / "out")]
    for setting in ("fit.epochs=1", "backbone.patch_size=4", "backbone.width=16", "backbone.depth=2"):
        arguments += ["--set", setting]
    child = pexpect.spawn(COMMAND, arguments, dimensions=(24, 100), encoding="utf-8", timeout=90)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    shown = ANSI.sub("", child.before)
    assert "epoch 1 of 1" in shown
    assert "held out: loss" in shown
    assert "backbone.weights=" in shown
    again = call(*arguments)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "holds weights.safetensors already" in again.stderr
    assert "did you mean 'fashion-mnist'?" in call("pretrain", "fashon-mnist").stderr


def test_episodes_show_accuracy_with_its_interval_and_their_tests(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["run", "episodes", "--strategy", "protonet", "--strategy", "protonet:loss=icnn"]
    arguments += ["--seeds", "2"]
    for setting in (
        "scenario.episodes=20",
        "scenario.validation_episodes=5",
        "scenario.test_episodes=10",
        "scenario.environments=blur,low-light:5",
        "backbone.name=convnet",
        "backbone.width=8",
    ):
        arguments += ["--set", setting]
    arguments += ["--record", "geometry", "--out", str(out)]
    child = pexpect.spawn(COMMAND, arguments, dimensions=(24, 80), encoding="utf-8", timeout=90)
    child.expect(pexpect.EOF)
    child.close()
    shown = ANSI.sub("", child.before).replace("\r", "\n")
    assert child.exitstatus == 0, shown
    assert "episodes on glyphs-100 · 5-way 1-shot, 20 + 10 episodes · 2 seeds" in shown
    for heading in ("acc %", "±ep", "±seeds", "env. %", "ep/s"):
        assert heading in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert re.search(r"protonet +done +\d+\.\d +\d+\.\d +\d+\.\d", shown)

    tests = call("runs", "episodes", str(out)).stdout
    result = json.loads((out / "episodes/500ex/protonet/seed-0/result.json").read_text())
    clean = result["episodes"]["clean"]
    assert f"protonet: {100 * clean['mean']:.1f} ± {100 * clean['half_width']:.1f}" in tests
    assert "over 2 seeds" in tests
    assert "bootstrap" in tests
    assert set(result["episodes"]) == {"clean", "low-light:5", *(f"blur:{level}" for level in range(1, 6))}
    curves = call("runs", "geometry", str(out)).stdout
    assert "icnn_score" in curves
    assert "nc2" in curves
    picture = tmp_path / "geometry.png"
    assert call("runs", "geometry", str(out), "--picture", str(picture)).returncode == 0
    assert picture.stat().st_size > 10_000
    assert "have no tasks; see streamlab runs episodes" in call("runs", "matrix", str(out)).stderr
    again = call("runs", "show", str(out)).stdout
    assert "env. %" in again


def test_an_episode_is_shown_as_a_picture(tmp_path: Path) -> None:
    plain = call("describe", "episodes", "--seed", "3", "--episode", "48213")
    assert "episode 48213 of meta-test, seed 3" in plain.stdout
    assert "█" in plain.stdout  # shades, where there is no colour
    assert call("describe", "episodes", "--seed", "3", "--episode", "48213").stdout == plain.stdout
    picture = tmp_path / "episode.png"
    call("describe", "episodes", "--episode", "train:7", "--picture", str(picture))
    assert picture.read_bytes()[1:4] == b"PNG"
    assert "meta-test" in call("describe", "episodes").stdout
    assert (
        "unknown phase 'tests'; did you mean 'test'"
        in call("describe", "episodes", "--episode", "tests:7").stderr
    )
    wrong = call("describe", "si-blurry", "--episode", "3")
    assert "--episode is of few-shot episodes, and si-blurry is a stream" in wrong.stderr
