"""What `make gpu` runs goes through on a machine without a GPU, in small, and says that it measured nothing there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("gpu.py")


@pytest.mark.slow
def test_the_rehearsal_goes_through(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--rehearse", "--write", str(tmp_path / "page.md")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for said in (
        "the CPU, rehearsed",
        "| `er` | 19 of 19 |",
        "| `der++`, 10 new",
        "| ResNet-18",
        "## Not measured",
    ):
        assert said in done.stdout
    assert not (tmp_path / "page.md").exists()


@pytest.mark.slow
def test_without_a_gpu_it_is_one_sentence() -> None:
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, check=False, env=hidden
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("torch sees no GPU; --rehearse goes through it")
