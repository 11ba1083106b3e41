"""`streamlab new KIND NAME`: a small installable package with one file, one test and an entry point."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from streamlab import plugins
from streamlab.errors import StreamlabError, unknown

_TRY_IT = {
    "strategy": "streamlab check $name\nstreamlab run si-blurry --strategy $name --strategy er --seeds 2",
    "scenario": "streamlab describe $name",
    "source": "streamlab describe si-blurry --source $name --set scenario.tasks=2",
    "backbone": "streamlab run si-blurry --strategy er --set backbone.name=$name --seeds 1",
}
_GROUPS = {"strategy": "strategies", "scenario": "scenarios", "source": "sources", "backbone": "backbones"}


def make_plugin(kind: str, name: str, into: Path) -> list[Path]:
    """Write the package's files into `into`/NAME; returns them.

    Raises StreamlabError for a kind that is none, a name that no package can have or that is taken,
    or a folder that is there already.
    """
    if kind not in _GROUPS:
        raise unknown("kind of plugin", kind, _GROUPS)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise StreamlabError(f"name {name!r}: write small letters, digits and single hyphens, as my-method")
    group = _GROUPS[kind]
    if name in plugins.names(group):
        raise StreamlabError(f"a {kind} named {name!r} is installed already; choose another name")
    folder = into / name
    if folder.exists():
        raise StreamlabError(f"{folder} is there already; choose another name, or remove it")
    words = name.split("-")
    module, cls = "_".join(words), "".join(word.capitalize() for word in words)
    fields = {
        "kind": kind,
        "group": group,
        "name": name,
        "module": module,
        "cls": cls,
        "attribute": "load" if kind == "source" else cls,
        "title": " ".join([words[0].capitalize(), *words[1:]]),
        "try_it": Template(_TRY_IT[kind]).substitute(name=name),
    }
    contents = {
        f"{module}.py": kind,
        f"test_{module}.py": f"{kind}-test",
        "pyproject.toml": "pyproject",
        "README.md": "README",
    }
    try:
        folder.mkdir(parents=True)
        for file, template in contents.items():
            text = (files("streamlab.cli") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
            (folder / file).write_text(Template(text).substitute(fields), encoding="utf-8")
    except OSError as error:
        raise StreamlabError(f"cannot write to {folder}: {error.strerror}") from None
    return [folder / file for file in contents]
