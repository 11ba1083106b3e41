"""What scenarios of clear-cut tasks share: an online stream or sessions, and where a task begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from streamlab.errors import StreamlabError
from streamlab.plans.stream import Experience, Labels, StreamPlan
from streamlab.randomness import Draws

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["online", "sessions"]
Boundaries = Literal["hidden", "shown"]


class TaskOptions(Protocol):
    """The options that all of them have, in a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def boundaries(self) -> Boundaries: ...


def check_boundaries(options: TaskOptions) -> None:
    """Raise StreamlabError for sessions that hide where they begin."""
    if options.kind == "sessions" and options.boundaries == "hidden":
        raise StreamlabError(
            f"{options.name}: sessions show where they begin; boundaries=hidden needs kind=online"
        )


def tasks_plan(
    options: TaskOptions,
    labels: Labels,
    seed: int,
    tasks: Sequence[Experience],
    transforms: tuple[str, ...] = (),
) -> StreamPlan:
    """The plan of these tasks; an online stream shuffles each task's samples.

    Raises StreamlabError where a task has no training sample.
    """
    experiences = []
    for number, task in enumerate(tasks):
        if len(task.indices) == 0:
            raise StreamlabError(f"{options.name}: task {number + 1} has no training sample")
        indices = task.indices
        if options.kind == "online":
            draws = Draws(seed, "plan", options.name, "order", number)
            indices = indices[draws.permutation(len(indices))]
        experiences.append(dataclasses.replace(task, indices=indices.astype(np.int64)))
    return StreamPlan(
        scenario=options.name,
        kind=options.kind,
        num_classes=labels.num_classes,
        shows_boundaries=options.boundaries == "shown",
        seed=seed,
        options=dataclasses.asdict(options),
        experiences=tuple(experiences),
        transforms=transforms,
    )


def of_classes(labels: NDArray[np.int64], classes: Sequence[int]) -> NDArray[np.int64]:
    """The samples of these classes, ascending."""
    return np.flatnonzero(np.isin(labels, list(classes))).astype(np.int64)
