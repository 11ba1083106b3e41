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
            if not {"__pycache__", "maker"} & set(path.parts):  # makers of shipped data are not shipped
                found[f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"] = path
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a source distribution, so that both are whole, and no older build can mix in."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
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


# The kernel's floors: a module imports what lies below its own, and its neighbours in the same folder.
FLOORS = (
    (
        "errors",
        "randomness",
        "batch",
        "config",
        "training",
        "schedules",
        "augmentation",
        "preprocess",
        "device",
        "files",
        "cached",
        "plugins",
        "docstrings",
    ),
    ("plans",),
    ("data",),
    ("planning", "stream_options", "noise"),
    ("nets",),
    ("memory",),
    ("parts",),
    ("base_training", "setting", "needs", "account", "learner", "strategy"),
    ("evaluation",),
    ("runs",),
    ("simulator", "trained"),
    ("experiments", "listeners"),
    ("report",),
    ("recipes",),
    ("api", "check", "interop", "__init__"),
)


def imported(module: str, path: Path) -> set[str]:
    """The kernel's modules that a module of it imports, at the top or inside a function."""
    modules = {name.removesuffix(".py").removesuffix("/__init__") for name in sources()}
    package = Path(module) if path.name == "__init__.py" else Path(module).parent
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [package, *package.parents][node.level - 1]
            inside = base.joinpath(*(node.module or "").split("."))
            for alias in node.names:
                named = (inside / alias.name).as_posix()
                found.add(named if named in modules else inside.as_posix())
    return found - {module}


def kernel() -> dict[str, set[str]]:
    """Every module of the kernel, as streamlab/plans/stream, and what it imports."""
    graph = {}
    for name, path in sources().items():
        if (ROOT / "streamlab") in path.parents:
            module = name.removesuffix(".py").removesuffix("/__init__")
            graph[module] = imported(module, path)
    return graph


def test_no_module_imports_from_a_floor_above_its_own() -> None:
    floors = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

    def floor(module: str) -> int:
        parts = module.split("/")
        return floors[parts[1] if len(parts) > 1 else "__init__"]

    upward = [
        f"{module} imports {other}"
        for module, others in kernel().items()
        for other in others
        if floor(other) > floor(module)
    ]
    assert upward == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = kernel()
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for other in sorted(graph.get(module, ())):
            walk(other, (*path, module))
        done.add(module)

    for module in graph:
        walk(module, ())


# The kernel proper: the plan, the loop, the seam, memory, the evaluator and its records, the run folder,
# configuration, plugins. Not what is built on it or for it: supervised training, metrics, parts, a cache.
KERNEL = """
plans/* planning.py strategy.py learner.py needs.py account.py setting.py base_training.py batch.py memory/*
simulator/online.py simulator/sessions.py simulator/episodes.py simulator/simulation.py simulator/view.py
simulator/stream_simulation.py simulator/episode_simulation.py simulator/assembly.py simulator/execute.py simulator/pool.py
simulator/worker.py simulator/events.py simulator/resources.py evaluation/evaluator.py
evaluation/episode_evaluator.py evaluation/record.py evaluation/episode_record.py evaluation/metrics.py runs/*
config.py plugins.py errors.py files.py randomness.py device.py
""".split()


def test_the_kernel_proper_stays_small() -> None:
    found = [
        path for pattern in KERNEL for path in (ROOT / "streamlab").glob(pattern) if path.suffix == ".py"
    ]
    assert len(found) > len(KERNEL)
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in found) < 7100


def test_no_file_and_no_function_outgrows_a_reader() -> None:
    """A file under 400 lines, a function under 60, with fewer than 9 parameters beside self."""
    grown = []
    for inside, path in sources().items():
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) >= 400:
            grown.append(f"{inside} is long")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = len(given) - sum(one.arg in ("self", "cls") for one in given[:1])
                if (node.end_lineno or 0) - node.lineno + 1 >= 60:
                    grown.append(f"{inside}: {node.name} is long")
                if count >= 9:
                    grown.append(f"{inside}: {node.name} takes {count} parameters")
    assert grown == []


def test_a_stranger_reads_the_seam_in_five_minutes() -> None:
    """strategy.py: under 200 lines, at most 12 attributes to set and 20 methods to know."""
    path = ROOT / "streamlab" / "strategy.py"
    text = path.read_text(encoding="utf-8")
    (seam,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    attributes = [node for node in seam.body if isinstance(node, ast.AnnAssign)]
    methods = [node for node in seam.body if isinstance(node, ast.FunctionDef)]
    assert len(text.splitlines()) < 200
    assert len(attributes) <= 12
    assert len(methods) <= 20


def test_nothing_is_unpickled() -> None:
    """`streamlab convert` alone opens a pickle, which runs no code of it (tests/streamlab/test_timm.py)."""
    converts = 'torch.load(source, map_location="cpu", weights_only=True)'
    for inside, path in sources().items():
        text = path.read_text(encoding="utf-8")
        if inside == "streamlab/nets/convert.py":
            assert text.count("torch.load(") == text.count(converts) == 1
            text = text.replace(converts, "")
        for word in ("import pickle", "torch.load(", "allow_pickle=True", "joblib"):
            assert word not in text, f"{inside} has {word}"
