"""Options that every stream takes, whatever its scenario: of its classes, its tasks, and its test images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .config import at_least
from .errors import StreamlabError, unknown
from .plans.environments import parse_environment
from .plans.stream import Experience, Labels, StreamPlan, labels_at
from .randomness import Draws

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Corruption:
    """What every scenario's test images can be put in: an option that every scenario but episodes takes.

    environment: clutter, small-target, low-light, blur, occlusion or low-contrast with a severity, as
    low-light:3 (empty means clean).
    """

    environment: str = ""

    def __post_init__(self) -> None:
        if self.environment:
            parse_environment(self.environment)

    def applied(self, plan: StreamPlan, size: int) -> StreamPlan:
        """The plan with its test samples, of a split of `size`, in the environment."""
        if not self.environment:
            return plan
        if plan.transforms:
            raise StreamlabError(
                f"{plan.scenario} transforms its images already, and its test cannot be in an environment"
            )

        def corrupted(experience: Experience) -> Experience:
            return dataclasses.replace(experience, test_indices=experience.test_indices + size)

        experiences = tuple(map(corrupted, plan.experiences))
        transforms = ("identity", self.environment)
        options = {**plan.options, "environment": self.environment}
        return dataclasses.replace(plan, experiences=experiences, transforms=transforms, options=options)


@dataclass(frozen=True)
class Part:
    """A stream's first tasks alone, or all that come after them: an option that every stream takes.

    part: `first:3` or `after:3` experiences (empty: all). They may share no class with the others.
    """

    part: str = ""

    def applied(self, plan: StreamPlan, labels: NDArray[np.int64]) -> StreamPlan:
        """The plan of these experiences; raises StreamlabError where they are not apart from the others."""
        if not self.part:
            return plan
        which, _, number = self.part.partition(":")
        if which not in ("first", "after") or not number.isdigit():
            raise StreamlabError(f"scenario: part is {self.part!r}, and should be first:3 or after:3")
        count, experiences = int(number), tuple(plan.experiences)
        if not 0 < count < len(experiences):
            raise StreamlabError(
                f"scenario: part is {self.part}, and {plan.scenario} has {len(experiences)} experiences"
            )
        parts = experiences[:count], experiences[count:]
        if plan.has_base:
            raise StreamlabError(f"scenario: part is of streams without a base session, not {plan.scenario}")
        shown = [{*np.concatenate([labels_at(labels, e.indices) for e in part]).tolist()} for part in parts]
        if shown[0] & shown[1]:
            raise StreamlabError(
                f"scenario: part is {self.part}, and classes of the first {count} experiences of "
                f"{plan.scenario} come again later"
            )
        options = {**plan.options, "part": self.part}
        return dataclasses.replace(plan, experiences=parts[which == "after"], options=options)


@dataclass(frozen=True)
class Subgroups:
    """What accuracy is told apart by within classes: an option that every stream takes.

    subgroups: a factor of the source's test split (font, style, domain; empty: none).
    """

    subgroups: str = ""

    def applied(self, plan: StreamPlan, labels: Labels) -> StreamPlan:
        """The plan with each test sample's subgroup, counted in the order of the factor's values."""
        if not self.subgroups:
            return plan
        if self.subgroups not in labels.test_factors:
            raise unknown("factor of the source's test split, for scenario.subgroups", self.subgroups,
                          labels.test_factors)  # fmt: skip
        _, groups = np.unique(labels.test_factors[self.subgroups], return_inverse=True)
        options = {**plan.options, "subgroups": self.subgroups}
        return dataclasses.replace(plan, subgroups=groups.astype(np.int64), options=options)


@dataclass(frozen=True)
class Distribution:
    """How many training samples each class has: options that every scenario takes.

    samples_per_class: at most so many of each class (None: all). imbalance: a long tail over the
    classes in a drawn order: exponential (Cui et al., CVPR 2019), step or linear (Buda et al. 2018), or
    pareto, a power of the rank (Zipf's law, whose sizes follow Pareto's). imbalance_ratio: the most frequent
    class's samples over the rarest's. imbalance_over: one tail over the stream, or one over each experience's
    classes in an order of its own (tasks), so that a class may be rare here and frequent there.
    """

    samples_per_class: int | None = None
    imbalance: Literal["none", "exponential", "step", "linear", "pareto"] = "none"
    imbalance_ratio: float = 100.0
    imbalance_over: Literal["stream", "tasks"] = "stream"

    def __post_init__(self) -> None:
        if self.imbalance_over == "tasks" and self.imbalance == "none":
            raise StreamlabError(
                "scenario: imbalance_over is tasks, and imbalance, which it is of, is none; set "
                "scenario.imbalance to exponential, step, linear or pareto"
            )
        at_least("scenario", "imbalance_ratio", self.imbalance_ratio, 1)
        if self.samples_per_class is not None:
            at_least("scenario", "samples_per_class", self.samples_per_class, 1)

    def keep(self, labels: NDArray[np.int64], num_classes: int, seed: int) -> NDArray[np.int64]:
        """The training samples that stay, ascending: which ones of a class is drawn from the seed."""
        draws = Draws(seed, "plan", "distribution")
        rank = np.empty(num_classes)
        rank[draws.permutation(num_classes)] = np.arange(num_classes)
        shares = self._shares(rank) if self.imbalance_over == "stream" else np.ones(num_classes)
        kept = []
        for number in range(num_classes):
            members = np.flatnonzero(labels == number)
            most = (
                len(members) if self.samples_per_class is None else min(len(members), self.samples_per_class)
            )
            kept.append(members[draws.permutation(len(members))[: max(1, round(most * shares[number]))]])
        return np.sort(np.concatenate(kept)).astype(np.int64)

    def of_tasks(self, plan: StreamPlan, labels: NDArray[np.int64]) -> StreamPlan:
        """The plan with a tail over each experience's classes, where that is asked; the order stays.

        labels: (N,) of the training split.
        """
        if self.imbalance_over != "tasks":
            return plan
        experiences = tuple(
            self._thinned(experience, labels_at(labels, experience.indices), plan.seed, number)
            for number, experience in enumerate(plan.experiences)
        )
        return dataclasses.replace(plan, experiences=experiences)

    def _thinned(
        self, experience: Experience, labels: NDArray[np.int64], seed: int, number: int
    ) -> Experience:
        draws = Draws(seed, "plan", "distribution", number)
        classes = np.unique(labels)
        rank = np.empty(len(classes))
        rank[draws.permutation(len(classes))] = np.arange(len(classes))
        stays = np.zeros(len(labels), bool)
        for label, share in zip(classes, self._shares(rank), strict=True):
            members = np.flatnonzero(labels == label)
            stays[members[draws.permutation(len(members))[: max(1, round(len(members) * share))]]] = True
        return dataclasses.replace(experience, indices=experience.indices[stays])

    def _shares(self, rank: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K,) ranks from 0, the most frequent, -> (K,) the shares of its samples that a class keeps."""
        last = max(1, len(rank) - 1)
        place = rank / last
        kinds: dict[str, NDArray[np.float64]] = {
            "none": np.ones(len(rank)),
            "exponential": self.imbalance_ratio**-place,
            "step": np.where(place < 0.5, 1.0, 1 / self.imbalance_ratio),
            "linear": 1 - place * (1 - 1 / self.imbalance_ratio),
            "pareto": (1 + rank) ** (-np.log(self.imbalance_ratio) / np.log(1 + last)),
        }
        return kinds[self.imbalance]
