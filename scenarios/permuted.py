"""Permuted images: each task shows all classes under its own fixed order of the pixels.

The classic of Goodfellow et al. 2013 (arXiv 1312.6211) and of EWC (Kirkpatrick et al. 2017). The
first task's pixels stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from streamlab.config import at_least
from streamlab.plans.stream import Experience, Labels, StreamPlan, permutation

from .tasks import Boundaries, Kind, check_boundaries, tasks_plan

CITATION = """
@article{goodfellow2013forgetting,
  title = {An Empirical Investigation of Catastrophic Forgetting in Gradient-Based Neural Networks},
  author = {Goodfellow, Ian J. and Mirza, Mehdi and Xiao, Da and Courville, Aaron and Bengio, Yoshua},
  journal = {arXiv:1312.6211},
  year = {2013},
}
"""


@dataclass(frozen=True)
class Permuted:
    """Options of the stream.

    tasks: orders of the pixels, the first of them the images' own. kind: an online stream, or
    sessions. boundaries: shown, or hidden.
    """

    tasks: int = 10
    kind: Kind = "online"
    boundaries: Boundaries = "shown"

    name: ClassVar[str] = "permuted"

    def __post_init__(self) -> None:
        at_least(self.name, "tasks", self.tasks, 1)
        check_boundaries(self)

    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        """The stream for these labels and this seed: every task has every sample."""
        train, test = np.arange(len(labels.train)), np.arange(len(labels.test))
        everything = tuple(range(labels.num_classes))
        tasks = [
            Experience(number * len(train) + train, number * len(test) + test, everything)
            for number in range(self.tasks)
        ]
        transforms = tuple(permutation(seed, number) for number in range(self.tasks))
        return tasks_plan(self, labels, seed, tasks, transforms)
