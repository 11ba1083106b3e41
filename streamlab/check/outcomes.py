"""Runs the battery on one strategy and says what came of each check."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..simulator.episode_simulation import EpisodeSimulation
from .promises import check_it_runs, strategy_checks
from .subject import BATCH, Broken, NoState, Subject, as_in_a_run

Status = Literal["kept", "broken", "known", "mended", "not reached"]


@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    check: its name. promise: the first line of its docstring; why: the rest. status: "known" is a
    failure that the strategy declares with its reason, "mended" one that it declares and no longer
    has, which is a failure too. message, line: what was found, and where to look.
    """

    check: str
    promise: str
    why: str
    status: Status
    message: str = ""
    line: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether the strategy must be changed."""
        return self.status in ("broken", "mended")


def check_strategy(subject: Subject) -> Iterator[Outcome]:
    """The outcome of every check, as it comes; after a strategy that does not run, none is reached."""
    runs = True
    for check in strategy_checks():
        name = check.__name__.removeprefix("check_")
        promise, _, why = inspect.cleandoc(check.__doc__ or "").partition("\n\n")
        about = (name, promise, " ".join(why.split()))
        known = subject.strategy.known_failures.get(name)
        if not runs:
            yield Outcome(*about, "not reached")
            continue
        try:
            check(subject)
        except Broken as broken:
            runs = check is not check_it_runs
            status: Status = "known" if known else "broken"
            yield Outcome(*about, status, known or broken.message, broken.line)
        except NoState:
            yield Outcome(*about, "not reached")
        except Exception as error:
            line = subject.line_of_error(error)
            yield Outcome(
                *about, "known" if known else "broken", known or f"{type(error).__name__}: {error}", line
            )
        else:
            mended = "it is declared as a known failure, and passes: take the declaration out"
            yield Outcome(*about, "mended" if known else "kept", mended if known else "")


def check_plugin(subject: Any, checks: Iterable[Callable[[Any], None]]) -> Iterator[Outcome]:
    """The outcome of every check of a scenario or a source, as it comes."""
    works = True
    for number, check in enumerate(checks):
        name = check.__name__.removeprefix("check_")
        promise, _, why = inspect.cleandoc(check.__doc__ or "").partition("\n\n")
        about = (name, promise, " ".join(why.split()))
        if not works:
            yield Outcome(*about, "not reached")
            continue
        try:
            check(subject)
        except Broken as broken:
            works = number > 0
            yield Outcome(*about, "broken", broken.message, broken.line)
        except Exception as error:
            works = number > 0
            yield Outcome(*about, "broken", f"{type(error).__name__}: {error}")
        else:
            yield Outcome(*about, "kept")


def step_seconds(subject: Subject, steps: int = 30) -> float:
    """Median seconds of a learning step on the tiny stream, with its replay."""
    simulation = subject.simulation()
    if isinstance(simulation, EpisodeSimulation):
        return _episode_seconds(simulation, steps)
    order = simulation.order(simulation.plan.stream)
    taken = []
    with as_in_a_run():
        simulation.start()
        if simulation.plan.shows_boundaries:
            simulation.begin(0)
        for number in range(steps):
            start = number * BATCH % (len(order) - BATCH + 1)
            began = time.perf_counter()
            simulation.learn(order[start : start + BATCH], order[:0])
            taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]


def _episode_seconds(simulation: EpisodeSimulation, steps: int) -> float:
    """The same of steps on episodes; 0 where the network is trained on classes at large."""
    if simulation.strategy.base is not None:
        return 0.0
    taken = []
    with as_in_a_run():
        simulation.start()
        simulation.begin()
        for _ in range(steps):
            began = time.perf_counter()
            simulation.learn(0)
            taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]
