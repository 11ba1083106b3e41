"""Results as tidy tables: a row an evaluation, a prediction, an episode or a metric, as CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ..errors import StreamlabError, unknown
from ..evaluation.episode_record import EpisodeEvaluation, EpisodeRecord
from ..evaluation.record import Evaluation, Record
from ..simulator import events
from .held import HeldRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["text", "integer", "number", "flag"]


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, what its values are, and what they mean."""

    name: str
    kind: Kind
    meaning: str


_RUN = (
    Column("scenario", "text", "its label in the experiment"),
    Column("budget", "text", "as it was asked for"),
    Column("strategy", "text", "the row's label"),
    Column("seed", "integer", "of the run"),
)
_AT = (
    Column("evaluation", "integer", "its number in the run, from 0"),
    Column("samples_seen", "integer", "training samples (or episodes) served before it"),
)
_ENDED = Column("ended", "integer", "the last experience that ended there, from 0; empty between two")
TABLES: Mapping[str, tuple[Column, ...]] = {
    "metrics": (
        *_RUN,
        Column("metric", "text", "its name"),
        Column("value", "number", "at the end of the run; empty where it is not defined"),
        Column("not_defined", "text", "why it is not"),
    ),
    "evaluations": (
        *_RUN,
        *_AT,
        _ENDED,
        Column("accuracy", "number", "share of right predictions, of the classes shown so far"),
        Column("half_width", "number", "of accuracy over episodes, 1.96 s / sqrt(n); empty on streams"),
        Column("exemplars", "integer", "held there"),
        Column("held_bytes", "integer", "held there, of every kind"),
        Column("train_seconds", "number", "spent on training until then"),
        Column("evaluation_seconds", "number", "spent on evaluations until then"),
    ),
    "predictions": (
        *_RUN,
        *_AT,
        _ENDED,
        Column("test_index", "integer", "of the image in the source's test split"),
        Column("experience", "integer", "the image's own, from 0"),
        Column("shown", "flag", "whether its class had been shown; others stand here by --record unexposed"),
        Column("label", "integer", "the right class"),
        Column("class", "text", "its name"),
        Column("prediction", "integer", "among the classes shown; empty where its own was not"),
        Column("task_masked", "integer", "the prediction among its own task's classes, at task ends"),
        Column("group_masked", "integer", "among base or among novel classes, after a base session"),
        Column("unmasked", "integer", "among all classes (--record unexposed)"),
        Column("confidence", "number", "the highest softmax probability, where scores are logits"),
        Column("energy", "number", "the log-sum-exp of logits, where scores are logits"),
        Column("neighbour", "number", "1 - cosine to the nearest training image (--record neighbours)"),
    ),
    "episodes": (
        *_RUN,
        *_AT,
        Column("phase", "text", "validation or test"),
        Column("environment", "text", "as low-light:3; empty for images as they lie"),
        Column("episode", "integer", "its number in the phase, from 0"),
        Column("accuracy", "number", "share of right answers on its queries"),
    ),
}
"""The tables by name, each with its columns in order."""

FORMS = ("csv", "parquet")
Block = Mapping[str, Any]  # column -> one value for all rows of the block, or an array or list of one a row


def export_tables(runs: list[HeldRun], form: str, out: Path) -> list[Path]:
    """Write the tables of these runs into a folder as csv or parquet; returns the files.

    A table without rows (predictions of episodes, say) is not written. Raises StreamlabError where parquet
    is asked for and pyarrow is not installed; CorruptFile for a run that cannot be read.
    """
    if form not in FORMS:
        raise unknown("form of tables", form, FORMS)
    make: Callable[[Path, tuple[Column, ...]], _Sink] = _CsvFile
    if form == "parquet":
        try:
            import_module("pyarrow.parquet")
        except ImportError:
            raise StreamlabError("pyarrow is not installed; pip install 'streamlab-cl[parquet]'") from None
        make = _ParquetFile
    out.mkdir(parents=True, exist_ok=True)
    sinks: dict[str, _Sink] = {}
    paths = []
    try:
        for run in runs:
            of_run = {name: getattr(run, name) for name in ("scenario", "budget", "seed")}
            for table, block in _blocks(run):
                if table not in sinks:
                    paths.append(out / f"{table}.{form}")
                    sinks[table] = make(paths[-1], TABLES[table])
                sinks[table].write({**of_run, "strategy": run.label, **block})
    finally:
        for sink in sinks.values():
            sink.close()
    return paths


def _blocks(run: HeldRun) -> Iterator[tuple[str, Block]]:
    """The rows of one run, each block with its table's name."""
    folder = run.folder
    result = folder.result
    if result is not None:
        values, missing = result["metrics"], result["not_defined"]
        names = [*values, *missing]
        yield (
            "metrics",
            {
                "metric": names,
                "value": [values.get(name) for name in names],
                "not_defined": [missing.get(name) for name in names],
            },
        )
    record = folder.record()
    yield "evaluations", _evaluations(record, folder.events())
    if isinstance(record, EpisodeRecord):
        for number, judged in enumerate(record.evaluations):
            rows = {"episode": np.arange(len(judged.accuracy)), "accuracy": judged.accuracy}
            where = {"samples_seen": judged.samples_seen, "phase": judged.phase}
            yield "episodes", {"evaluation": number, **where, "environment": judged.environment, **rows}
        return
    classes = np.array(folder.about["class_names"], dtype=object)
    for number, evaluation in enumerate(record.evaluations):
        for block in _predictions(evaluation):
            if len(block["label"]):
                experience = record.plan.experience_of_test(block["test_index"])
                named = {"experience": experience, "class": classes[block["label"]]}
                yield "predictions", {"evaluation": number, **named, **block}


def _evaluations(record: Record | EpisodeRecord, told: list[dict[str, Any]]) -> Block:
    """A row an evaluation; what was held and how long it took is in the log, which may lack some."""
    logged = [event for event in map(events.from_plain, told) if isinstance(event, events.Evaluated)]
    heard_at = {(event.samples_seen, event.accuracy): event for event in logged}
    judged: list[tuple[int, int | None, float]] = [
        (one.samples_seen, None, one.interval.mean)
        if isinstance(one, EpisodeEvaluation)
        else (one.samples_seen, max(one.task_ends, default=None), one.accuracy)
        for one in record.evaluations
    ]
    heard = [heard_at.get((seen, accuracy)) for seen, _, accuracy in judged]
    same = ("half_width", "exemplars", "train_seconds", "evaluation_seconds")
    return {
        "evaluation": list(range(len(judged))),
        "samples_seen": [seen for seen, _, _ in judged],
        "ended": [ended for _, ended, _ in judged],
        "accuracy": [None if accuracy != accuracy else accuracy for _, _, accuracy in judged],
        "held_bytes": [event and sum(event.held.values()) for event in heard],
        **{name: [event and getattr(event, name) for event in heard] for name in same},
    }


def _predictions(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    at = {"samples_seen": evaluation.samples_seen, "ended": max(evaluation.task_ends, default=None)}
    beside = ("unmasked", "confidence", "energy", "neighbour")
    for shown, held in ((True, evaluation), (False, evaluation.unexposed)):
        if held is None:
            continue
        columns = {name: getattr(held, name) for name in beside}
        if isinstance(held, Evaluation):
            columns |= {name: getattr(held, name) for name in ("task_masked", "group_masked")}
            columns["prediction"] = held.predictions
        yield {**at, "shown": shown, "test_index": held.test_indices, "label": held.labels, **columns}


class _Sink(Protocol):
    def write(self, block: Block) -> None: ...

    def close(self) -> None: ...


def _length(block: Block) -> int:
    return max(len(value) for value in block.values() if isinstance(value, (list, np.ndarray)))


class _CsvFile:
    """A value that is missing is an empty field, a flag true or false."""

    def __init__(self, path: Path, columns: tuple[Column, ...]) -> None:
        self._file, self._columns = path.open("w", encoding="utf-8", newline=""), columns
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow([column.name for column in columns])

    def write(self, block: Block) -> None:
        count = _length(block)
        listed = [self._listed(block.get(column.name), count) for column in self._columns]
        self._writer.writerows(zip(*listed, strict=True))

    def _listed(self, value: Any, count: int) -> list[Any]:
        if isinstance(value, bool):
            value = str(value).lower()
        if isinstance(value, np.ndarray):
            return _without_nan(value)
        return value if isinstance(value, list) else [value] * count

    def close(self) -> None:
        self._file.close()


class _ParquetFile:
    """Rows are gathered into groups of about a million."""

    def __init__(self, path: Path, columns: tuple[Column, ...]) -> None:
        self._arrow = import_module("pyarrow")
        kinds = {
            "text": self._arrow.string(), "integer": self._arrow.int64(), "number": self._arrow.float64(),
            "flag": self._arrow.bool_(),
        }  # fmt: skip
        self._schema = self._arrow.schema([(column.name, kinds[column.kind]) for column in columns])
        self._writer = import_module("pyarrow.parquet").ParquetWriter(path, self._schema)
        self._waiting: list[Any] = []

    def write(self, block: Block) -> None:
        count = _length(block)
        arrays = [self._array(block.get(field.name), field.type, count) for field in self._schema]
        self._waiting.append(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        if sum(len(table) for table in self._waiting) >= 1_000_000:
            self._flush()

    def _array(self, value: Any, kind: Any, count: int) -> Any:
        if not isinstance(value, (list, np.ndarray)):
            return self._arrow.array([value] * count, kind)
        return self._arrow.array(_without_nan(value) if isinstance(value, np.ndarray) else value, kind)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._arrow.concat_tables(self._waiting))
            self._waiting = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


def _without_nan(values: NDArray[Any]) -> list[Any]:
    listed: list[Any] = values.tolist()
    return [None if value != value else value for value in listed] if values.dtype.kind == "f" else listed
