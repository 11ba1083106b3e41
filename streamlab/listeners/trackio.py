"""Trackio: a run of theirs a run, on this machine unless a space is named; resumed runs go on."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..experiments.held import HeldRun
from . import Listening, Tracker, library, name_of, settings_of


@dataclass(frozen=True)
class Trackio:
    """project: theirs (not given: the name of the experiment's folder). space: of the hub, as USER/NAME."""

    project: str = ""
    space: str = ""

    def begin(self, experiment: Path) -> Listening:
        theirs = library("trackio", "trackio", "trackio")
        project = self.project or experiment.resolve().name
        current: list[str] = []  # theirs has one run at a time, and goes back to one by its name

        def turn_to(name: str, config: Mapping[str, object] | None = None) -> None:
            if current == [name]:
                return
            with contextlib.redirect_stdout(io.StringIO()):  # a table may be drawn there
                theirs.init(
                    project=project, name=name, group=experiment.resolve().name, config=config,
                    space_id=self.space or None, resume="allow", embed=False,
                    auto_log_gpu=False, auto_log_cpu=False,
                )  # fmt: skip
            current[:] = [name]

        def start(run: HeldRun) -> str:
            turn_to(name_of(run), settings_of(run))
            return name_of(run)

        def log(name: str, numbers: Mapping[str, float], step: int) -> None:
            turn_to(name)
            theirs.log(dict(numbers), step=step)

        def end(name: str, metrics: Mapping[str, float], failure: str | None) -> None:
            turn_to(name)
            if metrics:
                theirs.log({f"final/{key}": value for key, value in metrics.items()})
            with contextlib.redirect_stdout(io.StringIO()):
                theirs.finish()
            current.clear()

        return Tracker(start, log, end)
