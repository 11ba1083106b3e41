"""`streamlab runs export`: results and networks leave in forms that other tools read."""

from __future__ import annotations

from pathlib import Path

from streamlab.errors import unknown
from streamlab.experiments.export import FORMS, export_tables
from streamlab.experiments.held import read_runs


def export_runs(folder: Path, form: str, out: Path) -> None:
    """Write the tables, or a model folder a run; prints what was written."""
    if form not in (*FORMS, "hf"):
        raise unknown("form to export to", form, (*FORMS, "hf"))
    runs = read_runs(folder)
    if form == "hf":
        from streamlab.trained import export_model

        for run in runs:
            inside = run.path.relative_to(folder)
            print(export_model(run.path, out / inside))
        return
    for path in export_tables(runs, form, out):
        print(path)
