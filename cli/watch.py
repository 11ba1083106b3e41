"""Runs an experiment under the view that suits, and says how it is gone on with where it is stopped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from streamlab.errors import StreamlabError
from streamlab.experiments.grid import Grid
from streamlab.experiments.layout import new_folder
from streamlab.experiments.request import Request
from streamlab.experiments.run import Watcher, run_experiment

from .lines import hanging
from .views import fitting_view


def watch_experiment(request: Request, out: Path | None, json_lines: bool, report: bool) -> Path:
    """Run an experiment, or what is left of it, and write its report where wanted; exit 1 if a run failed.

    Returns the folder.
    """
    folder = out or new_folder(request)
    make = fitting_view(json_lines)

    def watch(grid: Grid, title: str) -> AbstractContextManager[Watcher]:
        return make(grid, title, folder)

    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    with _resumable(folder):
        complete = run_experiment(request, folder, watch, tell)
    if report and not json_lines:
        try:
            print_report([folder], folder, None)
        except StreamlabError as error:  # no run is complete, say
            print(f"\nno report: {error}", file=sys.stderr)
    if not complete:
        print(f"\nnot complete; go on with: streamlab resume {folder}", file=sys.stderr)
        raise SystemExit(1)
    return folder


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Around what works in a folder: stopped, or without room on the disk, it says in a line how to go on.

    Raises SystemExit(130) for the former, StreamlabError for the latter.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nstopped; go on with: streamlab resume {folder}", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        raise StreamlabError(
            f"cannot write to {folder}: {error.strerror}; then go on with streamlab resume {folder}"
        ) from None


def print_report(folders: list[Path], out: Path, reference: str | None) -> None:
    """Write the report, and say where it is and what it opens with."""
    from streamlab.report.findings import findings
    from streamlab.report.gather import gather
    from streamlab.report.write import write_report

    gathered = gather(folders, reference)
    written = write_report(gathered, out)
    print()
    print(hanging("", " ".join(findings(gathered))))
    print("\n" + "  ".join(str(path) for path in written))
