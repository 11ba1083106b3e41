"""The kit: `streamlab new` makes what works as it is, `streamlab check` says what does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from streamlab.check import strategy_checks

COMMAND = str(Path(sys.executable).parent / "streamlab")
KINDS = {
    "strategy": "kit-strategy",
    "scenario": "kit-scenario",
    "source": "kit-source",
    "backbone": "kit-backbone",
}


def call(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, capture_output=True, text=True, cwd=cwd, check=False, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """One plugin of each kind, installed as a stranger would; and the environment in which they are."""
    folder = tmp_path_factory.mktemp("kit")
    for kind, name in KINDS.items():
        done = call(COMMAND, "new", kind, name, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert f"next: pip install -e {name}" in done.stdout
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        "site",
    ]
    done = call(*pip, *(f"./{name}" for name in KINDS.values()), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, {"PYTHONPATH": str(folder / "site")}


def test_new_plugins_are_listed_and_their_own_tests_pass(made: tuple[Path, dict[str, str]]) -> None:
    folder, environment = made
    listed = call(COMMAND, "list", cwd=folder, **environment).stdout
    for name in KINDS.values():
        title = name.capitalize().replace("-", " ")
        assert re.search(rf"^  {name} +{title}: say in one line .*\[{name}\]$", listed, re.MULTILINE), listed
    tests = [f"{name}/test_{name.replace('-', '_')}.py" for name in KINDS.values()]
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    done = call(*pytest_, *tests, cwd=folder, **environment)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d\d passed", done.stdout)


def test_a_strangers_plugins_stand_in_the_live_table(
    made: tuple[Path, dict[str, str]],
) -> None:
    folder, environment = made
    arguments = ["run", "kit-scenario", "--source", "kit-source", "--set", "scenario.tasks=2", "--seeds", "1"]
    arguments += [part for name in ("kit-strategy", "er", "der++") for part in ("--strategy", name)]
    arguments += ["--set", "backbone.name=kit-backbone", "--budget", "40kB", "--out", "out"]
    child = pexpect.spawn(
        COMMAND, arguments, cwd=str(folder), env={**os.environ, **environment}, dimensions=(24, 80),
        encoding="utf-8", timeout=90,
    )  # fmt: skip
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", child.before)
    assert "kit-scenario on kit-source · 400 samples in 2 experiences · 40kB · 1 seed" in shown
    for name in ("kit-strate", "er ", "der++"):
        assert re.search(rf"{re.escape(name)}\S* +done", shown), shown


def test_what_new_cannot_make_is_refused(tmp_path: Path) -> None:
    def refusal(*arguments: str) -> str:
        done = call(COMMAND, "new", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        return done.stderr

    assert (
        refusal("stratgy", "mine")
        == "streamlab: unknown kind of plugin 'stratgy'; did you mean 'strategy'?\n"
    )
    assert "write small letters, digits and single hyphens" in refusal("strategy", "My_Method")
    assert "a strategy named 'er' is installed already" in refusal("strategy", "er")
    (tmp_path / "mine").mkdir()
    assert (
        refusal("strategy", "mine") == "streamlab: mine is there already; choose another name, or remove it\n"
    )


def test_check_names_the_fault_the_line_and_why(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(
        '"""Faulty."""\nimport random\n\nimport torch\nimport torch.nn.functional as F\n\n'
        "from streamlab import Strategy\n\n\nclass Faulty(Strategy):\n    def setup(self):\n"
        "        self.means = torch.zeros(3, device=self.setting.device)\n\n    def losses(self, batch):\n"
        "        scale = random.random()\n"
        '        return {"task": scale * F.cross_entropy(self.net(batch.images), batch.labels)}\n'
    )
    done = call(COMMAND, "check", "./faulty.py", cwd=tmp_path)
    assert done.returncode == 1
    shown = re.sub(r"\s+", " ", done.stdout)
    assert "✗ The ledger finds a kind for every byte that it holds." in shown
    assert "means holds 12 bytes of no kind (faulty.py, line 12)" in shown
    assert 'A report that shows bytes as "other" cannot be compared' in shown
    assert "it draws from Python's global generator (faulty.py, line 15)" in shown
    count = len(list(strategy_checks())) + 1  # and what an accelerator would meet
    assert re.search(
        rf"{count - 2} of {count} promises kept; a step takes [\d.]+ ms, finetune's [\d.]+ ms", shown
    )


def test_check_as_json_is_one_object() -> None:
    from typer.testing import CliRunner

    from streamlab.cli.main import app

    done = CliRunner().invoke(app, ["check", "finetune", "--json"])
    plain = json.loads(done.stdout)
    assert plain["strategy"] == "finetune"
    assert {outcome["status"] for outcome in plain["outcomes"]} == {"kept"}
    assert {"check", "promise", "why", "status", "message", "line"} == set(plain["outcomes"][0])


def test_a_plugin_that_is_wrong_leaves_the_others_working(tmp_path: Path) -> None:
    """One whose import fails, and one whose name is taken."""
    site = tmp_path / "site"
    for name, module, group in (("broken", "broken_import", "strategies"), ("er", "other_er", "strategies")):
        about = site / f"{module}-1.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[streamlab.{group}]\n{name} = {module}:Strategy\n")
    (site / "broken_import.py").write_text('"""Broken."""\nimport no_such_module\n')
    (site / "other_er.py").write_text('"""Another er."""\n')
    both = {"PYTHONPATH": str(site)}
    taken = call(COMMAND, "run", "si-blurry", "--strategy", "er", "--dry-run", cwd=tmp_path, **both)
    assert taken.returncode == 2
    assert "two plugins are named 'er'" in taken.stderr
    assert "uninstall one of them" in taken.stderr
    works = call(
        COMMAND,
        "run",
        "si-blurry",
        "--strategy",
        "finetune",
        "--seeds",
        "1",
        "--dry-run",
        cwd=tmp_path,
        **both,
    )
    assert works.returncode == 0, works.stderr
    failing = call(COMMAND, "run", "si-blurry", "--strategy", "broken", "--dry-run", cwd=tmp_path, **both)
    assert failing.stderr == (
        "streamlab: strategy 'broken' cannot be imported from broken_import:Strategy: "
        "ModuleNotFoundError: No module named 'no_such_module'\n"
    )
