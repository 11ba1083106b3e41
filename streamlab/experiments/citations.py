"""What to cite: the BibTeX that the parts of a run declare (`CITATION` in a plugin's module)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .. import plugins
from ..data.names import plugin_of, several
from ..runs.spec import load_strategy
from .held import read_runs

OWN = """@software{streamlab,
  title = {streamlab: continual and few-shot learning, simulated},
  author = {{The streamlab developers}},
  year = {2026},
}"""


def citations(folder: Path) -> list[str]:
    """BibTeX entries of the run or the experiment in this folder: ours, then its parts', each once.

    Parts that declare none are left out. Raises StreamlabError where the folder holds no run.
    """
    parts: list[Any] = []
    for spec in [run.spec for run in read_runs(folder)]:
        strategy = load_strategy(spec.strategy)
        backbone = str({**strategy.backbone, **spec.backbone}.get("name", "mlp"))
        parts += [
            plugins.load("scenarios", spec.scenario),
            *(plugins.load("sources", plugin_of(source)) for source in several(spec.source)),
            strategy,
            plugins.load("backbones", backbone),
        ]
    found = [_citation(part) for part in parts]
    return list(dict.fromkeys([OWN, *filter(None, found)]))


def _citation(part: Any) -> str:
    """The entry that the module of a plugin declares."""
    owner = getattr(part, "load", part)
    module = sys.modules.get(getattr(owner, "__module__", ""), None)
    return str(getattr(module, "CITATION", "")).strip()
