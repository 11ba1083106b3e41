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
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ..errors import CorruptFile, StreamlabError
from ..files import read_arrays, write_bytes
from .clock import Clock
from .episodes import EpisodePlan

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


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

    @property
    def everything(self) -> NDArray[np.int64]:
        """(N + M,) the labels of the training split, then of the test split."""
        return np.concatenate([self.train, self.test])

    def only(self, kept: NDArray[np.int64]) -> Labels:
        """These of the training samples, and the whole test split."""
        factors = {name: values[kept] for name, values in self.train_factors.items()}
        return dataclasses.replace(self, train=self.train[kept], train_factors=factors)

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
    the test split: what this experience, and no other, is judged on. classes: those that belong
    to it. Where the plan has transforms, index i names sample i % N of a split of N under
    transform i // N.
    """

    indices: NDArray[np.int64]
    test_indices: NDArray[np.int64]
    classes: tuple[int, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)


class Scenario(Protocol):
    """A scenario plugin: a frozen dataclass of options that turns labels and a seed into a plan."""

    def plan(self, labels: Labels, seed: int) -> Plan: ...


@dataclass(frozen=True, eq=False)
class StreamPlan:
    """A sequence of experiences, immutable, hashable and saveable.

    transforms: what is done to images, by name (streamlab.data.split); empty means images as they are.
    class_counts: training samples of each class in the stream, filled in by `make_plan`. has_base:
    the first experience is a base session, for training a network on (few-shot sessions). points: a regular
    evaluation is taken at the first batch end at or past a multiple ("at"), or strictly past it ("past", as
    the Si-Blurry authors' trainer: then there is none at the stream's very end). clock: what the stream
    grants with each sample, and how late labels are. wrong_labels: (k, 3) int64, training samples, the labels
    that they are given, and their own. subgroups: (M,) int64, the subgroup of each sample of the test split,
    where accuracy is told apart by one.
    """

    scenario: str
    kind: str
    num_classes: int
    shows_boundaries: bool
    seed: int
    options: Mapping[str, Any]
    experiences: Sequence[Experience]
    transforms: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    has_base: bool = False
    points: Literal["at", "past"] = "at"
    clock: Clock = field(default_factory=Clock)
    wrong_labels: NDArray[np.int64] | None = None
    subgroups: NDArray[np.int64] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content: kind, boundaries, clock, transforms, every index, wrong label, subgroup."""
        digest = hashlib.sha256()
        head = ["streamlab plan 1", self.kind, self.num_classes, self.shows_boundaries]
        head += ["base"] if self.has_base else []
        head += ["wrong labels"] if self.wrong_labels is not None else []
        head += ["subgroups"] if self.subgroups is not None else []
        head += ["evaluated past points"] if self.points == "past" else []
        head += [dataclasses.asdict(self.clock)] if self.clock != Clock() else []
        head += self.transforms
        digest.update(json.dumps([*head, len(self.experiences)]).encode())
        columns = (self.wrong_labels, self.subgroups)
        parts: list[ArrayLike] = [column for column in columns if column is not None]
        for experience in self.experiences:
            parts += [experience.indices, experience.test_indices, experience.classes]
        for part in parts:
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

    @cached_property
    def shared_classes(self) -> NDArray[np.bool_]:
        """(classes,) which belong to several experiences, as all do in a domain-incremental stream."""
        owners = np.zeros(self.num_classes, np.int64)
        for experience in self.experiences:
            owners[list(experience.classes)] += 1
        shared: NDArray[np.bool_] = owners > 1
        return shared

    def experience_of_test(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) the experience that each of these test samples belongs to."""
        owners, place = self._test_owners
        found: NDArray[np.int64] = owners[np.searchsorted(place, indices)]
        return found

    @cached_property
    def _test_owners(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        owners = np.repeat(np.arange(len(self.experiences)), [len(e.test_indices) for e in self.experiences])
        place = np.concatenate([e.test_indices for e in self.experiences])
        order = np.argsort(place, kind="stable")
        return owners[order], place[order]

    def given(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) the labels that training samples are learned by, of their own."""
        return self._with_labels(labels, 1)

    def true(self, given: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) training samples' own labels, of those that they are learned by."""
        return self._with_labels(given, 2)

    def _with_labels(self, labels: NDArray[np.int64], column: int) -> NDArray[np.int64]:
        if self.wrong_labels is None:
            return labels
        found = labels.copy()
        found[self.wrong_labels[:, 0]] = self.wrong_labels[:, column]
        return found

    def merged(self) -> StreamPlan:
        """The same samples as one session: what a jointly trained ceiling learns from."""
        everything = Experience(np.sort(self.stream), self.test_indices, tuple(range(self.num_classes)))
        whole = dataclasses.replace(self, kind="sessions", shows_boundaries=True, experiences=(everything,))
        return dataclasses.replace(whole, has_base=False, clock=Clock())

    def save(self, path: str | Path) -> None:
        """Write the plan as one safetensors file, whole or not at all."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {}
        for number, experience in enumerate(self.experiences):
            arrays[f"{number:06}.indices"] = np.ascontiguousarray(experience.indices)
            arrays[f"{number:06}.test_indices"] = np.ascontiguousarray(experience.test_indices)
            arrays[f"{number:06}.classes"] = np.asarray(experience.classes, np.int64)
        head = {name: getattr(self, name) for name in _HEAD}
        if self.wrong_labels is not None:
            arrays["wrong_labels"] = np.ascontiguousarray(self.wrong_labels)
        if self.subgroups is not None:
            arrays["subgroups"] = np.ascontiguousarray(self.subgroups)
        head["fingerprint"] = self.fingerprint
        head["clock"] = dataclasses.asdict(self.clock)
        write_bytes(Path(path), save(arrays, metadata={"plan": json.dumps(head)}))

    @staticmethod
    def load(path: str | Path) -> StreamPlan:
        """Read a saved plan; raises CorruptFile unless its content has its fingerprint."""
        head, arrays = read_arrays(Path(path), "plan")
        try:
            fingerprint = head.pop("fingerprint")
            head |= {name: tuple(head[name]) for name in ("transforms", "class_counts")}
            columns = {name: arrays.pop(name, None) for name in ("wrong_labels", "subgroups")}
            count = len({name.split(".")[0] for name in arrays})
            plan = StreamPlan(
                clock=Clock(**head.pop("clock", {})),
                **columns,
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
            whole = plan.fingerprint == fingerprint
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptFile(f"{path} is not a saved plan: {error}") from None
        if not whole:
            raise CorruptFile(f"{path}: the plan's content does not match its fingerprint")
        return plan


Plan = StreamPlan | EpisodePlan


def load_plan(path: Path) -> Plan:
    """Read a saved plan of either make; raises CorruptFile."""
    kind = read_arrays(path, "plan")[0].get("kind")
    return EpisodePlan.load(path) if kind == EpisodePlan.kind else StreamPlan.load(path)


_HEAD = (
    "scenario",
    "kind",
    "num_classes",
    "shows_boundaries",
    "seed",
    "options",
    "transforms",
    "class_counts",
    "has_base",
    "points",
)


def permutation(seed: int, number: int) -> str:
    """The name of a transform: pixels in the order that two numbers draw; number 0 leaves them."""
    return f"permute:{seed}/{number}" if number else "identity"


def labels_at(labels: NDArray[np.int64], indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the labels of these indices of a plan, whatever transform they are under."""
    found: NDArray[np.int64] = labels[indices % len(labels)]
    return found
