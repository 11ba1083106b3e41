"""`streamlab recipes`: the published protocols that ship; and what was published, beside one's own."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamlab import recipes
from streamlab.data.load import data_folder, load_source, source_plugin
from streamlab.data.names import several
from streamlab.data.published import Listed
from streamlab.errors import StreamlabError
from streamlab.experiments.request import Request, read_recipe
from streamlab.recipes import PREFIX, About

from .lines import hanging, readable_seconds


def print_recipes() -> None:
    """A line a recipe: its source, and how many figures were published with it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("recipe", "source", "strategies", "published"):
        table.add_column(heading, no_wrap=heading != "strategies")
    for name in recipes.shipped():
        path = recipes.path_of(PREFIX + name)
        asked, told = Request(**{**read_recipe(path), "intervals": False}), recipes.about(path)
        assert told is not None, f"{name} says whose it is"
        figures = f"{len(told.figures)} figures" if told.figures else "not re-read"
        table.add_row(name, asked.source, ", ".join(asked.strategies), figures)
    Console().print(table, highlight=False)
    print("\nstreamlab recipes NAME says more; streamlab run recipe:NAME --strategy STRATEGY runs it")


def print_recipe(name: str, data: str | None, timed: bool) -> None:
    """Whose protocol it is, what it needs, what was published; timed: and how long it takes here."""
    path = recipes.path_of(PREFIX + name)
    told = recipes.about(path)
    assert told is not None, f"{name} says whose it is"
    request = Request(**{**read_recipe(path), "intervals": False, "data": data})
    lines = [("paper", told.paper), ("table", told.table), ("metric", told.metric)]
    lines += [("read in", told.read_in)] if told.read_in else []
    lines += [("source", _source_line(request.source, data)), ("weights", told.weights or "none")]
    lines += [("differs", sentence) for sentence in told.differs]
    lines += [("published", f"{row}: {metric} {figure}") for (row, metric), figure in told.figures.items()]
    if not told.figures:
        lines += [("published", "no figure that could be read again at its source")]
    print(name)
    for heading, text in lines:
        print(hanging(f"  {heading:<11}", text))
    if timed:
        _print_times(request)


def check_protocol(told: About, request: Request) -> None:
    """Raise StreamlabError where a recipe's protocol is of another number of classes than the source.

    A published source says how many it has; any other is read.
    """
    plugin = source_plugin(several(request.source)[0])[0]
    alone = len(several(request.source)) == 1 and isinstance(plugin, Listed)
    found = plugin.classes if alone else len(load_source(request.source, request.data).class_names)
    if found != told.classes:
        raise StreamlabError(f"the recipe is of {told.classes} classes, and {request.source} has {found}")


def print_beside(told: About, folder: Path) -> None:
    """The published figures of the rows that were run, and one's own with their intervals over seeds."""
    import streamlab
    from streamlab.evaluation.intervals import interval

    found = streamlab.load_run(folder)
    runs = [run for run in getattr(found, "runs", [found]) if run.complete]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("row", no_wrap=True)
    for heading in ("metric", "published, %", "here, %", "at", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (row, metric), figure in told.figures.items():
        by_budget: dict[str, list[float]] = {}
        for run in runs:
            budget = str(run.spec.budget)
            if row in (run.spec.label, f"{run.spec.label} {budget}") and metric in run.metrics:
                by_budget.setdefault(budget, []).append(run.metrics[metric])
        for budget, values in by_budget.items():
            mine = interval(values)
            half = "" if mine.half_width is None else f" ± {100 * mine.half_width:.2f}"
            here = f"{100 * mine.mean:.2f}{half}"
            table.add_row(row, metric, str(figure), here, budget or "–", str(mine.n))
    if table.row_count:
        print(f"\n{told.paper}, {told.table}")
        Console().print(table, highlight=False)


def _source_line(name: str, data: str | None) -> str:
    plugin, _ = source_plugin(name)
    if plugin.found(data_folder(data)):
        return f"{name}, which is here"
    return f"{name}, which is not here; streamlab data fetch {name}"


def _print_times(request: Request) -> None:
    """What a pilot of each row says."""
    from streamlab.experiments.grid import prepare_grid
    from streamlab.experiments.pilot import take_pilots

    for (_, label), pilot in take_pilots(prepare_grid(request)).items():
        print(hanging(f"  {'takes':<11}", f"{label}: about {readable_seconds(pilot.seconds)} a run here"))
