"""The record of a run's predictions: all that metrics are computed from, beside the plan."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CorruptFile
from ..files import read_arrays, write_bytes
from ..plans.stream import StreamPlan

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Unexposed:
    """Test samples not yet exposed, at a task end or before training (`--record unexposed`).

    Each (n,): test_indices, labels, unmasked (the prediction over all classes); and, once some
    class is exposed, as in Evaluation: confidence, energy, neighbour.
    """

    test_indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    unmasked: NDArray[np.int64]
    confidence: NDArray[np.float32] | None = None
    energy: NDArray[np.float32] | None = None
    neighbour: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Arrivals:
    """What was predicted of a stream's own samples since the evaluation before (`--record arrivals`).

    Each (n,): labels, predictions: of every batch as it arrived, in stream order, -1 where no label had come
    by then. later_labels, later_predictions: of the samples that lay a shift after the last one learned.
    """

    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    later_labels: NDArray[np.int64]
    later_predictions: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions at one evaluation point, for the test samples exposed by then.

    samples_seen: where in the stream. task_ends: experiences that ended here. periodic: whether
    it is one of the regular points. exposed: (classes,) bool. test_indices, labels, predictions:
    (n,) each. At task ends also (n,) each: task_masked, the prediction among the classes of the
    sample's own task; group_masked, among base or among novel classes (None unless there is a base
    session); confidence, the top softmax probability, and energy, the log-sum-exp of exposed logits
    (both None where scores are no logits); unmasked, the prediction over all classes, and unexposed
    (None unless --record unexposed); neighbour, 1 - cosine to the nearest training sample (None
    unless --record neighbours). geometry: measures of feature space by name (None unless --record
    geometry). arrivals: what was predicted of the stream itself since the evaluation before (None unless
    --record arrivals).
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
    group_masked: NDArray[np.int64] | None = None
    unmasked: NDArray[np.int64] | None = None
    neighbour: NDArray[np.float32] | None = None
    unexposed: Unexposed | None = None
    geometry: Mapping[str, float] | None = None
    arrivals: Arrivals | None = None

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
        return shares(self.labels, self.correct, len(self.exposed))


@dataclass(frozen=True, eq=False)
class Record:
    """A run's plan and its evaluations, in order.

    ceiling: trained once on everything. name: the run's folder. joint: the ceiling's record on
    the same plan, where a metric may compare with one.
    """

    plan: StreamPlan
    evaluations: tuple[Evaluation, ...]
    ceiling: bool = False
    name: str = ""
    joint: Record | None = None

    @property
    def at_task_ends(self) -> list[Evaluation]:
        """The evaluations at which at least one experience ended."""
        return [evaluation for evaluation in self.evaluations if evaluation.task_ends]

    def task_accuracy(
        self, test_indices: NDArray[np.int64], correct: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """(T,) share of right answers on each experience's test samples; NaN where none is given."""
        tasks = self.plan.experience_of_test(test_indices)
        return shares(tasks, correct, len(self.plan.experiences))


def shares(groups: NDArray[np.int64], correct: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """(count,) share of right answers in each group; NaN for a group without any."""
    totals = np.bincount(groups, minlength=count)
    right = np.bincount(groups[correct], minlength=count)
    return np.where(totals > 0, right / np.maximum(totals, 1), np.nan)


def accuracy_matrix(record: Record) -> NDArray[np.float64]:
    """R: (T, T), R[i][j] = accuracy on task j's test samples after task i; NaN where not tested.

    Predictions compete over all classes exposed by then.
    """
    tasks = len(record.plan.experiences)
    matrix = np.full((tasks, tasks), np.nan)
    for evaluation in record.at_task_ends:
        row = record.task_accuracy(evaluation.test_indices, evaluation.correct)
        matrix[list(evaluation.task_ends)] = row
    return matrix


_STORED = {
    "test_indices": np.int32,
    "labels": np.int16,
    "predictions": np.int16,
    "task_masked": np.int16,
    "group_masked": np.int16,
    "unmasked": np.int16,
    "confidence": np.float32,
    "energy": np.float32,
    "neighbour": np.float32,
    "later_labels": np.int16,
    "later_predictions": np.int16,
}


def save_evaluation(evaluation: Evaluation, path: Path) -> str:
    """Write one evaluation as a small safetensors file, whole or not at all; returns its SHA-256."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {"exposed": evaluation.exposed, **_columns(evaluation, "")}
    if evaluation.unexposed is not None:
        arrays |= _columns(evaluation.unexposed, "unexposed.")
    if evaluation.arrivals is not None:
        arrays |= _columns(evaluation.arrivals, "arrivals.")
    about = {
        "samples_seen": evaluation.samples_seen,
        "task_ends": evaluation.task_ends,
        "periodic": evaluation.periodic,
        "geometry": evaluation.geometry,
    }
    return write_bytes(path, save(arrays, metadata={"evaluation": json.dumps(about)}))


def _columns(holder: Evaluation | Unexposed | Arrivals, prefix: str) -> dict[str, NDArray[Any]]:
    values = {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}
    return {
        prefix + name: values[name].astype(_wide_enough(values[name], kind))
        for name, kind in _STORED.items()
        if values.get(name) is not None
    }


def _wide_enough(values: NDArray[Any], kind: type) -> type:
    """This kind of number; of more than 32,767 classes a wider one."""
    return np.int32 if kind is np.int16 and values.max(initial=0) > np.iinfo(np.int16).max else kind


def load_evaluation(path: Path, classes: int) -> Evaluation:
    """Read what `save_evaluation` wrote of a plan of so many classes; raises CorruptFile."""
    about, arrays = read_arrays(path, "evaluation")
    named = [arrays[name] for name in ("labels", "predictions") if name in arrays]
    if len(named) < 2 or any(((values < 0) | (values >= classes)).any() for values in named):
        raise CorruptFile(f"{path} is damaged: it names classes that there are not")
    settled = {
        name: value.astype(np.int64) if np.issubdtype(value.dtype, np.integer) else value
        for name, value in arrays.items()
    }
    parts: dict[str, dict[str, NDArray[Any]]] = {"unexposed": {}, "arrivals": {}}
    for name in arrays:
        part, dot, column = name.partition(".")
        if dot and part in parts:
            parts[part][column] = settled.pop(name)
    about["task_ends"] = tuple(about["task_ends"])
    return Evaluation(
        **about,
        **settled,
        unexposed=Unexposed(**parts["unexposed"]) if parts["unexposed"] else None,
        arrivals=Arrivals(**parts["arrivals"]) if parts["arrivals"] else None,
    )
