"""The metrics of an experiment's runs, from their records: also those that compare with `joint`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..errors import StreamlabError, unknown
from ..evaluation.episode_record import EpisodeRecord
from ..evaluation.intervals import Interval, interval
from ..evaluation.metrics import NotDefined, measure
from ..evaluation.record import Record
from ..plugins import names as plugin_names
from .held import HeldRun

Measured = Mapping[str, Mapping[str, Interval | NotDefined]]


def measure_runs(runs: Sequence[HeldRun], names: Sequence[str] = ()) -> Measured:
    """For each row and metric the mean over its complete seeds, or why it is not defined.

    runs: of one table (tables_of). Raises StreamlabError for an unknown metric, or where no run is complete.
    """
    known = plugin_names("metrics")
    for name in names:
        if name not in known:
            raise unknown("metric", name, known, "streamlab list metrics")
    values: dict[str, dict[str, list[float | NotDefined]]] = {}
    records = _records(runs)
    if not records:
        raise StreamlabError("there is no complete run to measure")
    for label, record in records:
        defined, reasons = measure(record, names)
        row = values.setdefault(label, {})
        for name in names or known:
            value = defined[name] if name in defined else NotDefined(reasons[name])
            row.setdefault(name, []).append(value)
    return {
        label: {name: _summed_up(column) for name, column in row.items()} for label, row in values.items()
    }


def _records(runs: Sequence[HeldRun]) -> list[tuple[str, Record | EpisodeRecord]]:
    """(label, record) of every complete run; each names its joint run, where there is one."""
    read = [(run, run.folder.record()) for run in runs if run.complete]
    ceilings = {run.seed: record for run, record in read if isinstance(record, Record) and record.ceiling}
    return [
        (
            run.label,
            dataclasses.replace(record, joint=ceilings.get(run.seed))
            if isinstance(record, Record)
            else record,
        )
        for run, record in read
    ]


def _summed_up(column: list[float | NotDefined]) -> Interval | NotDefined:
    numbers = [value for value in column if not isinstance(value, NotDefined)]
    reasons = [value for value in column if isinstance(value, NotDefined)]
    return interval(numbers) if numbers else reasons[0]
