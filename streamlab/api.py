"""The Python front: `plan`, `run` and `load_run`, for scripts and notebooks."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import parse_settings
from .data.load import load_source
from .data.source import Source
from .errors import StreamlabError
from .evaluation.intervals import Interval, interval
from .experiments import experiment as experiments
from .experiments.progress import bar
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
    """The runs of one command. In a notebook it shows itself as a table."""

    folder: Path

    @property
    def runs(self) -> list[Run]:
        """All runs, seed by seed."""
        return [Run(self.folder / spec.folder) for spec in experiments.read_specs(self.folder)]

    @property
    def complete(self) -> bool:
        """Whether every run has a result."""
        return all(run.complete for run in self.runs)

    def summary(self) -> dict[str, dict[str, Interval]]:
        """For each row and metric the mean over its complete seeds, with a 95 % interval."""
        values: dict[str, dict[str, list[float]]] = {}
        for run in self.runs:
            row = values.setdefault(run.spec.label, {})
            if run.complete:
                for name, value in run.metrics.items():
                    row.setdefault(name, []).append(value)
        return {
            label: {name: interval(numbers) for name, numbers in row.items()} for label, row in values.items()
        }

    def _repr_html_(self) -> str:
        summary = self.summary()
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
    scenario: str = "si-blurry",
    source: str | Source = "glyphs-100",
    strategies: Sequence[str | type[Strategy]] = ("finetune", "er", "slda", "joint"),
    *,
    seeds: int = 3,
    plan_seed: int | None = None,
    budget: str = "500ex",
    eval_every: int | None = None,
    record: Sequence[str] = (),
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    device: str = "auto",
    data: str | None = None,
    workers: int | None = None,
    show: bool = True,
    hear: Callable[[RunSpec, events.Event], None] | None = None,
) -> Experiment:
    """Run strategies on one stream and return their results; the arguments are the command's.

    A strategy is a name, a file or a class (classes run in this process). settings: a nested
    mapping, or lines such as "stream.batch_size=10". show: a progress bar in a notebook or
    terminal. hear: a listener, called with each run's spec and event as they come. Raises
    StreamlabError for a mistake in the request; a strategy that fails is reported in its run's
    `failure`, and its neighbours finish.
    """
    strategies = (strategies,) if isinstance(strategies, str) else strategies
    tree = settings if isinstance(settings, Mapping) else parse_settings(settings)
    request = experiments.Request(
        scenario=scenario,
        source=source if isinstance(source, str) else source.name,
        strategies=tuple(name for name in strategies if isinstance(name, str)),
        seeds=seeds,
        plan_seed=plan_seed,
        budget=budget,
        eval_every=eval_every,
        device=device,
        data=data,
        workers=workers,
        record=tuple(record),
        settings=tree,
    )
    given = None if isinstance(source, str) else source
    classes = tuple(cls for cls in strategies if not isinstance(cls, str))
    prepared = experiments.prepare(request, given, classes)
    folder = Path(out) if out is not None else experiments.new_folder(request)
    prepared.create(folder)
    with bar([spec.folder for spec in prepared.specs], show) as shown:

        def listen(spec: RunSpec, event: events.Event) -> None:
            shown.hear(spec, event)
            if hear is not None:
                hear(spec, event)

        experiments.run_experiment(prepared, folder, workers, listen)
    return Experiment(folder)


@dataclass(frozen=True)
class Comparison:
    """A grid of runs at aligned budgets, as its folder holds it."""

    folder: Path

    @property
    def experiments(self) -> dict[tuple[str, str], Experiment]:
        """By (scenario, budget), the runs of each; what keeps no exemplars is under "any-budget"."""
        from .experiments.folder import read_comparison

        blocks = read_comparison(self.folder)["blocks"]
        return {
            (block["scenario"], block["budget"]): Experiment(self.folder / block["folder"])
            for block in blocks
        }

    @property
    def complete(self) -> bool:
        """Whether every run has a result."""
        return all(experiment.complete for experiment in self.experiments.values())

    def report(self, reference: str | None = None) -> Path:
        """Write the report beside the runs; returns the HTML file. reference: the row compared with."""
        from .report.gather import gather
        from .report.write import write_report

        return write_report(gather([self.folder], reference), self.folder)[0]


def compare(
    scenarios: Sequence[str | Mapping[str, Any]] = ("class-incremental",),
    source: str | Source = "glyphs-100",
    strategies: Sequence[str | type[Strategy]] = ("er", "icarl"),
    *,
    budgets: Sequence[str] = ("500ex",),
    seeds: int = 3,
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    show: bool = True,
    **others: Any,
) -> Comparison:
    """Compare strategies at aligned budgets; the arguments are the command's.

    others: further fields of a recipe (accounting, smaller, tune, engine, …; `CompareRequest`). What is
    done in `out` is not run again. Raises StreamlabError for a mistake in the request.
    """
    from .experiments.comparison import new_comparison_folder, run_comparison
    from .experiments.request import CompareRequest

    name = source if isinstance(source, str) else source.name
    request = CompareRequest(
        scenarios=tuple(one if isinstance(one, str) else dict(one) for one in scenarios),
        source=name,
        strategies=tuple(one for one in strategies if isinstance(one, str)),
        budgets=tuple(budgets),
        seeds=seeds,
        settings=settings if isinstance(settings, Mapping) else parse_settings(settings),
        **others,
    )
    folder = Path(out) if out is not None else new_comparison_folder(request)
    given = None if isinstance(source, str) else {name: source}
    classes = tuple(cls for cls in strategies if not isinstance(cls, str))
    tell = print if show else (lambda line: None)
    run_comparison(request, folder, lambda grid, title: _Cells(grid, show), tell, given, classes)
    return Comparison(folder)


class _Cells:
    """A bar for a grid of cells."""

    def __init__(self, grid: Grid, show: bool) -> None:
        self._bar = bar([cell.folder for cell in grid.cells], show)

    def hear(self, cell: Cell, event: events.Event) -> None:
        self._bar.hear(cell.spec, event, cell.folder)

    def tick(self) -> None:
        """The bar moves with events."""

    def __enter__(self) -> _Cells:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)


def load_run(path: str | Path) -> Run | Experiment | Comparison:
    """A run, an experiment or a comparison, from its folder; raises StreamlabError if it is none."""
    folder = Path(path)
    if (folder / "comparison.json").exists():
        return Comparison(folder)
    if (folder / "experiment.json").exists():
        return Experiment(folder)
    if (folder / "run.json").exists():
        return Run(folder)
    raise StreamlabError(f"{folder} is no run folder (it has neither run.json nor experiment.json)")
