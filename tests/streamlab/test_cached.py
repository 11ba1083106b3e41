"""What is kept in the cache is listed, used things stay, and the rest goes when it is told to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamlab.cached import bytes_of, kept, prune
from streamlab.cli.main import app
from streamlab.data.source import Source, open_shared, share
from streamlab.errors import StreamlabError

DAY = 86400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of three things: of ten days ago, of two days ago, of now."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "streamlab"
    for name, days in (("base/old", 10), ("decoded/older", 2), ("base/new", 0)):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(bytes(1000))
        os.utime(folder, (time.time() - days * DAY,) * 2)
    (root / "data").mkdir()
    (root / "data" / "mnist").write_bytes(bytes(5000))
    return root


def test_the_least_recently_used_goes_first_and_nothing_of_today(cache: Path) -> None:
    assert [one.path.name for one in kept()] == ["old", "older", "new"]
    assert prune(3000) == []
    assert [one.path.name for one in prune(2000)] == ["old"]
    assert [one.path.name for one in prune(0)] == ["older"]
    assert [one.path.name for one in kept()] == ["new"]
    assert (cache / "data" / "mnist").exists()


def test_a_file_of_two_names_counts_once(cache: Path) -> None:
    (cache / "shared").mkdir()
    os.link(cache / "base/old/weights", cache / "shared/linked")
    assert bytes_of(kept()) == 3000


def test_what_a_run_reads_is_used(cache: Path, tiny: Source) -> None:
    folder = share(tiny)
    os.utime(folder, (0, 0))
    assert kept()[0].path == folder
    open_shared(folder)
    assert kept()[-1].path == folder


def test_the_command_lists_and_removes(cache: Path) -> None:
    shown = CliRunner().invoke(app, ["cache", "--keep", "2kB"]).output
    assert "removed 1, 1000 B" in shown
    assert "trained base sessions" in shown
    assert "CACHE/base" in shown
    wrong = CliRunner().invoke(app, ["cache", "--keep", "5ex"])
    assert isinstance(wrong.exception, StreamlabError)
    assert "should be bytes" in str(wrong.exception)
