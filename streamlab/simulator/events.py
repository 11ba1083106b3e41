"""What happens in a run, as frozen values in the past tense: plain numbers, no tensors.

Listeners fold them into whatever they show or store; none can answer back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CorruptFile


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on from `samples_seen` > 0."""

    samples: int
    samples_seen: int
    experiences: int
    budget_bytes: int | None
    exemplar_capacity: int


@dataclass(frozen=True)
class ExperienceStarted:
    """The first sample of an experience is about to be served."""

    experience: int
    samples_seen: int


@dataclass(frozen=True)
class ClassesArrived:
    """Classes appear in the stream for the first time."""

    classes: tuple[int, ...]
    samples_seen: int


@dataclass(frozen=True)
class Progressed:
    """A sign of life, about ten a second; by the clock, so it is in no log."""

    samples_seen: int
    train_seconds: float


@dataclass(frozen=True)
class BaseTrained:
    """Base training has come to this step; by the clock, so it is in no log.

    held_out_accuracy: percent, of the images that choose the epoch, after the last whole epoch.
    """

    step: int
    steps: int
    loss: float
    held_out_loss: float | None
    held_out_accuracy: float | None


@dataclass(frozen=True)
class Evaluated:
    """Predictions were taken; accuracy over the test samples of the classes exposed so far.

    task_ends: experiences that ended here. metrics: the run's metrics so far, where defined.
    losses: mean of each named number since the evaluation before. held: bytes by kind, now. lost: samples
    that have come by now and were not learned from, under a clock.
    half_width: of accuracy over episodes, 1.96 s / sqrt(n); None on streams. On episodes,
    samples_seen counts training episodes; meta-validation is judged, and at the end meta-test, which
    ends the only experience.
    """

    samples_seen: int
    task_ends: tuple[int, ...]
    accuracy: float
    metrics: Mapping[str, float]
    losses: Mapping[str, float]
    held: Mapping[str, int]
    exemplars: int
    train_seconds: float
    evaluation_seconds: float
    half_width: float | None = None
    lost: int = 0


@dataclass(frozen=True)
class EnvironmentTested:
    """Meta-test episodes were taken in an environment (low-light:3). half_width: 1.96 s / sqrt(n)."""

    environment: str
    accuracy: float
    half_width: float


@dataclass(frozen=True)
class ExperienceEnded:
    """An experience's last sample was served, and it was evaluated."""

    experience: int
    samples_seen: int


@dataclass(frozen=True)
class CheckpointWritten:
    """The run can go on from here; by the clock, so it is in no log."""

    samples_seen: int
    seconds: float


@dataclass(frozen=True)
class RunEnded:
    """The run is complete: its final metrics, where defined, and why the others are not."""

    metrics: Mapping[str, float]
    not_defined: Mapping[str, str]
    resources: Mapping[str, float]


@dataclass(frozen=True)
class RunFailed:
    """The run stopped: one sentence that names the culprit. It can be resumed."""

    message: str


Event = (
    RunStarted
    | ExperienceStarted
    | ClassesArrived
    | Progressed
    | BaseTrained
    | Evaluated
    | EnvironmentTested
    | ExperienceEnded
    | CheckpointWritten
    | RunEnded
    | RunFailed
)
Listener = Callable[[Event], None]
EVENTS: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        RunStarted,
        ExperienceStarted,
        ClassesArrived,
        Progressed,
        BaseTrained,
        Evaluated,
        EnvironmentTested,
        ExperienceEnded,
        CheckpointWritten,
        RunEnded,
        RunFailed,
    )
}
BY_THE_CLOCK = (Progressed, BaseTrained, CheckpointWritten)


def to_plain(event: Event) -> dict[str, Any]:
    """The event as JSON values, its name under "event"."""
    return {"event": type(event).__name__, **dataclasses.asdict(event)}


def from_plain(plain: Mapping[str, Any]) -> Event:
    """The inverse of `to_plain`; raises CorruptFile for what is no event."""
    try:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in plain.items()
            if name != "event"
        }
        return EVENTS[plain["event"]](**values)
    except (AttributeError, KeyError, TypeError):
        raise CorruptFile(f"an event log is damaged: {str(plain)[:60]!r} is no event") from None
