"""The Python front: `plan`, `run`, `compare` and `load_run`, for scripts and notebooks."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import configure, parse_settings
from .data.load import load_source
from .data.source import Source
from .errors import StreamlabError
from .evaluation.intervals import Interval, interval
from .experiments.held import HeldRun, read_runs, tables_of
from .experiments.layout import new_folder
from .experiments.progress import Bar
from .experiments.request import COMPARISON, Request
from .experiments.run import run_experiment
from .planning import make_plan
from .plans.stream import Labels, Plan
from .runs.folder import RunFolder
from .runs.spec import RunSpec
from .simulator import events

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .evaluation.episode_record import EpisodeRecord
    from .evaluation.record import Record
    from .experiments.grid import Cell, Grid
    from .strategy import Strategy

Hear = Callable[[RunSpec, events.Event], None]


def plan(scenario: str, source_or_labels: str | Source | ArrayLike, seed: int = 0, **config: Any) -> Plan:
    """The plan of a scenario on a source (by name or in memory) or on bare labels (N,).

    config: the scenario's options. Raises StreamlabError for names, options or labels that do
    not fit.
    """
    if isinstance(source_or_labels, str):
        labels = load_source(source_or_labels).labels
    elif isinstance(source_or_labels, Source):
        labels = source_or_labels.labels
    else:
        labels = Labels.of(source_or_labels)
    return make_plan(scenario, labels, seed, config)


@dataclass(frozen=True)
class Run:
    """One run, as its folder holds it."""

    folder: Path

    @property
    def spec(self) -> RunSpec:
        """What was run."""
        return RunFolder(self.folder).spec

    @property
    def complete(self) -> bool:
        """Whether it has a result."""
        return RunFolder(self.folder).result is not None

    @property
    def failure(self) -> str | None:
        """Why it stopped, where it failed."""
        return RunFolder(self.folder).failure

    @property
    def result(self) -> dict[str, Any]:
        """The whole of result.json; raises StreamlabError while the run is not complete."""
        result = RunFolder(self.folder).result
        if result is None:
            raise StreamlabError(f"{self.folder} is not complete; streamlab resume goes on with it")
        return result

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that are defined, by name; accuracies in 0..1."""
        metrics: dict[str, float] = self.result["metrics"]
        return metrics

    @property
    def record(self) -> Record | EpisodeRecord:
        """Every prediction, with the plan: what metrics are computed from."""
        return RunFolder(self.folder).record()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What happened, in order."""
        return RunFolder(self.folder).events()


@dataclass(frozen=True)
class Experiment:
    """The runs of one command, or of a part of it. In a notebook it shows itself as a table."""

    folder: Path

    @property
    def runs(self) -> list[Run]:
        """All runs, row by row within a seed."""
        return [Run(held.path) for held in self._held]

    @property
    def complete(self) -> bool:
        """Whether every run has a result."""
        return all(run.complete for run in self.runs)

    @property
    def tables(self) -> list[tuple[str, str]]:
        """The (scenario, budget) pairs that it has runs at, each of which is a table."""
        return list(tables_of(self._held))

    def summary(
        self, scenario: str | None = None, budget: str | None = None
    ) -> dict[str, dict[str, Interval]]:
        """For each row and metric the mean over its complete seeds, with a 95 % interval.

        scenario, budget: whose table (not given: the first of `tables`). Raises StreamlabError where there
        is none of these.
        """
        tables = tables_of(self._held)
        wanted = [(s, b) for s, b in tables if scenario in (None, s) and budget in (None, b)]
        if not wanted:
            raise StreamlabError(
                f"{self.folder} has no table of {scenario} at {budget}; it has {self.tables}"
            )
        values: dict[str, dict[str, list[float]]] = {}
        for held in tables[wanted[0]]:
            row = values.setdefault(held.label, {})
            if held.complete:
                for name, value in Run(held.path).metrics.items():
                    row.setdefault(name, []).append(value)
        return {
            label: {name: interval(numbers) for name, numbers in row.items()} for label, row in values.items()
        }

    def report(self, reference: str | None = None) -> Path:
        """Write the report beside the runs; returns the HTML file. reference: the row compared with."""
        from .report.gather import gather
        from .report.write import write_report

        return write_report(gather([self.folder], reference), self.folder)[0]

    def export(self, form: str = "csv", out: str | Path | None = None) -> list[Path]:
        """Write results as tidy tables (csv or parquet) into `out` (the experiment's `export`).

        Returns the files; docs/how-to/export.md tells of every column. Raises StreamlabError for another
        form, or where pyarrow is missing.
        """
        from .experiments.export import export_tables

        return export_tables(self._held, form, Path(out) if out is not None else self.folder / "export")

    @property
    def _held(self) -> list[HeldRun]:
        return read_runs(self.folder)

    def _repr_html_(self) -> str:
        return "".join(
            (f"<p>{html.escape(scenario)} at {html.escape(budget)}</p>" if len(self.tables) > 1 else "")
            + _html_table(self.summary(scenario, budget))
            for scenario, budget in self.tables
        )


def _html_table(summary: Mapping[str, Mapping[str, Interval]]) -> str:
    names = list(dict.fromkeys(name for row in summary.values() for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><th>{html.escape(label)}</th>"
        + "".join(f"<td>{row[name]}</td>" if name in row else "<td>n/a</td>" for name in names)
        + "</tr>"
        for label, row in summary.items()
    )
    return f"<table><tr><th>strategy</th>{head}</tr>{body}</table>"


def run(
    scenario: str | Mapping[str, Any] | None = None,
    source: str | Source = "glyphs-100",
    strategies: Sequence[str | type[Strategy]] | None = None,
    *,
    budget: str = "500ex",
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    show: bool = True,
    hear: Hear | None = None,
    **others: Any,
) -> Experiment:
    """Run strategies on one stream and return their results; the arguments are the command's.

    scenario: its name, or a mapping of its `name` and options. A strategy is a name, a file or a class
    (classes run in this process). settings: a nested mapping, or lines such as "stream.batch_size=10". out:
    where the runs go; what is done there is not run again. show: a progress bar in a notebook or terminal.
    hear: a listener, called with each run's spec and event as they come. others: further fields of a
    request (seeds, plan_seed, eval_every, device, workers, …; streamlab.experiments.request). Raises
    StreamlabError for a mistake in the request; a strategy that fails is reported in its run's `failure`,
    and its neighbours finish.
    """
    named = (
        {}
        if scenario is None
        else {"scenarios": (scenario if isinstance(scenario, str) else dict(scenario),)}
    )
    rows = Request.strategies if strategies is None else strategies
    return _run({**named, "budgets": (budget,), **others}, source, rows, settings, out, show, hear)


def compare(
    scenarios: Sequence[str | Mapping[str, Any]] = COMPARISON["scenarios"],
    source: str | Source = "glyphs-100",
    strategies: Sequence[str | type[Strategy]] = COMPARISON["strategies"],
    *,
    budgets: Sequence[str] = ("500ex",),
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    show: bool = True,
    hear: Hear | None = None,
    **others: Any,
) -> Experiment:
    """Compare strategies at aligned budgets: `run` of a whole grid, which refuses a single seed.

    The arguments are `run`'s, in the plural. `Experiment.report` writes the report.
    """
    named = tuple(one if isinstance(one, str) else dict(one) for one in scenarios)
    asked = {"scenarios": named, "budgets": tuple(budgets), "intervals": True, **others}
    return _run(asked, source, strategies, settings, out, show, hear)


def _run(
    asked: Mapping[str, Any],
    source: str | Source,
    strategies: Sequence[str | type[Strategy]],
    settings: Mapping[str, Any] | Sequence[str],
    out: str | Path | None,
    show: bool,
    hear: Hear | None,
) -> Experiment:
    strategies = (strategies,) if isinstance(strategies, str) else strategies
    name = source if isinstance(source, str) else source.name
    given = {
        **asked,
        "source": name,
        "strategies": tuple(one for one in strategies if isinstance(one, str)),
        "settings": settings if isinstance(settings, Mapping) else parse_settings(settings),
    }
    request = configure(Request, given, "run")
    folder = Path(out) if out is not None else new_folder(request)
    classes = tuple(cls for cls in strategies if not isinstance(cls, str))
    tell = print if show else (lambda line: None)
    sources = None if isinstance(source, str) else {name: source}

    def watch(grid: Grid, title: str) -> _Heard:
        return _Heard(grid, title, show, hear)

    run_experiment(request, folder, watch, tell, sources, classes)
    return Experiment(folder)


class _Heard(Bar):
    """The bar, and the listener that a caller gave."""

    def __init__(self, grid: Grid, title: str, show: bool, listener: Hear | None) -> None:
        super().__init__(grid, title, show)
        self._listener = listener

    def hear(self, cell: Cell, event: events.Event) -> None:
        super().hear(cell, event)
        if self._listener is not None:
            self._listener(cell.spec, event)


def load_run(path: str | Path) -> Run | Experiment:
    """A run or an experiment (or a part of one), from its folder; raises StreamlabError if it is none."""
    folder = Path(path)
    if (folder / "run.json").exists():
        return Run(folder)
    read_runs(folder)
    return Experiment(folder)
