"""The live view: events folded into a state, drawn a few times a second."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from streamlab.experiments.experiment import Experiment
from streamlab.plans.episodes import EpisodePlan
from streamlab.runs.folder import RunFolder
from streamlab.runs.spec import RunSpec
from streamlab.simulator import events

from .live import LiveState, first_state, fold, layout_of, restored
from .table import accuracy_table


def title_of(experiment: Experiment) -> str:
    """`si-blurry on glyphs-100 · 20,000 samples in 5 experiences · 500ex · 3 seeds`."""
    first = experiment.specs[0]
    plan = experiment.plans[first.plan_seed]
    if isinstance(plan, EpisodePlan):
        what = f"{plan.test.way}-way {_shots(plan)}-shot, {len(plan.train):,} + {len(plan.test):,} episodes"
    else:
        what = f"{plan.num_samples:,} samples in {len(plan.experiences)} experiences · {_budget(experiment)}"
    seeds = len({spec.seed for spec in experiment.specs})
    return f"{first.scenario} on {first.source} · {what} · {seeds} seed{'s' if seeds > 1 else ''}"


def _budget(experiment: Experiment) -> str:
    return next((spec.budget for spec in experiment.specs if not spec.ceiling), "none")


def _shots(plan: EpisodePlan) -> str:
    """`1`, or `1–9` where a support is not even."""
    few, most = min(plan.test.shots), max(plan.test.shots)
    return str(few) if few == most else f"{few}–{most}"


def state_of(experiment: Experiment, folder: Path) -> LiveState:
    """What the folder already holds: complete runs are shown as they ended."""
    state = first_state(
        title_of(experiment), experiment.specs, layout_of(next(iter(experiment.plans.values())))
    )
    held = {spec.folder: RunFolder(folder / spec.folder) for spec in experiment.specs}
    known = {
        spec.folder: restored(spec, held[spec.folder])
        for spec in experiment.specs
        if held[spec.folder].path.exists() and held[spec.folder].result is not None
    }
    return replace(state, runs={**state.runs, **known})


class LiveView:
    """Draws the table in place while runs go on, and leaves the last one standing."""

    def __init__(self, experiment: Experiment, folder: Path, console: Console | None = None) -> None:
        self.console = console or Console()
        self.folder = folder
        self.state = state_of(experiment, folder)
        self._names = experiment.source.class_names
        self._began = time.monotonic()
        self._live = Live(
            console=self.console, get_renderable=self.draw, refresh_per_second=4, transient=False
        )

    def draw(self) -> RenderableType:
        """The table for the console's width at this moment."""
        return accuracy_table(self.state, self.console.width)

    def hear(self, spec: RunSpec, event: events.Event) -> None:
        self.state = fold(self.state, spec, event, self._names)

    def tick(self) -> None:
        """The live display refreshes itself."""

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.state = replace(self.state, happening="")
        self._live.stop()
        if error[0] is None:
            seconds = time.monotonic() - self._began
            self.console.print(f"[dim]{seconds:.0f} s · {self.folder}[/]", highlight=False)
