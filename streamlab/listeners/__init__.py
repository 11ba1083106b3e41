"""Listeners: who is told how runs go, chosen by `--log NAME[:OPTION=VALUE,…]`; none can answer back.

A listener plugin (group `streamlab.listeners`) is a frozen dataclass of options with `begin`. One that
raises while runs go on is told of once and left out from there: no run stops for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from .. import plugins
from ..config import configure
from ..errors import StreamlabError
from ..experiments.held import HeldRun
from ..experiments.rows import parse_row
from ..simulator import events

Hear = Callable[[HeldRun, events.Event], None]


class Listening(Protocol):
    """A listener at work on one experiment."""

    def hear(self, run: HeldRun, event: events.Event) -> None: ...

    def close(self) -> None: ...


class ListenerPlugin(Protocol):
    """A listener plugin: a frozen dataclass of options."""

    def begin(self, experiment: Path) -> Listening:
        """Get ready for the runs of the experiment in this folder, which may not be there yet.

        Raises StreamlabError where it cannot listen, before anything is run.
        """
        ...


@contextmanager
def listening(names: Sequence[str], experiment: Path, tell: Callable[[str], None]) -> Iterator[Hear]:
    """What passes events on to these listeners; tell: is given a line where one of them fails.

    Raises StreamlabError for an unknown name or option, and where a listener's library is not installed.
    """
    with ExitStack() as stack:
        at_work: dict[str, Listening] = {}
        for text in names:
            row = parse_row(text)
            plugin: ListenerPlugin = configure(
                plugins.load("listeners", row.strategy), row.options, f"listener {row.strategy}"
            )
            at_work[text] = plugin.begin(experiment)
            stack.callback(_surely, at_work[text].close, text, tell)

        def hear(run: HeldRun, event: events.Event) -> None:
            for text, listener in list(at_work.items()):
                if not _surely(partial(listener.hear, run, event), text, tell):
                    del at_work[text]

        yield hear


def _surely(act: Callable[[], None], name: str, tell: Callable[[str], None]) -> bool:
    """Whether a listener did what it was to do; where it raised, that is told."""
    try:
        act()
    except Exception as error:
        tell(f"--log {name} listens no longer: {type(error).__name__}: {error}")
        return False
    return True


def library(module: str, package: str, extra: str) -> Any:
    """A listener's library; raises StreamlabError, with what to install, where it is missing."""
    try:
        return import_module(module)
    except ImportError:
        raise StreamlabError(f"{package} is not installed; pip install 'streamlab-cl[{extra}]'") from None


@dataclass
class Tracker:
    """A listener of the usual kind: it opens something a run, logs numbers by step, and ends it.

    start(run) gives a handle; log(handle, numbers, samples_seen); end(handle, metrics, failure), where
    failure is the run's sentence, or None.
    """

    start: Callable[[HeldRun], Any]
    log: Callable[[Any, Mapping[str, float], int], None]
    end: Callable[[Any, Mapping[str, float], str | None], None]
    _open: dict[Path, Any] = field(default_factory=dict)

    def hear(self, run: HeldRun, event: events.Event) -> None:
        if isinstance(event, events.Evaluated):
            self.log(self._handle(run), numbers_of(event), event.samples_seen)
        elif isinstance(event, events.RunEnded):
            self.end(self._handle(run), event.metrics, None)
            del self._open[run.path]
        elif isinstance(event, events.RunFailed) and run.path in self._open:
            self.end(self._open.pop(run.path), {}, event.message)

    def _handle(self, run: HeldRun) -> Any:
        if run.path not in self._open:
            self._open[run.path] = self.start(run)
        return self._open[run.path]

    def close(self) -> None:
        """Whoever is still open was stopped."""
        while self._open:
            self.end(self._open.popitem()[1], {}, "stopped")


def numbers_of(event: events.Evaluated) -> dict[str, float]:
    """What is logged of an evaluation, by name."""
    return {
        "accuracy": event.accuracy,
        **{f"metrics/{name}": value for name, value in event.metrics.items()},
        **{f"losses/{name}": value for name, value in event.losses.items()},
        "memory/held_bytes": float(sum(event.held.values())),
        "seconds/training": event.train_seconds,
        "seconds/evaluation": event.evaluation_seconds,
    }


def settings_of(run: HeldRun) -> dict[str, Any]:
    """All that was run, flat, by dotted name (optimizer.lr)."""
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                add(f"{prefix}.{name}" if prefix else str(name), inner)
        else:
            flat[prefix] = value

    add("", run.spec.to_plain())
    return flat


def name_of(run: HeldRun) -> str:
    """SCENARIO/BUDGET/ROW/seed-N: what a run is called inside its experiment."""
    return f"{run.scenario}/{run.budget}/{run.label}/seed-{run.seed}"
