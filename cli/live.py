"""The live state of an experiment: `fold(state, event)`, and nothing of how it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from streamlab.plans.stream import Plan
from streamlab.runs.folder import RunFolder
from streamlab.runs.spec import RunSpec
from streamlab.simulator import events

Layout = Literal["stream", "sessions", "episodes"]


@dataclass(frozen=True)
class RunState:
    """One run as far as it has been heard of. Curves are accuracies in the order taken.

    half_width: of the newest accuracy, over episodes. environments: accuracy in each that was tested.
    """

    label: str
    seed: int
    samples: int = 0
    samples_seen: int = 0
    began_at: int = 0
    status: str = "waiting"
    curve: tuple[float, ...] = ()
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
    """All runs by folder, and the last thing that happened. layout: which table is drawn."""

    title: str
    runs: Mapping[str, RunState]
    happening: str = ""
    layout: Layout = "stream"

    @property
    def labels(self) -> list[str]:
        """Row labels in order."""
        return list(dict.fromkeys(run.label for run in self.runs.values()))

    def of(self, label: str) -> list[RunState]:
        """The runs of one row, seed by seed."""
        return [run for run in self.runs.values() if run.label == label]


def layout_of(plan: Plan) -> Layout:
    """A column a session where there is a base session; accuracy with its interval of episodes."""
    if plan.kind == "episodes":
        return "episodes"
    return "sessions" if plan.has_base else "stream"


def first_state(title: str, specs: tuple[RunSpec, ...], layout: Layout = "stream") -> LiveState:
    """Nothing has happened yet."""
    runs = {spec.folder: RunState(spec.label, spec.seed, bounded=not spec.ceiling) for spec in specs}
    return LiveState(title, runs, layout=layout)


def fold(
    state: LiveState, spec: RunSpec, event: events.Event, class_names: tuple[str, ...] = ()
) -> LiveState:
    """The state after an event of one run."""
    run = fold_run(state.runs[spec.folder], event)
    happening = _happening(run, event, class_names) or state.happening
    return replace(state, runs={**state.runs, spec.folder: run}, happening=happening)


def fold_run(run: RunState, event: events.Event) -> RunState:
    """One run's state after one of its events."""
    match event:
        case events.RunStarted():
            return replace(
                run,
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
                metrics=event.metrics,
                held=max(run.held, sum(event.held.values())),
                exemplars=event.exemplars,
                train_seconds=event.train_seconds,
                evaluation_seconds=event.evaluation_seconds,
                half_width=event.half_width,
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


def restored(spec: RunSpec, folder: RunFolder) -> RunState:
    """The state of a run as its folder tells it: folded from its event log."""
    budget = spec.parsed_budget()
    started = events.RunStarted(0, 0, 0, budget.bytes, 0)
    run = fold_run(RunState(spec.label, spec.seed, bounded=not spec.ceiling), started)
    for plain in folder.events():
        event = events.from_plain(plain)
        run = fold_run(run, event)
    result = folder.result
    if result is not None:
        seen = max((plain.get("samples_seen", 0) for plain in folder.events()), default=0)
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
