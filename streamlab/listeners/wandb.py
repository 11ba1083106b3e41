"""Weights & Biases: a run of theirs a run, grouped by experiment; resumed runs go on where they were."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..experiments.held import HeldRun
from . import Listening, Tracker, library, name_of, settings_of


@dataclass(frozen=True)
class WeightsAndBiases:
    """project, entity: theirs. mode: offline keeps everything in the experiment's folder, for `wandb sync`
    (not given: what WANDB_MODE says).
    """

    project: str = "streamlab"
    entity: str = ""
    mode: Literal["", "online", "offline"] = ""

    def begin(self, experiment: Path) -> Listening:
        theirs = library("wandb", "wandb", "wandb")
        group = experiment.resolve().name

        def start(run: HeldRun) -> Any:
            handle = theirs.init(
                project=self.project,
                entity=self.entity or None,
                mode=self.mode or None,
                dir=str(experiment),
                group=group,
                name=name_of(run),
                id=hashlib.sha256(str(run.path.resolve()).encode()).hexdigest()[:16],
                resume="allow",
                reinit="create_new",
                config=settings_of(run),
                settings=theirs.Settings(console="off", silent=True),
            )
            handle.define_metric("samples_seen")
            handle.define_metric("*", step_metric="samples_seen")
            return handle

        def log(handle: Any, numbers: Mapping[str, float], step: int) -> None:
            handle.log({**numbers, "samples_seen": step})

        def end(handle: Any, metrics: Mapping[str, float], failure: str | None) -> None:
            handle.summary.update({**metrics, **({"failure": failure} if failure else {})})
            handle.finish(exit_code=1 if failure else 0)

        return Tracker(start, log, end)
