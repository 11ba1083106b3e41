"""The docs are true: every code block runs, everything has its heading, the command's page is generated.

A block that needs a network, a GPU or more than 5 s says so in a comment above it (`<!-- not run:
reason -->`); of such a block, Python is parsed, every `streamlab run` and `compare` is checked by
`--dry-run`, on the bundled glyphs where it names a source that is not there, and a recipe of `compare` is
resolved into its cells.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from archives import ARCHIVES
from making import write_every_source
from typer.testing import CliRunner

import streamlab
from streamlab import plugins
from streamlab.experiments.export import TABLES
from streamlab.experiments.grid import prepare_grid
from streamlab.experiments.request import Request, read_recipe
from streamlab.recipes import path_of
from streamlab.simulator.events import EVENTS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: Path) -> list[re.Match[str]]:
    return list(BLOCK.finditer(page.read_text(encoding="utf-8")))


WITH_CODE = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_run(page: Path, tmp_path: Path) -> None:
    """A page's blocks run in order in one folder; Python blocks share their names."""
    script: list[str] = []
    for block in blocks(page):
        code = block["code"]
        if block["title"]:
            (tmp_path / block["title"]).write_text(code, encoding="utf-8")
        if block["language"] == "python":
            compile(code, f"{page.name}", "exec")
            script += [] if block["reason"] else [code]
        elif block["language"] == "bash":
            for command in commands(code):
                if block["reason"]:
                    if not command.startswith(("streamlab run ", "streamlab compare ")):
                        continue
                    recipe = command.split()[2]
                    if recipe.startswith("recipe:"):
                        assert Request(**read_recipe(path_of(recipe))).strategies
                        continue
                    if command.startswith("streamlab compare ") and recipe.endswith(".toml"):
                        prepare_grid(Request(**read_recipe(tmp_path / recipe)))
                        continue
                    command = re.sub(r"--source \S+", "--source glyphs-100", command) + " --dry-run"
                run(command, tmp_path)
    if script:
        (tmp_path / "page.py").write_text("\n".join(script), encoding="utf-8")
        run(f"{sys.executable} page.py", tmp_path)


def commands(code: str) -> list[str]:
    joined = code.replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in joined.splitlines() if line.strip()]


def run(command: str, folder: Path) -> None:
    """A shell's command line; streamlab's own in this process, which saves importing torch each time."""
    if command.startswith("streamlab "):
        from streamlab.cli.main import app

        with contextlib.chdir(folder):
            invoked = CliRunner().invoke(app, shlex.split(command)[1:])
        assert invoked.exit_code == 0, f"{command}\n{invoked.output}\n{invoked.exception!r}"
        return
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        command, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def headings(page: str) -> set[str]:
    text = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    return set(re.findall(r"^## (\S+)$", text, re.MULTILINE))


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_plugin_has_its_heading(kind: str) -> None:
    built_in = {p.name for p in plugins.installed(kind) if p.distribution == "streamlab-cl"}
    assert headings(f"{kind}.md") == built_in


def test_every_event_has_its_heading() -> None:
    assert headings("events.md") == set(EVENTS)


def test_the_table_of_streams_and_sources_is_whole_and_each_command_runs(tmp_path: Path) -> None:
    """In one process, on small data in every format; what is told of an archive is what is read."""
    from streamlab.cli.main import app

    page = (ROOT / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:`(\S+)`)? \| .* \| `streamlab (.*)` \|$", page, re.MULTILINE)
    named = {name for name, _ in rows if name}
    assert named == {*plugins.names("scenarios"), *plugins.names("sources")}
    write_every_source(tmp_path)
    for name, make in ARCHIVES.items():
        make(tmp_path / "data" / plugins.load("sources", name).folder)
    listed = [f"class-{n % 2}/{n // 2}.png,{n % 2}" for n in range(6)]
    (tmp_path / "pictures" / "list.csv").write_text("\n".join(["file,label", *listed]))
    pictures = [str(tmp_path / "pictures" / line.split(",")[0]) for line in listed]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    told = {"image": pictures, "label": [n % 2 for n in range(6)]}
    datasets.Dataset.from_dict(told, features=kinds).save_to_disk(str(tmp_path / "table"))
    places = {
        "csv:": f"csv:{tmp_path}/",
        "hf:": f"hf:{tmp_path}/",
        "folder:": f"folder:{tmp_path}/",
        "npz:": f"npz:{tmp_path}/",
    }
    places["plan_file="] = f"plan_file={tmp_path}/"
    streamlab.plan("si-blurry", "glyphs-100").save(tmp_path / "plan.safetensors")
    for name, command in rows:
        for short, whole in places.items():
            command = command.replace(short, whole)
        done = CliRunner().invoke(app, [*command.split(), "--data", str(tmp_path / "data")])
        assert done.exit_code == 0, f"{name}: {command}\n{done.output}\n{done.exception}"
        assert "fingerprint" in done.output


def test_every_option_of_a_plugin_is_in_the_reference() -> None:
    for kind in ("scenarios", "strategies", "backbones"):
        text = (ROOT / "docs" / "reference" / f"{kind}.md").read_text(encoding="utf-8")
        for name in plugins.names(kind):
            found = plugins.load(kind, name)
            options = found.options_type() if kind == "strategies" else found
            section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
            for field in dataclasses.fields(options):
                assert f"`{field.name}`" in section, f"{kind} {name}: {field.name}"


def test_every_column_of_an_exported_table_is_told_of() -> None:
    text = (ROOT / "docs/how-to/export.md").read_text(encoding="utf-8")
    for table, columns in TABLES.items():
        section = text.split(f"### `{table}`")[1].split("\n##")[0]
        told = re.findall(r"^\| (`.*`) \| (.*) \|$", section, re.MULTILINE)
        meaning = {name: said for names, said in told for name in re.findall(r"`(\w+)`", names)}
        assert list(meaning) == [column.name for column in columns]
        for column in columns:
            said = re.sub(r" \(\[.*\]\(.*\)\)", "", meaning[column.name]).replace("`", "")
            assert said in (column.meaning, "as above")


PUBLIC = {
    "parts.md": ("Parts for strategies", """
streamlab.parts.losses streamlab.parts.heads streamlab.parts.teacher streamlab.parts.gradients
streamlab.parts.regulariser streamlab.parts.prototypes streamlab.evaluation.features streamlab.parts.expansion
streamlab.parts.rehearsal streamlab.parts.current_batch streamlab.parts.presets streamlab.parts.adapted streamlab.parts.mixing streamlab.parts.passes streamlab.parts.first_session streamlab.parts.gaussians streamlab.parts.svm streamlab.nets.adapters streamlab.augmentation.views streamlab.augmentation.operations streamlab.memory.buffer streamlab.memory.policies streamlab.nets.network
streamlab.nets.optimizer streamlab.schedules streamlab.randomness""".split()),
    "api.md": ("Classes and functions", """
streamlab.api streamlab.trained streamlab.strategy streamlab.learner streamlab.needs streamlab.account streamlab.setting streamlab.base_training streamlab.batch streamlab.config streamlab.training streamlab.augmentation.pipelines streamlab.preprocess streamlab.plans.stream streamlab.planning streamlab.data.source
streamlab.evaluation.record streamlab.evaluation.metrics streamlab.evaluation.intervals streamlab.memory.ledger
streamlab.experiments.request streamlab.experiments.budgets streamlab.experiments.export streamlab.listeners streamlab.check.subject streamlab.check.plans streamlab.check.sources streamlab.check.outcomes streamlab.errors""".split()),
}  # fmt: skip


def reference_page(title: str, modules: list[str]) -> str:
    """A page made of docstrings: every public class and function of these modules."""
    lines = [f"# {title}", "", "Made of docstrings by `python tests/test_docs.py`; a test compares it.", ""]
    for name in modules:
        module = importlib.import_module(name)
        lines += [f"## {name}", "", *quoted(module), ""]
        for own, value in vars(module).items():
            if getattr(value, "__module__", "") == name and own[0] != "_" and callable(value):
                lines += [f"### {own}", "", *signature(own, value), *quoted(value), ""]
                members = vars(value).items() if inspect.isclass(value) else ()
                for member, method in members:
                    method = getattr(method, "fget", None) or getattr(method, "__func__", method)
                    method = getattr(method, "func", method)  # a cached property
                    if member[0] != "_" and inspect.isfunction(method) and method.__doc__:
                        first = inspect.cleandoc(method.__doc__).split("\n\n")[0]
                        lines.append(f"- `{own}.{member}`: {' '.join(first.split())}")
                lines += [""] if members else []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def signature(name: str, value: object) -> list[str]:
    """Of functions and dataclasses, with annotations as they are written."""
    if inspect.isclass(value) and not dataclasses.is_dataclass(value):
        return []
    names = [str(parameter).split(" = <")[0] for parameter in inspect.signature(value).parameters.values()]
    text = f"{name}({', '.join(names)})".replace("'", "")
    # A set shows its members in another order in each process.
    text = re.sub(
        r"frozenset\({(.*?)}\)", lambda found: f"{{{', '.join(sorted(found[1].split(', ')))}}}", text
    )
    return ["```text", text, "```", ""]


def quoted(value: object) -> list[str]:
    return [
        line.replace("<", "&lt;").replace("*", "\\*") for line in (inspect.getdoc(value) or "").splitlines()
    ]


def every_command() -> list[str]:
    """Every command there is, groups before what they hold, by a walk over the app."""
    from typer.main import get_command

    from streamlab.cli.main import app

    def walk(command: Any, path: str) -> Iterator[str]:
        yield path
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{path} {name}".strip())

    return list(walk(get_command(app), ""))


def generated_page() -> str:
    """The command's page, from its own help at 100 columns and without colour."""
    from streamlab.cli.main import app

    runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "TERMINAL_WIDTH": "100"})
    parts = ["# The command", "", "Generated by `python tests/test_docs.py`; a test compares it.", ""]
    for command in every_command():
        shown = runner.invoke(app, [*command.split(), "--help"], prog_name="streamlab").output
        lines = "\n".join(line.rstrip() for line in shown.strip().splitlines())
        parts += [f"## streamlab {command}".rstrip(), "", "```text", lines, "```", ""]
    return "\n".join(parts)


@pytest.mark.parametrize("page", PUBLIC)
def test_the_reference_is_what_the_docstrings_say(page: str) -> None:
    assert (ROOT / "docs/reference" / page).read_text(encoding="utf-8") == reference_page(*PUBLIC[page])


def test_the_commands_page_is_what_help_says() -> None:
    assert (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8") == generated_page()


if __name__ == "__main__":
    for file, contents in PUBLIC.items():
        (ROOT / "docs/reference" / file).write_text(reference_page(*contents), encoding="utf-8")
    (ROOT / "docs/reference/cli.md").write_text(generated_page(), encoding="utf-8")
