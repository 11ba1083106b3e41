"""MLflow: a run of theirs a run, in their experiment of this one's name; resumed runs go on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..experiments.held import HeldRun
from . import Listening, Tracker, library, name_of, settings_of

_FOLDER = "streamlab.folder"


@dataclass(frozen=True)
class MLflow:
    """uri: of the tracking server or store (not given: what MLFLOW_TRACKING_URI says). experiment: theirs
    (not given: the name of the experiment's folder).
    """

    uri: str = ""
    experiment: str = ""

    def begin(self, experiment: Path) -> Listening:
        client = library("mlflow.tracking", "mlflow", "mlflow").MlflowClient(self.uri or None)
        entities = library("mlflow.entities", "mlflow", "mlflow")
        name = self.experiment or experiment.resolve().name
        found = client.get_experiment_by_name(name)
        number = client.create_experiment(name) if found is None else found.experiment_id

        def start(run: HeldRun) -> str:
            folder = str(run.path.resolve())
            before = client.search_runs([number], f"tags.`{_FOLDER}` = '{folder}'", max_results=1)
            if before:
                identity: str = before[0].info.run_id
                client.update_run(identity, status="RUNNING")
                return identity
            made = client.create_run(number, run_name=name_of(run), tags={_FOLDER: folder})
            settings = [entities.Param(key, str(value)[:6000]) for key, value in settings_of(run).items()]
            for first in range(0, len(settings), 100):  # as many as they take at once
                client.log_batch(made.info.run_id, params=settings[first : first + 100])
            identity = made.info.run_id
            return identity

        def log(run: str, numbers: Mapping[str, float], step: int) -> None:
            now = int(time.time() * 1000)
            client.log_batch(run, [entities.Metric(key, value, now, step) for key, value in numbers.items()])

        def end(run: str, metrics: Mapping[str, float], failure: str | None) -> None:
            now = int(time.time() * 1000)
            client.log_batch(run, [entities.Metric(key, value, now, 0) for key, value in metrics.items()])
            if failure:
                client.set_tag(run, "failure", failure)
            client.set_terminated(run, "FAILED" if failure else "FINISHED")

        return Tracker(start, log, end)
