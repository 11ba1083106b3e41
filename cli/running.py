"""The commands that run: `run`, `compare`, `resume` of either; and `report`, of what is there."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from streamlab.errors import StreamlabError

from .options import (
    Accounting,
    CountFrozen,
    Data,
    Debug,
    Device,
    EvalEvery,
    JsonLines,
    Seeds,
    Setting,
    SourceName,
    Strategies,
    Workers,
    make_request,
    scenario_or_recipe,
)


def run(
    scenario: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCENARIO|RECIPE.toml]",
            help="A scenario by name, or a recipe. Nothing: the quickstart on the bundled glyphs.",
            autocompletion=scenario_or_recipe,
            show_default=False,
        ),
    ] = None,
    source: SourceName = None,
    strategy: Strategies = None,
    seeds: Seeds = None,
    plan_seed: Annotated[int | None, typer.Option(help="One stream for all seeds.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="What a strategy may hold: 2MiB, 500kB or 500ex (exemplars). [default: 500ex]"),
    ] = None,
    accounting: Accounting = None,
    count_frozen: CountFrozen = None,
    settings: Setting = None,
    eval_every: EvalEvery = None,
    device: Device = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the run folders go. [default: a new one in runs/]",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    record: Annotated[
        list[str] | None,
        typer.Option(
            "--record",
            metavar="unexposed|neighbours|geometry",
            help="Keep more at task ends, for metrics that need it; repeatable.",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write TensorBoard scalars too.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and print what would run, for how long.")
    ] = False,
    json_lines: JsonLines = False,
    debug: Debug = False,
) -> None:
    """Run strategies on one stream and watch them live.

    With no argument: the quickstart, under a minute on two cores.
    """
    from streamlab.experiments import experiment as experiments

    recipe: dict[str, Any] = {}
    if scenario is not None and scenario.endswith(".toml"):
        recipe = experiments.read_recipe(Path(scenario))
    elif scenario is not None:
        recipe = {"scenario": scenario, "strategies": ()}
    options = {
        "source": source, "strategies": strategy, "seeds": seeds, "plan_seed": plan_seed, "budget": budget,
        "accounting": accounting, "count_frozen": count_frozen, "eval_every": eval_every, "device": device,
        "data": data, "workers": workers, "record": record,
    }  # fmt: skip
    request = make_request("run", experiments.Request, recipe, options, settings)
    prepared = experiments.prepare(request)
    for note in prepared.notes:
        print(note, file=sys.stderr)
    if dry_run:
        from streamlab.experiments.pilot import take_pilots

        from .plain import print_dry_run

        print_dry_run(prepared, take_pilots(prepared), request.workers)
        return
    from .watching import watch_experiment

    folder = out or experiments.new_folder(request)
    prepared.create(folder)
    watch_experiment(prepared, folder, request.workers, json_lines, tensorboard)


def compare(
    scenarios: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCENARIO…|RECIPE.toml]",
            help="Scenarios by name, or a recipe.",
            autocompletion=scenario_or_recipe,
            show_default=False,
        ),
    ] = None,
    source: SourceName = None,
    strategy: Strategies = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="2MiB|500ex|NEED",
            help="Bytes, exemplars, or a need (expandable-der+2000ex, model+500ex); repeatable.",
        ),
    ] = None,
    seeds: Seeds = None,
    accounting: Accounting = None,
    count_frozen: CountFrozen = None,
    smaller: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BACKBONE[:OPTION=VALUE,…]",
            help="A network for those whose own does not fit a budget; repeatable, the largest first.",
        ),
    ] = None,
    tune: Annotated[
        int | None, typer.Option(metavar="N", help="Trials of each strategy, on validation images.")
    ] = None,
    settings: Setting = None,
    eval_every: EvalEvery = None,
    device: Device = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where runs and report go; what is done is not run again. [default: new in runs/]",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    per_gpu: Annotated[int | None, typer.Option(help="Runs at once on each GPU. [default: 1]")] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="local|ray", help="Where cells are run. [default: local]")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster's. [default: one on this machine]")
    ] = None,
    intervals: Annotated[
        bool | None, typer.Option("--intervals/--no-intervals", help="One seed has none, and is refused.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells, their exemplars and the time expected.")
    ] = False,
    json_lines: JsonLines = False,
    debug: Debug = False,
) -> None:
    """Compare strategies at aligned memory budgets, and write a report.

    Stopped at any time, the same command with --out (or streamlab resume) goes on.
    """
    from streamlab.experiments.experiment import read_recipe
    from streamlab.experiments.request import CompareRequest

    from .compare import dry_run_grid, watch_comparison

    recipe: dict[str, Any] = {}
    if scenarios and scenarios[0].endswith(".toml"):
        recipe = read_recipe(Path(scenarios[0]), CompareRequest)
        if len(scenarios) > 1:
            raise StreamlabError(f"compare: beside a recipe no scenario is named, and {scenarios[1]} is")
    elif scenarios:
        recipe = {"scenarios": scenarios}
    options = {
        "source": source, "strategies": strategy, "budgets": budget, "seeds": seeds, "accounting": accounting,
        "count_frozen": count_frozen, "smaller": smaller, "tune": tune, "eval_every": eval_every,
        "device": device, "data": data, "workers": workers, "per_gpu": per_gpu, "engine": engine,
        "address": address, "intervals": intervals,
    }  # fmt: skip
    request = make_request("compare", CompareRequest, recipe, options, settings)
    if dry_run:
        dry_run_grid(request, out)
    else:
        watch_comparison(request, out, json_lines)


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="A comparison's folder, or experiments' to be put in one table.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where the report goes. [default: the first folder]", show_default=False
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The row that others are compared with. [default: the best]")
    ] = None,
) -> None:
    """Write a report of runs that are there: HTML, Markdown, LaTeX and CSV."""
    from .compare import print_report

    print_report(folders, out or folders[0], reference)


def resume(
    folder: Annotated[Path, typer.Argument(help="What --out named.")],
    workers: Workers = None,
    json_lines: JsonLines = False,
) -> None:
    """Go on with what is unfinished in a folder, of runs or of a comparison."""
    if (folder / "comparison.json").exists():
        from streamlab.experiments.folder import request_to_resume

        from .compare import watch_comparison

        asked = request_to_resume(folder)
        asked = dataclasses.replace(asked, workers=asked.workers if workers is None else workers)
        watch_comparison(asked, folder, json_lines)
        return
    from streamlab.experiments.experiment import reopen

    from .watching import watch_experiment

    watch_experiment(reopen(folder), folder, workers, json_lines)
