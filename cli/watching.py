"""A command that is watched: the view that suits what it writes to, and how it ends when it is stopped."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from streamlab.errors import StreamlabError
from streamlab.experiments.experiment import Experiment, run_experiment
from streamlab.experiments.tensorboard import also_to_tensorboard

from .plain import JsonView, PlainView
from .view import LiveView


def fitting_view(json_lines: bool) -> Literal["json", "live", "plain"]:
    """What suits whoever reads: a machine that asked for it, a terminal, or a file or pipe."""
    if json_lines:
        return "json"
    return "live" if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else "plain"


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
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


def expect(complete: bool, folder: Path) -> None:
    """Exit with 1, and say how to go on, where something is not complete."""
    if not complete:
        print(f"\nnot complete; go on with: streamlab resume {folder}", file=sys.stderr)
        raise SystemExit(1)


def watch_experiment(
    experiment: Experiment,
    folder: Path,
    workers: int | None,
    json_lines: bool,
    tensorboard: Path | None = None,
) -> None:
    """Run an experiment under a live table, plain lines or JSON; exit 1 if a run failed."""
    views = {"json": JsonView, "live": LiveView, "plain": PlainView}
    view = views[fitting_view(json_lines)](experiment, folder)
    with resumable(folder), view, also_to_tensorboard(tensorboard, view.hear) as hear:
        complete = run_experiment(experiment, folder, workers, hear, view.tick)
    expect(complete, folder)
