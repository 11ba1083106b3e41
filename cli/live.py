"""The live state of an experiment: `fold(state, cell, event)`, and nothing of how it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamlab.config import Budget
from streamlab.errors import CorruptFile
from streamlab.experiments.held import read_runs, tables_of
from streamlab.experiments.request import ANY
from streamlab.plans.clock import Clock
from streamlab.plans.episodes import EpisodePlan
from streamlab.plans.stream import Plan
from streamlab.runs.folder import RunFolder
from streamlab.simulator import events

if TYPE_CHECKING:
    from streamlab.experiments.grid import Cell, Grid

Layout = Literal["stream", "sessions", "episodes"]


@dataclass(frozen=True)
class RunState:
    """One run as far as it has been heard of. curve: accuracies in the order taken;
    places: after how many samples each of them was.

    half_width: of the newest accuracy, over episodes. environments: accuracy in each that was tested.
    """

    label: str
    seed: int
    scenario: str = ""
    budget: str = ""
    samples: int = 0
    samples_seen: int = 0
    lost: int = 0
    began_at: int = 0
    status: str = "waiting"
    curve: tuple[float, ...] = ()
    places: tuple[int, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    held: int = 0
    exemplars: int = 0
    capacity: int = 0
    budget_bytes: int | None = None
    bounded: bool = True
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    experience: int = 0
    experiences: int = 0
    half_width: float | None = None
    environments: Mapping[str, float] = field(default_factory=dict)
    message: str = ""

    @property
    def share(self) -> float:
        """Part of the run that is done, in 0..1."""
        if self.status == "complete":
            return 1.0
        return self.samples_seen / self.samples if self.samples else 0.0


@dataclass(frozen=True)
class LiveState:
    """All runs by folder, and the last thing that happened.

    layout: which table is drawn of one scenario at one budget. budgets: of each scenario, by size.
    begun_with: runs that were complete before. tuning: whether the runs are trials.
    """

    title: str
    runs: Mapping[str, RunState]
    happening: str = ""
    layout: Layout = "stream"
    budgets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    begun_with: int = 0
    tuning: bool = False

    @property
    def is_grid(self) -> bool:
        """Whether there is more than one scenario or budget, which takes a table of its own."""
        named = {(run.scenario, run.budget) for run in self.runs.values() if run.budget != ANY}
        return self.tuning or len(named) > 1 or len({run.scenario for run in self.runs.values()}) > 1

    @property
    def labels(self) -> list[str]:
        """Row labels in order."""
        return list(dict.fromkeys(run.label for run in self.runs.values()))

    def of(self, label: str) -> list[RunState]:
        """The runs of one row, seed by seed."""
        return [run for run in self.runs.values() if run.label == label]


def _held(blank: RunState, budget: Budget, held: RunFolder) -> RunState:
    """A run as its folder has it; of one that is not done, the curve that it may go on with."""
    if not held.path.exists():
        return blank
    if held.result is not None:
        return restored(blank, budget, held)
    try:
        begun = restored(blank, budget, held)
    except CorruptFile:  # its worker takes up what is whole
        return blank
    return replace(blank, curve=begun.curve, places=begun.places)


def layout_of(plan: Plan) -> Layout:
    """A column a session where there is a base session; accuracy with its interval of episodes."""
    if plan.kind == "episodes":
        return "episodes"
    return "sessions" if plan.has_base else "stream"


def state_of(grid: Grid, folder: Path, title: str = "") -> LiveState:
    """What the folder already holds of a grid: complete runs are shown as they ended."""
    runs = {}
    for cell in grid.cells:
        held = RunFolder(folder / cell.folder)
        column = column_of(cell.block.folder, cell.block.budget)
        blank = RunState(
            cell.spec.label, cell.spec.seed, cell.block.scenario, column, bounded=not cell.spec.ceiling
        )
        runs[cell.folder] = _held(blank, cell.spec.budget, held)
    first = grid.blocks[0]
    budgets = {
        label: tuple(sorted(texts, key=lambda text: texts[text].size))
        for label, texts in grid.budgets.items()
    }
    begun_with = sum(run.status == "complete" for run in runs.values())
    layout = layout_of(next(iter(first.prepared.plans.values())))
    return LiveState(title or title_of(grid), runs, "", layout, budgets, begun_with, tuning=bool(title))


def column_of(folder: str, budget: str) -> str:
    """The budget; of a trial in tuning, its number."""
    parts = folder.split("/")
    return f"trial {int(parts[1])}" if parts[0] == "tuning" else budget


def title_of(grid: Grid) -> str:
    """`si-blurry on glyphs-100 · 20,000 samples in 5 experiences · 500ex · 3 seeds`, or `comparison`."""
    block, seeds = grid.blocks[0], len({cell.spec.seed for cell in grid.cells})
    oracle = " · tuned by an oracle" if grid.request.protocol == "oracle" else ""
    if len(tables_of_grid(grid)) > 1:
        return f"comparison{oracle}"
    plan = next(iter(block.prepared.plans.values()))
    if isinstance(plan, EpisodePlan):
        what = f"{plan.test.way}-way {_shots(plan)}-shot, {len(plan.train):,} + {len(plan.test):,} episodes"
    else:
        budget = next((one.budget for one in grid.blocks if one.budget != ANY), "any budget")
        what = f"{plan.num_samples:,} samples in {len(plan.experiences)} experiences · {budget}"
        what += _clock(plan.clock)
    where = f"{block.scenario} on {block.prepared.source.name}"
    return f"{where} · {what} · {seeds} seed{'s' if seeds > 1 else ''}{oracle}"


def _clock(clock: Clock) -> str:
    """` · 4.2e+05 operations a sample, labels 3 batches late`; nothing of a stream that waits."""
    words = [f"{clock.operations:.2g} operations a sample"] if clock.operations else []
    words += [f"labels {clock.delay} batches late"] if clock.delay else []
    return f" · {', '.join(words)}" if words else ""


def tables_of_grid(grid: Grid) -> list[tuple[str, str]]:
    """The (scenario, budget) pairs of a grid, what stands at any budget left out where there is another."""
    named = [(block.scenario, block.budget) for block in grid.blocks if block.budget != ANY]
    alone = {block.scenario for block in grid.blocks} - {scenario for scenario, _ in named}
    return named + [(scenario, ANY) for scenario in sorted(alone)]


def _shots(plan: EpisodePlan) -> str:
    """`1`, or `1–9` where a support is not even."""
    few, most = min(plan.test.shots), max(plan.test.shots)
    return str(few) if few == most else f"{few}–{most}"


def states_of(folder: Path) -> list[LiveState]:
    """The runs that lie in a folder, whatever part of an experiment it is: a state a table.

    Raises CorruptFile where one of them is not as it was written.
    """
    states = []
    for (scenario, budget), runs in tables_of(read_runs(folder)).items():
        seeds = len({run.seed for run in runs})
        at = "" if budget == ANY else f" · {budget}"
        title = f"{scenario} on {runs[0].spec.source}{at} · {seeds} seed{'s' if seeds > 1 else ''} "
        shown = {}
        for run in runs:
            spec = run.spec
            blank = RunState(run.label, run.seed, run.scenario, run.budget, bounded=not spec.ceiling)
            run.folder.check()
            shown[str(run.path)] = restored(blank, spec.budget, run.folder)
        states.append(LiveState(title, shown, layout=layout_of(runs[0].folder.plan())))
    return states


def fold(state: LiveState, cell: Cell, event: events.Event) -> LiveState:
    """The state after an event of one run."""
    run = fold_run(state.runs[cell.folder], event)
    happening = _happening(run, event, cell.source.class_names) or state.happening
    return replace(state, runs={**state.runs, cell.folder: run}, happening=happening)


def fold_run(run: RunState, event: events.Event) -> RunState:
    """One run's state after one of its events."""
    match event:
        case events.RunStarted():
            kept = sum(place <= event.samples_seen for place in run.places)
            return replace(
                run,
                curve=run.curve[:kept],
                places=run.places[:kept],
                status="running",
                samples=event.samples,
                samples_seen=event.samples_seen,
                began_at=event.samples_seen,
                experiences=event.experiences,
                budget_bytes=event.budget_bytes,
                capacity=event.exemplar_capacity,
                message="",
            )
        case events.Progressed() | events.CheckpointWritten():
            seconds = getattr(event, "train_seconds", None) or run.train_seconds
            return replace(run, samples_seen=event.samples_seen, train_seconds=seconds)
        case events.ExperienceStarted():
            return replace(run, experience=event.experience)
        case events.Evaluated():
            return replace(
                run,
                samples_seen=event.samples_seen,
                curve=(*run.curve, event.accuracy),
                places=(*run.places, event.samples_seen),
                metrics=event.metrics,
                held=max(run.held, sum(event.held.values())),
                exemplars=event.exemplars,
                train_seconds=event.train_seconds,
                evaluation_seconds=event.evaluation_seconds,
                half_width=event.half_width,
                lost=event.lost,
            )
        case events.EnvironmentTested():
            tested = {**run.environments, event.environment: event.accuracy}
            return replace(run, environments=tested)
        case events.RunEnded():
            return replace(run, status="complete", metrics=event.metrics, samples_seen=run.samples)
        case events.RunFailed():
            return replace(run, status="failed", message=event.message)
        case _:
            return run


def restored(blank: RunState, budget: Budget, folder: RunFolder) -> RunState:
    """The state of a run as its folder tells it: folded from its event log."""
    run = fold_run(blank, events.RunStarted(0, 0, 0, budget.bytes, 0))
    logged = folder.events()
    for plain in logged:
        run = fold_run(run, events.from_plain(plain))
    if folder.result is not None:
        seen = max((plain.get("samples_seen", 0) for plain in logged), default=0)
        run = replace(run, status="complete", samples=seen, samples_seen=seen)
        return replace(run, capacity=budget.exemplars or 0) if run.exemplars else run
    return replace(run, status="failed" if folder.failure else "waiting", message=folder.failure or "")


def _happening(run: RunState, event: events.Event, class_names: tuple[str, ...]) -> str:
    where = f"{run.label}, seed {run.seed}"
    match event:
        case events.ClassesArrived():
            names = [class_names[number] if class_names else str(number) for number in event.classes]
            shown = " ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
            part = f"experience {run.experience + 1} of {run.experiences}"
            return f"{where}: {part}, at sample {event.samples_seen:,}; classes arrive: {shown}"
        case events.ExperienceStarted():
            return (
                f"{where}: experience {event.experience + 1} of {run.experiences} begins, "
                f"at sample {event.samples_seen:,}"
            )
        case events.BaseTrained():
            judged = "" if event.held_out_accuracy is None else f", held out {event.held_out_accuracy:.1f} %"
            share = event.step / event.steps
            return f"{where}: base training, {share:.0%}, loss {event.loss:.3f}{judged}"
        case events.EnvironmentTested():
            return f"{where}: {event.environment}, accuracy {event.accuracy:.1%} ± {event.half_width:.1%}"
        case events.RunFailed():
            return event.message
        case _:
            return ""
