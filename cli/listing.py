"""`streamlab runs list`: what was run. It imports neither torch nor numpy, so that it answers at once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from streamlab.errors import StreamlabError
from streamlab.experiments.held import FILE, read_experiment


def print_experiments(folder: Path) -> None:
    """One line an experiment below `folder`, newest first."""
    found = sorted(folder.glob(f"**/{FILE}"), key=lambda path: -path.stat().st_mtime)
    if not found:
        raise StreamlabError(f"no experiments lie below {folder}")
    for path in found:
        about = read_experiment(path.parent)
        cells = about["cells"]
        complete = sum((path.parent / cell["folder"] / "result.json").exists() for cell in cells)
        labels = ", ".join(dict.fromkeys(cell["label"] for cell in cells))
        scenarios = " and ".join(about["budgets"])
        when = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        state = "complete" if complete == len(cells) else f"{complete} of {len(cells)} complete"
        print(f"{path.parent}  {when}  {scenarios} on {about['request']['source']}  {labels}  {state}")
