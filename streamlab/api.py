"""The Python front: `plan`, `run` and `load_run`, for scripts and notebooks."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import parse_settings
from .data.source import Source, load_source
from .errors import StreamlabError
from .evaluation.intervals import Interval, interval
from .runs import experiment as experiments
from .runs.folder import RunFolder
from .runs.spec import RunSpec
from .simulator import events
from .stream import Labels, Plan, make_plan

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .evaluation.episodic import EpisodeRecord
    from .evaluation.record import Record
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
    with _bar(prepared.specs, show) as bar:

        def listen(spec: RunSpec, event: events.Event) -> None:
            bar.hear(spec, event)
            if hear is not None:
                hear(spec, event)

        experiments.run_experiment(prepared, folder, workers, listen)
    return Experiment(folder)


def load_run(path: str | Path) -> Run | Experiment:
    """A run, or an experiment of several, from its folder; raises StreamlabError if it is neither."""
    folder = Path(path)
    if (folder / "experiment.json").exists():
        return Experiment(folder)
    if (folder / "run.json").exists():
        return Run(folder)
    raise StreamlabError(f"{folder} is no run folder (it has neither run.json nor experiment.json)")


class _Bar:
    """How far the runs of an experiment are; a subclass shows it."""

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        self._share = {spec.folder: 0.0 for spec in specs}
        self._samples: dict[str, int] = {}

    def hear(self, spec: RunSpec, event: events.Event) -> None:
        """Take note of an event, and show what follows from it."""
        if isinstance(event, events.RunStarted):
            self._samples[spec.folder] = event.samples
        elif isinstance(event, events.Progressed):
            self._share[spec.folder] = event.samples_seen / max(1, self._samples[spec.folder])
        elif isinstance(event, (events.RunEnded, events.RunFailed)):
            self._share[spec.folder] = 1.0
        self.show(sum(self._share.values()) / len(self._share), f"{spec.label}, seed {spec.seed}")

    def show(self, share: float, now: str) -> None:
        """Nothing is shown here."""

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close here."""


class _TerminalBar(_Bar):
    """rich's bar."""

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(specs)
        self._progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._task = self._progress.add_task("running", total=1.0)

    def show(self, share: float, now: str) -> None:
        self._progress.update(self._task, completed=share, description=now)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


class _NotebookBar(_Bar):
    """One line of the cell's output, updated in place; it needs no widgets."""

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        from importlib import import_module

        super().__init__(specs)
        self._shown = ""
        display = import_module("IPython.display").display
        self._handle = display({"text/plain": "running"}, raw=True, display_id=True)

    def show(self, share: float, now: str) -> None:
        line = f"{'█' * round(30 * share):░<30} {share:4.0%}  {now}"
        if line != self._shown:
            self._shown = line
            self._handle.update({"text/plain": line}, raw=True)


def _bar(specs: Sequence[RunSpec], show: bool) -> _Bar:
    if show and "ipykernel" in sys.modules:
        return _NotebookBar(specs)
    return _TerminalBar(specs) if show and sys.stderr.isatty() else _Bar(specs)
