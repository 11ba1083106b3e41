"""What a report is made of: runs, a panel a scenario, and all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..runs.spec import RunSpec

Status = Literal["complete", "failed", "unfinished"]


@dataclass(frozen=True)
class Result:
    """One run. curve: (samples seen, accuracy) at its evaluations; matrix: R, None where not tested.

    exemplars: held at the end (resources have the most that were held).
    """

    folder: str
    spec: RunSpec
    status: Status
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    matrix: Sequence[Sequence[float | None]] = ()
    curve: Sequence[tuple[int, float]] = ()
    exemplars: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """One scenario: its budgets from small to large, and its runs by (budget, row), seed by seed.

    bytes_of: of a budget, where it is one in bytes. Rows that keep no exemplars stand at every budget.
    """

    label: str
    budgets: tuple[str, ...]
    bytes_of: Mapping[str, int]
    results: Mapping[tuple[str, str], tuple[Result, ...]]

    @property
    def rows(self) -> list[str]:
        """Labels in order."""
        return list(dict.fromkeys(row for _, row in self.results))

    def values(self, budget: str, row: str, metric: str) -> dict[int, float]:
        """A metric, or a resource, of a row's complete runs, by seed."""
        found = {}
        for result in self.complete(budget, row):
            value = result.metrics.get(metric, result.resources.get(metric))
            if value is not None:
                found[result.spec.seed] = value
        return found

    def complete(self, budget: str, row: str) -> list[Result]:
        """A row's complete runs at a budget, seed by seed."""
        return [result for result in self.results.get((budget, row), ()) if result.status == "complete"]

    def is_ceiling(self, row: str) -> bool:
        """Whether a row is trained on everything at once, and not ranked."""
        return any(result.spec.ceiling for result in self.all_of(row))

    def all_of(self, row: str) -> list[Result]:
        """All runs of a row."""
        return [result for (_, label), results in self.results.items() if label == row for result in results]


@dataclass(frozen=True)
class Gathered:
    """What a report is made of. reference: the row that others are compared with (None: the best).

    recipes: what was asked for, one a comparison, as files that `streamlab compare` takes.
    """

    panels: tuple[Panel, ...]
    accounting: str
    count_frozen: bool
    reference: str | None
    folders: tuple[str, ...]
    tuned: Sequence[Mapping[str, Any]] = ()
    recipes: tuple[str, ...] = ()

    @property
    def results(self) -> list[Result]:
        """Every run once."""
        seen = {
            result.folder: result
            for panel in self.panels
            for results in panel.results.values()
            for result in results
        }
        return list(seen.values())

    @property
    def seeds(self) -> int:
        """Seeds of the row that has most."""
        return max((len(results) for panel in self.panels for results in panel.results.values()), default=0)
