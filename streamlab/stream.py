"""The stream plan: a whole future as indices, with no pixels and no model in it.

A plan is a pure function of (labels, scenario options, seed). Its fingerprint is a SHA-256 of its
content: two strategies saw the same stream exactly when their plans' fingerprints agree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .errors import CorruptFile, StreamlabError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

KINDS = ("online", "sessions", "episodes")


@dataclass(frozen=True)
class Labels:
    """What a scenario may know of a source: labels, class names and factors, of both splits.

    train: (N,) int64; test: (M,) int64; factors map a name (font, style) to one text a sample.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    class_names: tuple[str, ...]
    train_factors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    test_factors: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @staticmethod
    def of(labels: ArrayLike) -> Labels:
        """Bare training labels, (N,) integers from 0; there is then no test split."""
        train = np.asarray(labels)
        if train.ndim != 1 or train.size == 0 or not np.issubdtype(train.dtype, np.integer):
            raise StreamlabError(
                f"labels must be a non-empty row of integers, not {train.dtype} of shape {train.shape}"
            )
        if train.min() < 0:
            raise StreamlabError(f"labels must count from 0, and one is {train.min()}")
        names = tuple(str(number) for number in range(int(train.max()) + 1))
        return Labels(train.astype(np.int64), np.zeros(0, np.int64), names)


@dataclass(frozen=True)
class Experience:
    """One stretch of a plan: a task of an online stream, or a session.

    indices: (n,) int64 into the training split, in stream order. test_indices: (m,) int64 into
    the test split: what this experience is judged on. classes: those that belong to it.
    """

    indices: NDArray[np.int64]
    test_indices: NDArray[np.int64]
    classes: tuple[int, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)


class Scenario(Protocol):
    """A scenario plugin: a frozen dataclass of options that turns labels and a seed into a plan."""

    def plan(self, labels: Labels, seed: int) -> StreamPlan: ...


@dataclass(frozen=True, eq=False)
class StreamPlan:
    """A sequence of experiences, immutable, hashable and saveable."""

    scenario: str
    kind: str
    num_classes: int
    shows_boundaries: bool
    seed: int
    options: Mapping[str, Any]
    experiences: Sequence[Experience]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content: kind, boundaries and every index; not of names or options."""
        digest = hashlib.sha256()
        head = ["streamlab plan 1", self.kind, self.num_classes, self.shows_boundaries]
        digest.update(json.dumps([*head, len(self.experiences)]).encode())
        for experience in self.experiences:
            for part in (experience.indices, experience.test_indices, experience.classes):
                array = np.ascontiguousarray(part, dtype="<i8")
                digest.update(array.size.to_bytes(8, "little"))
                digest.update(array.tobytes())
        return digest.hexdigest()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StreamPlan) and self.fingerprint == other.fingerprint

    @property
    def num_samples(self) -> int:
        """Training samples in the whole stream."""
        return sum(len(experience.indices) for experience in self.experiences)

    @cached_property
    def stream(self) -> NDArray[np.int64]:
        """All training indices in stream order."""
        return np.concatenate([experience.indices for experience in self.experiences])

    @cached_property
    def test_indices(self) -> NDArray[np.int64]:
        """Every test sample that some experience is judged on, ascending."""
        return np.unique(np.concatenate([e.test_indices for e in self.experiences]))

    def merged(self) -> StreamPlan:
        """The same samples as one session: what a jointly trained ceiling learns from."""
        everything = Experience(np.sort(self.stream), self.test_indices, tuple(range(self.num_classes)))
        return dataclasses.replace(self, kind="sessions", shows_boundaries=True, experiences=(everything,))

    def save(self, path: Path) -> None:
        """Write the plan as one safetensors file, whole or not at all."""
        from safetensors.numpy import save

        from .runs.files import write_bytes

        arrays: dict[str, NDArray[Any]] = {}
        for number, experience in enumerate(self.experiences):
            arrays[f"{number:06}.indices"] = np.ascontiguousarray(experience.indices)
            arrays[f"{number:06}.test_indices"] = np.ascontiguousarray(experience.test_indices)
            arrays[f"{number:06}.classes"] = np.asarray(experience.classes, np.int64)
        fields = ("scenario", "kind", "num_classes", "shows_boundaries", "seed", "options")
        head = {name: getattr(self, name) for name in fields}
        head["fingerprint"] = self.fingerprint
        write_bytes(path, save(arrays, metadata={"plan": json.dumps(head)}))

    @staticmethod
    def load(path: Path) -> StreamPlan:
        """Read a saved plan; raises CorruptFile unless its content has its fingerprint."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "numpy") as file:
                head = json.loads(file.metadata()["plan"])
                fingerprint = head.pop("fingerprint")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  a file is no mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CorruptFile(f"{path} is not a saved plan: {error}") from None
        count = len({name.split(".")[0] for name in arrays})
        plan = StreamPlan(
            **head,
            experiences=tuple(
                Experience(
                    arrays[f"{number:06}.indices"],
                    arrays[f"{number:06}.test_indices"],
                    tuple(arrays[f"{number:06}.classes"].tolist()),
                )
                for number in range(count)
            ),
        )
        if plan.fingerprint != fingerprint:
            raise CorruptFile(f"{path}: the plan's content does not match its fingerprint")
        return plan


def make_plan(scenario: str, labels: Labels, seed: int, options: Mapping[str, Any]) -> StreamPlan:
    """The plan that an installed scenario makes of these labels and this seed.

    Raises StreamlabError for an unknown scenario, an unknown or mistyped option, or options that
    the labels cannot meet.
    """
    from . import plugins
    from .config import configure

    chosen: Scenario = configure(plugins.load("scenarios", scenario), options, scenario)
    return chosen.plan(labels, seed)
