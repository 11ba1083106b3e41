"""What a metric is, and the measuring of a record by all that are installed.

A metric is a function of a run's record, found by its entry point as any plugin. Accuracies lie in
0..1. What a stream or a strategy does not define is `NotDefined`, with the reason; it is never left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from .. import plugins

if TYPE_CHECKING:
    from .episode_record import EpisodeRecord
    from .record import Record


@dataclass(frozen=True)
class NotDefined:
    """A metric that has no value here, and why."""

    reason: str


Value = float | NotDefined
Metric = Callable[[Any], Value]
M = TypeVar("M", bound=Metric)

LIVE = ("a_auc", "a_avg", "a_last", "f_last", "harmonic_mean", "performance_drop")
CEILING = NotDefined("trained once on everything and evaluated at the end: it has no curve")


def _marked(metric: M, **marks: Any) -> M:
    """The same function with attributes of its own, which those who show it look at."""
    vars(metric).update(marks)
    return metric


def lower_is_better(metric: M) -> M:
    """Mark a metric whose best value is its least."""
    return _marked(metric, lower_is_better=True)


def of_episodes(metric: M) -> M:
    """Mark a metric that takes an EpisodeRecord; without a mark it takes the Record of a stream."""
    return _marked(metric, takes=("episodes",))


def of_any(metric: M) -> M:
    """Mark a metric that takes the record of a stream or of episodes."""
    return _marked(metric, takes=("stream", "episodes"))


def plain_number(metric: M) -> M:
    """Mark a metric that is no share: it is not shown in percent."""
    return _marked(metric, plain=True)


def is_share(name: str) -> bool:
    """Whether the values of the installed metric `name` are shares, shown in percent."""
    return not getattr(plugins.load("metrics", name), "plain", False)


def is_better_lower(name: str) -> bool:
    """Whether the least value of the installed metric `name` is the best."""
    return bool(getattr(plugins.load("metrics", name), "lower_is_better", False))


def not_recorded(option: str) -> NotDefined:
    """The reason of a metric that needs what `--record` did not keep."""
    return NotDefined(f"the run did not record it; --record {option} does")


@cache
def _installed() -> dict[str, Metric]:
    return {name: plugins.load("metrics", name) for name in plugins.names("metrics")}


def measure(
    record: Record | EpisodeRecord, names: Sequence[str] = ()
) -> tuple[dict[str, float], dict[str, str]]:
    """The metrics that are defined (of these names, or of all), and for the others the reason why not."""
    metrics = _installed()
    kind = "episodes" if record.plan.kind == "episodes" else "stream"
    other = NotDefined("the run is of episodes" if kind == "episodes" else "the run is of a stream")
    values = {
        name: metrics[name](record) if kind in getattr(metrics[name], "takes", ("stream",)) else other
        for name in names or metrics
    }
    return (
        {name: value for name, value in values.items() if not isinstance(value, NotDefined)},
        {name: value.reason for name, value in values.items() if isinstance(value, NotDefined)},
    )
