"""Options that every stream takes, whatever its scenario: of its classes, its tasks, and its test images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .config import at_least
from .errors import StreamlabError
from .plans.environments import parse_environment
from .plans.stream import Experience, StreamPlan, labels_at
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
class Distribution:
    """How many training samples each class has: options that every scenario takes.

    samples_per_class: at most so many of each class (None: all). imbalance: a long tail over the
    classes in a drawn order: exponential (Cui et al., CVPR 2019), or step or linear (Buda et al. 2018).
    imbalance_ratio: the most frequent class's samples over the rarest's.
    """

    samples_per_class: int | None = None
    imbalance: Literal["none", "exponential", "step", "linear"] = "none"
    imbalance_ratio: float = 100.0

    def __post_init__(self) -> None:
        at_least("scenario", "imbalance_ratio", self.imbalance_ratio, 1)
        if self.samples_per_class is not None:
            at_least("scenario", "samples_per_class", self.samples_per_class, 1)

    def keep(self, labels: NDArray[np.int64], num_classes: int, seed: int) -> NDArray[np.int64]:
        """The training samples that stay, ascending: which ones of a class is drawn from the seed."""
        draws = Draws(seed, "plan", "distribution")
        place = np.empty(num_classes)
        place[draws.permutation(num_classes)] = np.arange(num_classes) / max(1, num_classes - 1)
        shares = {
            "none": np.ones(num_classes),
            "exponential": self.imbalance_ratio**-place,
            "step": np.where(place < 0.5, 1.0, 1 / self.imbalance_ratio),
            "linear": 1 - place * (1 - 1 / self.imbalance_ratio),
        }[self.imbalance]
        kept = []
        for number in range(num_classes):
            members = np.flatnonzero(labels == number)
            most = (
                len(members) if self.samples_per_class is None else min(len(members), self.samples_per_class)
            )
            kept.append(members[draws.permutation(len(members))[: max(1, round(most * shares[number]))]])
        return np.sort(np.concatenate(kept)).astype(np.int64)
