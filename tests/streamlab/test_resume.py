"""Killed at any instant and resumed, a run ends with the same bits; faults spoil nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from making import all_bits, bits, broken_off, carry_on, laid_out, make_source, resolved, simulate

import streamlab
from streamlab.data.source import Source, share
from streamlab.errors import StreamlabError
from streamlab.experiments.grid import Grid
from streamlab.experiments.layout import settle
from streamlab.files import locked
from streamlab.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from streamlab.runs.folder import RunFolder
from streamlab.simulator import events
from streamlab.simulator.execute import execute

SETTINGS = {"stream": {"batch_size": 5}, "backbone": {"name": "mlp", "widths": "64"}}
STRATEGIES = ("er:selection=balanced", "slda")


def long_grid(repeats: int = 1, workers: int = 0) -> Grid:
    source = make_source(classes=6, train=700 * repeats, test=10)
    given = {"eval_every": 500, "settings": SETTINGS, "budget": "100ex", "workers": workers}
    return resolved(source, *STRATEGIES, **given)


def start(out: Path, repeats: int) -> subprocess.Popen[bytes]:
    """`streamlab resume` of a source in memory, as a process of its own."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_resume as t;"
        "t.carry_on(t.long_grid(int(sys.argv[3]), 2), Path(sys.argv[2]))"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    command = [sys.executable, "-c", program, str(here), str(out), str(repeats)]
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)


def workers_of(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children]


def progress_marks(out: Path) -> int:
    return len(list(out.rglob("evaluations/*"))) + len(list(out.rglob("checkpoint-*")))


def kill_chain(tmp_path: Path, kills: int, repeats: int) -> None:
    """Kill parents and workers in turn at random instants of one experiment; compare the bits."""
    grid = long_grid(repeats, 2)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert carry_on(grid, unbroken)
    laid_out(grid, broken)
    draws = random.Random(0)
    done = 0
    while done < kills:
        process = start(broken, repeats)
        before, deadline = progress_marks(broken), time.monotonic() + 60
        while progress_marks(broken) <= before and process.poll() is None:
            assert time.monotonic() < deadline, "the run makes no progress"
            time.sleep(0.01)
        time.sleep(draws.uniform(0, 0.2))
        if process.poll() is not None:
            break
        crew = workers_of(process.pid)
        if done % 2 and crew:
            os.kill(draws.choice(crew), signal.SIGKILL)
            time.sleep(draws.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
        while any(Path(f"/proc/{pid}/cmdline").exists() and not is_zombie(pid) for pid in crew):
            assert time.monotonic() < deadline, "a worker outlived its parent"
            time.sleep(0.01)
    assert done == kills, f"the run was over after {done} kills; make it longer"
    assert carry_on(grid, broken)
    assert not (broken / "superseded").exists()
    assert all_bits(broken, grid) == all_bits(unbroken, grid)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    kill_chain(tmp_path, kills=3, repeats=4)


@pytest.mark.slow
def test_a_chain_of_twenty_kills_ends_in_the_same_bits(tmp_path: Path) -> None:
    kill_chain(tmp_path, kills=20, repeats=20)


@pytest.mark.parametrize("damage", ["truncate", "flip", "flip the tensors", "unfinished"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_used(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0.2")
    grid = long_grid(3)
    out, whole = tmp_path / "broken", tmp_path / "whole"
    broken_off(grid, out, after=2)
    folder = out / grid.cells[0].folder
    newest = sorted(folder.glob("checkpoint-*.json"))[-1]
    if damage == "unfinished":
        newest.unlink()
    else:
        path = newest.with_suffix(".safetensors") if damage == "flip the tensors" else newest
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content[: len(content) // 2] if damage == "truncate" else bytes(content))
    before = load_checkpoint(folder)
    assert before is not None
    starts: list[int] = []

    def hear(event: events.Event) -> None:
        starts.extend([event.samples_seen] if isinstance(event, events.RunStarted) else [])

    assert execute(folder, share(grid.cells[0].source), hear).complete
    assert starts == [before.progress["samples_seen"]]
    laid_out(grid, whole)
    assert execute(whole / grid.cells[0].folder, share(grid.cells[0].source), lambda event: None).complete
    assert bits(folder) == bits(whole / grid.cells[0].folder)


def test_two_checkpoints_are_kept_and_none_after_the_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in range(4):
        save_checkpoint(folder.path, Checkpoint({"n": number}, {}, {"weights": torch.ones(3) * number}))
    assert len(list(tmp_path.glob("checkpoint-*"))) == 4
    latest = load_checkpoint(folder.path)
    assert latest is not None
    assert (latest.state, latest.tensors["weights"].tolist()) == ({"n": 3}, [3.0, 3.0, 3.0])


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(tmp_path: Path) -> None:
    """A small file system that fills up; the folder moves to a bigger one afterwards."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        grid = long_grid()
        laid_out(grid, small / "out")
        heard: list[events.Event] = []
        folder = small / "out" / grid.cells[0].folder
        free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
        (small / "filler").write_bytes(bytes(free - 24 * 1024))
        assert not execute(folder, share(grid.cells[0].source), heard.append).complete
        failure = heard[-1]
        assert isinstance(failure, events.RunFailed)
        assert "the disk is full at" in failure.message
        assert "free some space and resume" in failure.message
        shutil.copytree(small / "out", tmp_path / "out")
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert carry_on(grid, tmp_path / "out")
    assert carry_on(grid, tmp_path / "whole")
    assert all_bits(tmp_path / "out", grid) == all_bits(tmp_path / "whole", grid)


def test_two_commands_on_one_folder_the_second_is_refused(tmp_path: Path, tiny: Source) -> None:
    out = tmp_path / "out"
    laid_out(resolved(tiny, "er"), out)
    with (
        locked(out),
        pytest.raises(StreamlabError, match=r"out is in use by another streamlab command"),
    ):
        streamlab.run(source=tiny, strategies=["er"], seeds=1, workers=0, out=out, show=False)


def test_a_run_of_a_changed_source_is_moved_aside_and_said(tmp_path: Path, tiny: Source) -> None:
    out = tmp_path / "out"
    grid = resolved(tiny, "er")
    assert carry_on(grid, out)
    (told,) = settle(resolved(make_source(seed=3), "er"), out)
    assert told == "si-blurry/500ex/er/seed-0 is run again: source_digest, plan_fingerprint changed"
    assert (out / "superseded" / "1" / grid.cells[0].folder / "result.json").exists()


def test_workers_and_their_number_change_no_bit(tmp_path: Path, tiny: object) -> None:
    results = []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        streamlab.run(source=tiny, strategies=["er", "slda"], seeds=2, workers=workers, out=out, show=False)
        runs = [*sorted(out.glob("*/*/*/seed-*"))]
        assert len(runs) == 4
        results.append([bits(run) for run in runs])
    assert results[0] == results[1]


def test_a_resumed_simulation_equals_memory_and_disk(tiny: object, tmp_path: Path) -> None:
    """What a folder holds is what a run without a folder computes."""
    experiment = streamlab.run(source=tiny, strategies=["er"], seeds=1, workers=0, out=tmp_path, show=False)
    (run,) = experiment.runs
    record = simulate(tiny, "er").record()
    assert [e.accuracy for e in run.record.evaluations] == [e.accuracy for e in record.evaluations]
    assert run.metrics["a_last"] == record.evaluations[-1].accuracy
