"""Class-incremental stream of disjoint tasks: every class belongs to one task alone.

The setting of iCaRL (Rebuffi et al., CVPR 2017), as an online stream (each sample once) or as
sessions of several epochs (stream.epochs); a large first session and one class at a time too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.plans.stream import Experience, Labels, StreamPlan
from streamlab.randomness import Draws

from .class_orders import ClassOrder, class_order
from .tasks import Boundaries, Kind, check_boundaries, of_classes, tasks_plan

CITATION = """
@inproceedings{rebuffi2017icarl,
  title = {{iCaRL}: Incremental Classifier and Representation Learning},
  author = {Rebuffi, Sylvestre-Alvise and Kolesnikov, Alexander and Sperl, Georg and Lampert, Christoph H.},
  booktitle = {CVPR},
  year = {2017},
}
"""


@dataclass(frozen=True)
class ClassIncremental:
    """Options of the stream.

    tasks: how many, as even as can be: 10 classes in 3 tasks are 4 + 3 + 3 (5 unless given, or what
    follows from the increment). base: classes of the first task (0: as many as the others).
    increment: classes of each later task; the last takes what is left. class_order: shuffled by
    the seed, sorted, numpy:SEED, file:PATH or a list (class_orders.py). kind: an online stream, or
    sessions. boundaries: shown, or hidden.
    """

    tasks: int | None = None
    base: int = 0
    increment: int = 0
    class_order: ClassOrder = "shuffled"
    kind: Kind = "online"
    boundaries: Boundaries = "shown"

    name: ClassVar[str] = "class-incremental"

    def __post_init__(self) -> None:
        at_least(self.name, "tasks", 1 if self.tasks is None else self.tasks, 1)
        at_least(self.name, "base", self.base, 0)
        at_least(self.name, "increment", self.increment, 0)
        if self.base and self.tasks == 1:
            raise StreamlabError(f"{self.name}: a base of {self.base} classes needs at least 2 tasks")
        check_boundaries(self)

    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        """The stream for these labels and this seed.

        Raises StreamlabError where there are more tasks than classes, or tasks that do not follow
        from base and increment.
        """
        sizes = self._sizes(labels.num_classes)
        order = class_order(self.class_order, labels, Draws(seed, "plan", self.name), self.name)
        tasks = []
        for part in np.split(order, np.cumsum(sizes)[:-1]):
            classes = tuple(sorted(part.tolist()))
            test = of_classes(labels.test, classes)
            tasks.append(Experience(of_classes(labels.train, classes), test, classes))
        return tasks_plan(self, labels, seed, tasks)

    def _sizes(self, classes: int) -> list[int]:
        """Classes of each task."""
        first = [self.base] if self.base else []
        left = classes - self.base
        if self.increment:
            later, rest = divmod(left, self.increment)
            sizes = first + [self.increment] * max(0, later) + ([rest] if left > 0 and rest else [])
            if self.tasks not in (None, len(sizes)):
                raise StreamlabError(
                    f"{self.name}: base {self.base} and increment {self.increment} make "
                    f"{len(sizes)} tasks of {classes} classes, not {self.tasks}"
                )
        else:
            count = (5 if self.tasks is None else self.tasks) - len(first)
            sizes = first + [left // count + (number < left % count) for number in range(count)]
        if left < 0 or min(sizes) < 1:
            raise StreamlabError(
                f"{self.name}: {len(sizes)} tasks"
                + (f" with a base of {self.base} classes" if self.base else "")
                + f" need more classes than the source's {classes}"
            )
        return sizes
