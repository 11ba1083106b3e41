"""Domain-incremental stream: the same classes throughout, a domain at a time.

A domain is a value of one of the source's factors (a style, a font, a writer); van de Ven and
Tolias 2019. Each task is judged on the test samples of its own domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from streamlab.errors import StreamlabError, unknown
from streamlab.plans.stream import Experience, Labels, StreamPlan
from streamlab.randomness import Draws

from .tasks import Boundaries, Kind, check_boundaries, tasks_plan

CITATION = """
@article{vandeven2019three,
  title = {Three Scenarios for Continual Learning},
  author = {van de Ven, Gido M. and Tolias, Andreas S.},
  journal = {arXiv:1904.07734},
  year = {2019},
}
"""


@dataclass(frozen=True)
class DomainIncremental:
    """Options of the stream.

    factor: whose values are the domains (empty means the source's first factor). domains: which, in this
    order (empty means all, in an order drawn from the seed). kind: an online stream, or sessions.
    boundaries: shown, or hidden.
    """

    factor: str = ""
    domains: tuple[str, ...] = ()
    kind: Kind = "online"
    boundaries: Boundaries = "shown"

    name: ClassVar[str] = "domain-incremental"

    def __post_init__(self) -> None:
        check_boundaries(self)

    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        """The stream for these labels and this seed.

        Raises StreamlabError for a factor or a domain that the source does not have.
        """
        factors = [name for name in labels.train_factors if name != "file"]  # a file's name is no domain
        if not factors:
            raise StreamlabError(f"{self.name}: the source has no factors, and so no domains")
        factor = self.factor or factors[0]
        if factor not in factors:
            raise unknown(f"factor for {self.name}", factor, factors)
        train = labels.train_factors[factor]
        test = labels.test_factors.get(factor, np.zeros(len(labels.test), train.dtype))
        found = sorted(set(train.tolist()))
        for domain in self.domains:
            if domain not in found:
                raise unknown(f"domain of {factor}", domain, found)
        drawn = [found[place] for place in Draws(seed, "plan", self.name).permutation(len(found))]
        tasks = []
        for domain in self.domains or drawn:
            members = np.flatnonzero(train == domain).astype(np.int64)
            classes = tuple(np.unique(labels.train[members]).tolist())
            judged = np.flatnonzero((test == domain) & np.isin(labels.test, classes))
            tasks.append(Experience(members, judged.astype(np.int64), classes, {"domain": domain}))
        return tasks_plan(self, labels, seed, tasks)
