"""The record of a run's predictions: all that metrics are computed from, beside the plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CorruptFile
from ..stream import StreamPlan

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions at one evaluation point, for the test samples of the classes exposed by then.

    samples_seen: where in the stream. task_ends: experiences that ended here. periodic: whether
    it is one of the regular points. exposed: (classes,) bool. test_indices, labels, predictions:
    (n,) each. At task ends also confidence, (n,) the top softmax probability, energy, (n,) the
    log-sum-exp of exposed logits (both None where scores are no logits), and task_masked, (n,)
    the prediction among the classes of the sample's own task.
    """

    samples_seen: int
    task_ends: tuple[int, ...]
    periodic: bool
    exposed: NDArray[np.bool_]
    test_indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidence: NDArray[np.float32] | None = None
    energy: NDArray[np.float32] | None = None
    task_masked: NDArray[np.int64] | None = None

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(n,) whether each prediction is right."""
        right: NDArray[np.bool_] = self.predictions == self.labels
        return right

    @cached_property
    def accuracy(self) -> float:
        """Share of right predictions, in 0..1; NaN where nothing was exposed."""
        return float(self.correct.mean()) if len(self.labels) else float("nan")

    @cached_property
    def class_accuracy(self) -> NDArray[np.float64]:
        """(classes,) share of right predictions of each class; NaN where it was not tested."""
        classes = len(self.exposed)
        totals = np.bincount(self.labels, minlength=classes)
        right = np.bincount(self.labels[self.correct], minlength=classes)
        return np.where(totals > 0, right / np.maximum(totals, 1), np.nan)

    def accuracy_on(self, test_indices: NDArray[np.int64]) -> float:
        """Accuracy over those of these test samples that were predicted; NaN where none was."""
        own = np.isin(self.test_indices, test_indices)
        return float(self.correct[own].mean()) if own.any() else float("nan")


@dataclass(frozen=True, eq=False)
class Record:
    """A run's plan and its evaluations, in order. ceiling: trained once on everything."""

    plan: StreamPlan
    evaluations: tuple[Evaluation, ...]
    ceiling: bool = False

    @property
    def at_task_ends(self) -> list[Evaluation]:
        """The evaluations at which at least one experience ended."""
        return [evaluation for evaluation in self.evaluations if evaluation.task_ends]


def save_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write one evaluation as a small safetensors file, whole or not at all."""
    from safetensors.numpy import save

    from ..runs.files import write_bytes

    arrays: dict[str, NDArray[np.generic]] = {"exposed": evaluation.exposed}
    for name, kind in (
        ("test_indices", np.int32),
        ("labels", np.int16),
        ("predictions", np.int16),
        ("task_masked", np.int16),
        ("confidence", np.float32),
        ("energy", np.float32),
    ):
        value = getattr(evaluation, name)
        if value is not None:
            arrays[name] = value.astype(kind)
    about = {
        "samples_seen": evaluation.samples_seen,
        "task_ends": evaluation.task_ends,
        "periodic": evaluation.periodic,
    }
    write_bytes(path, save(arrays, metadata={"evaluation": json.dumps(about)}))


def load_evaluation(path: Path) -> Evaluation:
    """Read what `save_evaluation` wrote; raises CorruptFile."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["evaluation"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  a file is no mapping
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{path} is not a saved evaluation: {error}") from None
    integers = {"test_indices", "labels", "predictions", "task_masked"}
    settled = {name: value.astype(np.int64) if name in integers else value for name, value in arrays.items()}
    about["task_ends"] = tuple(about["task_ends"])
    return Evaluation(**about, **settled)
