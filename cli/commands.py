"""The commands that run: `run`, `compare`, `resume` of either; and `report`, of what is there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from streamlab.errors import StreamlabError

from .options import REQUEST, JsonLines, Workers, make_request, scenario_or_recipe, takes_a_request

Scenarios = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SCENARIO…|RECIPE.toml",
        help="Scenarios by name, or a recipe.",
        autocompletion=scenario_or_recipe,
        show_default=False,
    ),
]


@takes_a_request
def run(scenarios: Scenarios = None, **options: Any) -> None:
    """Run strategies on a stream and watch them live.

    With no argument: the quickstart on the bundled glyphs, under a minute on two cores.
    """
    _run("run", scenarios, {} if not scenarios else {"strategies": ()}, options, report=False)


@takes_a_request
def compare(scenarios: Scenarios = None, **options: Any) -> None:
    """Compare strategies at aligned memory budgets, and write a report.

    By default er and icarl on class-incremental, with intervals: a single seed is refused.
    """
    from streamlab.experiments.request import COMPARISON

    _run("compare", scenarios, COMPARISON, options, report=True)


def _run(
    command: str, scenarios: list[str] | None, defaults: Any, options: dict[str, Any], report: bool
) -> None:
    """Run what is asked for, or say what would be run. defaults: of the command, where they are its own."""
    from streamlab.experiments.names import check_names

    told, protocol = dict(defaults), None
    if scenarios and (scenarios[0].endswith(".toml") or scenarios[0].startswith("recipe:")):
        from streamlab import recipes
        from streamlab.experiments.request import read_recipe

        if len(scenarios) > 1:
            raise StreamlabError(f"beside a recipe no scenario is named, and {scenarios[1]} is")
        told.pop("strategies", None)
        path = recipes.path_of(scenarios[0])
        told |= recipes.of_rows(read_recipe(path), options["strategies"] or ())
        protocol = recipes.about(path)
    elif scenarios:
        told["scenarios"] = scenarios
    request = make_request(command, told, {name: options[name] for name in REQUEST})
    check_names(request)  # before anything heavy is imported
    if options["dry_run"]:
        from .dry_run import print_dry_run

        print_dry_run(request, options["out"])
        return
    if protocol is not None:
        from .recipes import check_protocol, print_beside

        check_protocol(protocol, request)
    from .watch import watch_experiment

    folder = watch_experiment(request, options["out"], options["json_lines"], report)
    if protocol is not None and not options["json_lines"]:
        print_beside(protocol, folder)


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="An experiment's folder; several are put in one table.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where the report goes. (default: the first folder)", show_default=False
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The row that others are compared with. (default: the best)")
    ] = None,
) -> None:
    """Write a report of runs that are there: HTML, Markdown, LaTeX and CSV."""
    from .watch import print_report

    print_report(folders, out or folders[0], reference)


def resume(
    folder: Annotated[Path, typer.Argument(help="What --out named.")],
    workers: Workers = None,
    json_lines: JsonLines = False,
) -> None:
    """Go on with what is unfinished in an experiment's folder."""
    from streamlab.experiments.held import request_to_resume

    from .watch import watch_experiment

    asked = request_to_resume(folder)
    asked = dataclasses.replace(asked, workers=asked.workers if workers is None else workers)
    watch_experiment(asked, folder, json_lines, report=(folder / "report.html").exists() or asked.intervals)
