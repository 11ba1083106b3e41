"""The wheel holds every module of the four folders, and the folders import only what they may."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "streamlab": "streamlab",
    **{name: f"streamlab/{name}" for name in ("scenarios", "strategies", "cli")},
}


def sources() -> dict[str, Path]:
    """Every source file, by its path in the wheel."""
    found = {}
    for folder, inside in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            if "__pycache__" not in path.parts:
                found[f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"] = path
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_wheel_holds_every_module(wheel: zipfile.ZipFile) -> None:
    modules = {name for name in wheel.namelist() if name.endswith(".py")}
    assert modules == set(sources())


def test_the_wheel_holds_the_glyphs_and_their_card(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"streamlab/data/glyphs_100/{name}" for name in ("glyphs-100.npz", "CARD.md")} <= names
    assert "streamlab/py.typed" in names


def test_the_wheel_holds_every_template(wheel: zipfile.ZipFile) -> None:
    templates = {f"streamlab/cli/templates/{path.name}" for path in (ROOT / "cli/templates").iterdir()}
    assert templates
    assert templates <= set(wheel.namelist())


def test_the_kernel_imports_no_plugin_and_plugins_import_the_kernel_only() -> None:
    plugged = ("streamlab.scenarios", "streamlab.strategies", "streamlab.cli")
    for inside, path in sources().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                assert not name.startswith(plugged), f"{inside} imports {name}"


def test_nothing_is_unpickled() -> None:
    for inside, path in sources().items():
        text = path.read_text(encoding="utf-8")
        for word in ("import pickle", "torch.load(", "allow_pickle=True", "joblib"):
            assert word not in text, f"{inside} has {word}"
