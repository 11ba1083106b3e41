"""A stranger's plugin cannot change what runs beside it: its process is its own, and is looked at after it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from making import carry_on, laid_out, make_source, resolved

from streamlab import plugins
from streamlab.data.source import Source, share
from streamlab.runs.folder import RunFolder
from streamlab.simulator.execute import execute
from streamlab.simulator.surroundings import Surroundings

HEAD = """\
'''A strategy that does something to its process.'''
import os, random, signal, sys, time
import numpy as np
import torch
import torch.nn.functional as F
from streamlab import Batch, Strategy

class Harmful(Strategy):
    def losses(self, batch):
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}

    def remember(self, batch):
"""
# What a line of it does, and how that is called.
CHANGES = {
    "torch.set_float32_matmul_precision('medium')": "the precision of matrix products",
    "torch.set_grad_enabled(False)": "whether gradients are taken",
    "torch.set_default_dtype(torch.float64)": "torch's default dtype",
    "torch.set_num_threads(2)": "torch's number of threads",
    "torch.use_deterministic_algorithms(True)": "torch's deterministic algorithms",
    "torch.backends.mkldnn.enabled = False": "torch's backends",
    "torch.nn.modules.module.register_module_forward_hook(lambda *held: None)": "the hooks of all modules",
    "torch.autograd.set_detect_anomaly(True)": "the search for anomalies",
    "torch.nn.ReLU.forward = torch.nn.GELU.forward": "torch.nn.modules.activation.ReLU.forward",
    "torch.optim.Adam.step = torch.optim.Optimizer.zero_grad": "torch.optim.adam.Adam.step",
    "sys.modules['math'].sqrt = sys.modules['math'].exp": "math.sqrt",
    "torch.set_flush_denormal(True)": "the flushing of denormal numbers",
    "torch.set_autocast_enabled('cpu', True)": "automatic casting",
    "np.seterr(all='raise')": "numpy's handling of errors",
    "os.chdir('/')": "the working directory",
    "os.environ['HOME'] = '/'": "the environment",
    "os.environ['STREAMLAB_DATA'] = '/'": "the environment",
    "os.environ['OMP_SCHEDULE'] = 'dynamic'": "the environment",
    "signal.signal(signal.SIGUSR1, signal.SIG_IGN)": "the handlers of signals",
    "sys.setrecursionlimit(5000)": "the limit of recursion",
    "torch.relu = torch.tanh": "torch.relu",
    "F.linear = F.bilinear": "torch.nn.functional.linear",
    "torch.Tensor.add = torch.Tensor.sub": "torch.Tensor.add",
    "torch.optim.Optimizer.zero_grad = lambda self: None": "torch.optim.optimizer.Optimizer.zero_grad",
    "np.mean = np.median": "numpy.mean",
    "random.random = lambda: 0.5": "random.random",
    "__import__('streamlab.memory.buffer').memory.buffer.Buffer.add = lambda self, batch: None":
        "streamlab.memory.buffer.Buffer.add",
}  # fmt: skip


@pytest.fixture(scope="module")
def source() -> Source:
    return make_source(classes=5, train=30, test=6)


def harmful(folder: Path, line: str, name: str = "harmful") -> str:
    path = folder / f"{name}.py"
    path.write_text(HEAD + f"        {line}\n")
    return str(path)


@pytest.mark.parametrize("line", CHANGES)
def test_what_a_run_changes_of_its_process_is_named_and_put_back(
    line: str, source: Source, tmp_path: Path
) -> None:
    """In this process, where it would reach the notebook."""
    before = Surroundings()
    grid = resolved(source, harmful(tmp_path, line))
    laid_out(grid, tmp_path / "out")
    folder = tmp_path / "out" / grid.cells[0].folder
    ended = execute(folder, share(source), lambda event: None)
    assert not ended.complete
    assert not ended.clean
    failure = RunFolder(folder).failure or ""
    assert failure.startswith("harmful: ")
    assert re.search(f"it leaves .*{re.escape(CHANGES[line])}.* otherwise than it found them", failure)
    assert not before.changed()
    assert torch.is_grad_enabled()


def test_a_run_that_fails_is_looked_at_too(source: Source, tmp_path: Path) -> None:
    grid = resolved(source, harmful(tmp_path, "torch.relu = torch.tanh; raise ValueError('enough')"))
    laid_out(grid, tmp_path / "out")
    folder = tmp_path / "out" / grid.cells[0].folder
    assert execute(folder, share(source), lambda event: None) == (False, False)
    failure = RunFolder(folder).failure or ""
    assert re.search("raised ValueError: enough .*; it leaves torch.relu otherwise", failure)
    assert torch.relu is not torch.tanh


def test_a_plugin_that_asks_for_the_end_of_its_process_is_told_so(source: Source, tmp_path: Path) -> None:
    """In a worker, which goes on; and in this process, which would end."""
    ends = harmful(tmp_path, "getattr(self, 'seen', 0) and sys.exit(3); self.seen = 1", "ends")
    said = "ends: it asked for the end of its process (sys.exit(3)); experience 1, step 2"
    for workers in (0, 1):
        assert ended(source, tmp_path / str(workers), ends, workers=workers) == {"ends": said}


def ended(source: Source, out: Path, *strategies: str, **request: Any) -> dict[str, Any]:
    """Each row's metrics, or why it failed, of one command with one worker."""
    grid = resolved(source, *strategies, **{"workers": 1, **request})
    carry_on(grid, out)
    folders = {cell.spec.label: RunFolder(out / cell.folder) for cell in grid.cells}
    return {
        label: folder.failure if folder.result is None else folder.result["metrics"]
        for label, folder in folders.items()
    }


@pytest.mark.parametrize(
    "line",
    [
        "torch.set_float32_matmul_precision('medium'); torch.Tensor.add_ = torch.Tensor.sub_",
        # What no list of settings has: a constant that our own losses would read.
        "sys.modules['streamlab.randomness'].__dict__['hashed'] = None; os._exit(0)",
    ],
)
def test_rows_beside_a_stranger_end_in_their_own_bits(line: str, source: Source, tmp_path: Path) -> None:
    alone = ended(source, tmp_path / "alone", "er")["er"]
    both = ended(source, tmp_path / "both", harmful(tmp_path, line), "er")
    assert both["er"] == alone
    assert isinstance(both["harmful"], str)


def test_strangers_and_ours_never_share_a_process(source: Source, tmp_path: Path) -> None:
    note = f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{type(self).__module__}} {{os.getpid()}}\\n')"
    files = [harmful(tmp_path, note, name) for name in ("one", "two")]
    found = ended(source, tmp_path / "out", files[0], "er", files[1], "finetune", seeds=2, workers=2)
    assert not [value for value in found.values() if isinstance(value, str)]
    rows = {tuple(line.split()) for line in (tmp_path / "pids").read_text().splitlines()}
    processes = {name: {pid for one, pid in rows if one == name} for name, _ in rows}
    assert len(processes) == 2
    assert not set.intersection(*processes.values())


def test_who_is_a_stranger() -> None:
    for kind, name in (
        ("strategies", "er"), ("strategies", "avalanche:Replay"), ("backbones", "timm"),
        ("augmentations", "none"), ("optimizers", "adam"), ("schedules", "cosine"),
    ):  # fmt: skip
        assert plugins.is_ours(kind, name)
    assert not plugins.is_ours("strategies", "/home/someone/mine.py")
    assert not plugins.is_ours("strategies", "unheard-of")


def wait_until_gone(process: int) -> None:
    """It has ended, though nobody may have asked how."""
    stat, deadline = Path(f"/proc/{process}/stat"), time.monotonic() + 20
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.02)


def test_a_plugin_that_forks_does_not_run_twice(source: Source, tmp_path: Path) -> None:
    """Its second process ends; one that lives on holds up nothing, and dies with the command."""
    quiet = f"(os.fork() == 0 and (open({str(tmp_path / 'child')!r}, 'a').write(f'{{os.getpid()}} '), time.sleep(600)))"
    for number, line in enumerate(("os.fork() and time.sleep(3)", quiet)):
        guard = f"self.forked = getattr(self, 'forked', 0) + 1; self.forked == 2 and {line}"
        out = tmp_path / str(number)
        found = ended(source, out, harmful(tmp_path, guard, f"forks{number}"), "er")
        assert not isinstance(found[f"forks{number}"], str)
        log = next(out.rglob(f"*forks{number}*/**/events.jsonl")).read_text()
        assert log.count("RunEnded") == 1
        assert not [*out.rglob("failure.json"), *out.rglob("traceback.txt")]
    wait_until_gone(int((tmp_path / "child").read_text()))


def test_a_plugin_that_hangs_is_stopped_and_the_rest_goes_on(source: Source, tmp_path: Path) -> None:
    hangs = harmful(tmp_path, "getattr(self, 'slept', 0) or time.sleep(60); self.slept = 1", "hangs")
    found = ended(source, tmp_path / "out", hangs, "er", patience=8.0)
    assert found["hangs"] == (
        "hangs: nothing was heard of it for 8 s (--patience), and it was stopped; the run can be resumed"
    )
    assert not isinstance(found["er"], str)


def test_what_a_plugin_prints_is_kept_in_a_file_alone(source: Source, tmp_path: Path) -> None:
    prints = harmful(tmp_path, "getattr(self, 'told', 0) or print('x' * 5_000_000); self.told = 1", "prints")
    found = ended(source, tmp_path / "out", prints)
    assert not isinstance(found["prints"], str)
    assert (tmp_path / "out" / "workers.log").stat().st_size >= 5_000_000


def test_a_worker_takes_what_was_forked_with_it(tmp_path: Path) -> None:
    """Where its parent is killed, its input closes."""
    program = (
        "import os, sys, threading, time, queue\n"
        "from streamlab.simulator import worker\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(600)\n"
        "print(child, flush=True)\n"
        "worker._read_jobs(queue.Queue())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.stdin.close()
    assert process.wait() == -signal.SIGKILL
    wait_until_gone(child)
