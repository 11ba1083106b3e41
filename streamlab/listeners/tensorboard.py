"""TensorBoard: scalars, a folder a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..experiments.held import HeldRun
from . import Listening, Tracker, library


@dataclass(frozen=True)
class TensorBoard:
    """folder: where the scalars go (not given: `tensorboard` in the experiment's folder)."""

    folder: str = ""

    def begin(self, experiment: Path) -> Listening:
        make = library("torch.utils.tensorboard", "tensorboard", "tensorboard").SummaryWriter
        root = Path(self.folder) if self.folder else experiment / "tensorboard"

        def start(run: HeldRun) -> Any:
            return make(str(root / run.path.relative_to(experiment)))

        def log(writer: Any, numbers: Mapping[str, float], step: int) -> None:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

        def end(writer: Any, metrics: Mapping[str, float], failure: str | None) -> None:
            writer.close()

        return Tracker(start, log, end)
