"""Output that is no live table: plain lines, JSON lines, lists and finished runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from streamlab.config import readable_bytes
from streamlab.errors import StreamlabError
from streamlab.experiments.experiment import Experiment, read_specs, workers_for
from streamlab.runs.folder import RunFolder
from streamlab.runs.spec import RunSpec
from streamlab.simulator import events

from .lines import hanging
from .live import LiveState, fold, layout_of, restored
from .table import accuracy_table
from .view import state_of, title_of

if TYPE_CHECKING:
    from streamlab.experiments.pilot import Pilot


class PlainView:
    """A line when a run starts, at every task end and when it is over; at last the table."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self.folder, self.state = folder, state_of(experiment, folder)

    def hear(self, spec: RunSpec, event: events.Event) -> None:
        self.state = fold(self.state, spec, event)
        where = f"{spec.label} seed {spec.seed}"
        match event:
            case events.RunStarted():
                begins = f"goes on at sample {event.samples_seen:,}" if event.samples_seen else "starts"
                print(f"{where}: {begins}", flush=True)
            case events.Evaluated() if event.task_ends:
                ended = max(event.task_ends) + 1
                print(
                    f"{where}: experience {ended} ended, accuracy {event.accuracy:.1%}, "
                    f"sample {event.samples_seen:,}",
                    flush=True,
                )
            case events.EnvironmentTested():
                print(f"{where}: {event.environment}, accuracy {event.accuracy:.1%}", flush=True)
            case events.RunEnded():
                shown = ", ".join(f"{name} {value:.4f}" for name, value in event.metrics.items())
                print(f"{where}: done, {shown}", flush=True)
            case events.RunFailed():
                print(f"{where}: failed: {event.message}", flush=True)

    def tick(self) -> None:
        """Nothing moves between events."""

    def __enter__(self) -> PlainView:
        print(self.state.title, flush=True)
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.state = replace(self.state, happening="")
            Console(width=140).print(accuracy_table(self.state, 140), highlight=False)
            print(self.folder)


class JsonView:
    """Every event as a line of JSON, with its strategy and seed; for machines."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self.folder = folder

    def hear(self, spec: RunSpec, event: events.Event) -> None:
        head = {"strategy": spec.label, "seed": spec.seed, "folder": str(self.folder / spec.folder)}
        print(json.dumps({**head, **finite(events.to_plain(event))}), flush=True)

    def tick(self) -> None:
        """Nothing moves between events."""

    def __enter__(self) -> JsonView:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing follows the last event."""


def finite(plain: dict[str, object]) -> dict[str, object]:
    """NaN is no JSON: an accuracy over nothing is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in plain.items()
    }


def print_dry_run(experiment: Experiment, pilots: Mapping[str, Pilot], workers: int | None) -> None:
    """What would run: rows, the exemplars that the budget buys each, and the time expected."""
    print(title_of(experiment))
    seeds = len({spec.seed for spec in experiment.specs})
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("strategy")
    for heading in ("budget", "exemplars", "a run takes about"):
        table.add_column(heading, justify="right")
    for label, pilot in pilots.items():
        spec = next(spec for spec in experiment.specs if spec.label == label)
        bought = "unbounded" if spec.ceiling else f"{pilot.exemplars:,}"
        table.add_row(label, spec.budget, bought, readable_seconds(pilot.seconds))
    Console().print(table, highlight=False)
    for seed, plan in experiment.plans.items():
        print(f"plan of seed {seed}: {plan.fingerprint[:16]}")
    at_once = max(1, min(workers_for(experiment, workers), len(experiment.specs)))
    work = seeds * sum(pilot.seconds for pilot in pilots.values())
    longest = max(pilot.seconds for pilot in pilots.values())
    expected = readable_seconds(max(work / at_once, longest))
    count = len(experiment.specs)
    print(
        f"{count} run{'s' if count > 1 else ''}, about {expected} in all on {at_once} at once; "
        f"nothing was run (--dry-run)"
    )


def readable_seconds(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def experiment_state(folder: Path) -> LiveState:
    """The state of an experiment, or of one run, from its folder alone."""
    single = (folder / "run.json").exists()
    specs = (RunFolder(folder).spec,) if single else read_specs(folder)
    places = {spec.folder: folder if single else folder / spec.folder for spec in specs}
    runs = {spec.folder: restored(spec, RunFolder(places[spec.folder])) for spec in specs}
    seeds = len({spec.seed for spec in specs})
    title = f"{specs[0].scenario} on {specs[0].source} · {seeds} seed{'s' if seeds > 1 else ''} "
    layout = layout_of(RunFolder(next(iter(places.values()))).plan())
    return LiveState(title, runs, layout=layout)


def print_experiments(folder: Path) -> None:
    """One line an experiment below `folder`, newest first."""
    found = sorted(folder.glob("**/experiment.json"), key=lambda path: -path.stat().st_mtime)
    if not found:
        raise StreamlabError(f"no experiments lie below {folder}")
    for path in found:
        specs = read_specs(path.parent)
        complete = sum((path.parent / spec.folder / "result.json").exists() for spec in specs)
        labels = ", ".join(dict.fromkeys(spec.label for spec in specs))
        when = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        state = "complete" if complete == len(specs) else f"{complete} of {len(specs)} complete"
        print(f"{path.parent}  {when}  {specs[0].scenario} on {specs[0].source}  {labels}  {state}")


def print_experiment(folder: Path) -> None:
    """The table of an experiment, its accuracy over the stream as a chart, and what was held."""
    console = Console()
    state = experiment_state(folder)
    console.print(accuracy_table(state, console.width), highlight=False)
    print()
    print(accuracy_chart(state, min(console.width, 100)))
    kept = held_by_kind(folder)
    if kept:
        print("\nthe most that was held:")
    width = max((len(label) for label in kept), default=0)
    for label, kinds in kept.items():
        ranked = sorted(kinds.items(), key=lambda item: -item[1])
        text = ", ".join(f"{kind} {readable_bytes(count)}" for kind, count in ranked)
        print(hanging(f"  {label:<{width}}  ", text))


def held_by_kind(folder: Path) -> dict[str, dict[str, int]]:
    """Of every row's first complete run, the most bytes that it held, by kind."""
    single = (folder / "run.json").exists()
    runs = [RunFolder(folder)] if single else [RunFolder(folder / s.folder) for s in read_specs(folder)]
    found: dict[str, dict[str, int]] = {}
    for run in runs:
        result = run.result
        if result is not None:
            found.setdefault(run.spec.label, result["held"])
    return found


def accuracy_chart(state: LiveState, width: int = 80, height: int = 10) -> str:
    """Accuracy (%) over the evaluations of every row's first seed, a letter a row."""
    inner = width - 8
    grid = [[" "] * inner for _ in range(height)]
    legend = []
    for number, label in enumerate(state.labels):
        curve = state.of(label)[0].curve
        letter = chr(ord("a") + number)
        legend.append(f"{letter} {label}")
        for column in range(inner):
            place = column * (len(curve) - 1) / (inner - 1) if len(curve) > 1 else 0
            value = curve[round(place)] if curve else math.nan
            if value == value and (len(curve) > 1 or column == inner - 1):
                row = height - 1 - min(height - 1, int(value * height))
                grid[row][column] = letter
    lines = [
        f"{round(100 * (height - row) / height):>4} % |" + "".join(cells).rstrip()
        for row, cells in enumerate(grid)
    ]
    axis = "       +" + "-" * inner
    caption = "        stream, first to last evaluation (seed 0)"
    return "\n".join([*lines, axis, caption, *(f"        {row}" for row in legend)])
