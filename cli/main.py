"""The command `streamlab`. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from streamlab import plugins
from streamlab.errors import StreamlabError, unknown

from .completion import complete
from .lines import hanging
from .runs import runs_app

R = TypeVar("R")
app = typer.Typer(
    name="streamlab",
    help="Continual and few-shot learning, simulated: the same stream, the same bytes, enough seeds.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(runs_app, name="runs")
data_app = typer.Typer(help="List the sources and where they lie, or fetch one.")
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; a person's mistake is one sentence on standard error, exit code 2."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except StreamlabError as error:
        if debug:
            raise
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Say what is wrong, in one line, and exit with 2."""
    print(f"streamlab: {message}", file=sys.stderr)
    raise SystemExit(2)


def _scenario_or_recipe(incomplete: str) -> list[str]:
    recipes = [str(path) for path in Path().glob(f"{incomplete}*.toml")]
    return [name for name in plugins.names("scenarios") if name.startswith(incomplete)] + recipes


SCENARIO = typer.Argument(
    metavar="[SCENARIO|RECIPE.toml]",
    help="A scenario by name, or a recipe. Nothing: the quickstart on the bundled glyphs.",
    autocompletion=_scenario_or_recipe,
    show_default=False,
)
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.OPTION=VALUE", help="As stream.batch_size=10, er.replay_size=20."),
]
SourceName = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="Labelled images; a+b joins two. [default: glyphs-100]",
        autocompletion=complete("sources"),
    ),
]
Accounting = Annotated[
    str | None, typer.Option(metavar="held|survey", help="What counts as a byte. [default: held]")
]
CountFrozen = Annotated[
    bool | None,
    typer.Option("--count-frozen/--free-frozen", help="Whether frozen backbones count. [default: they do]"),
]
Data = Annotated[str | None, typer.Option("--data", metavar="FOLDER", help="Where downloaded sources lie.")]


@app.command()
def run(
    scenario: Annotated[str | None, SCENARIO] = None,
    source: SourceName = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            metavar="NAME|FILE.py[:OPTION=VALUE,…]",
            help="A row of the table; repeatable.",
            autocompletion=complete("strategies"),
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds 0 to N-1, each with its own plan. [default: 3]")
    ] = None,
    plan_seed: Annotated[int | None, typer.Option(help="One stream for all seeds.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="What a strategy may hold: 2MiB, 500kB or 500ex (exemplars). [default: 500ex]"),
    ] = None,
    accounting: Accounting = None,
    count_frozen: CountFrozen = None,
    settings: Setting = None,
    eval_every: Annotated[
        int | None,
        typer.Option(help="Samples (or episodes) between evaluations. [default: 1000, or a tenth]"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. [default: auto]")] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the run folders go. [default: a new one in runs/]",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; 0 runs in this one. [default: one a core]")
    ] = None,
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
    json_lines: Annotated[bool, typer.Option("--json", help="Events and results as JSON lines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
) -> None:
    """Run strategies on one stream and watch them live.

    With no argument: the quickstart, under a minute on two cores.
    """
    from streamlab.config import merged, parse_settings
    from streamlab.runs import experiment as experiments

    given: dict[str, Any] = {"settings": {}}
    if scenario is not None and scenario.endswith(".toml"):
        given = experiments.read_recipe(Path(scenario))
    elif scenario is not None:
        given["scenario"] = scenario
        given["strategies"] = ()
    options = {
        "source": source,
        "strategies": tuple(strategy) if strategy else None,
        "seeds": seeds,
        "plan_seed": plan_seed,
        "budget": budget,
        "accounting": accounting,
        "count_frozen": count_frozen,
        "eval_every": eval_every,
        "device": device,
        "data": data,
        "workers": workers,
        "record": tuple(record) if record else None,
    }
    given |= {name: value for name, value in options.items() if value is not None}
    given["settings"] = merged(given["settings"], parse_settings(settings or ()))
    request = configure_request("run", experiments.Request, given)
    prepared = experiments.prepare(request)
    for note in prepared.notes:
        print(note, file=sys.stderr)
    if dry_run:
        from streamlab.runs.pilot import take_pilots

        from .plain import print_dry_run

        print_dry_run(prepared, take_pilots(prepared), request.workers)
        return
    folder = out or experiments.new_folder(request)
    prepared.create(folder)
    _watch(prepared, folder, request.workers, json_lines, tensorboard)


@app.command()
def compare(
    scenarios: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCENARIO…|RECIPE.toml]",
            help="Scenarios by name, or a recipe.",
            autocompletion=_scenario_or_recipe,
            show_default=False,
        ),
    ] = None,
    source: SourceName = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            metavar="NAME|FILE.py[:OPTION=VALUE,…]",
            help="A strategy to compare; repeatable.",
            autocompletion=complete("strategies"),
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="2MiB|500ex|NEED",
            help="Bytes, exemplars, or a need (expandable-der+2000ex, model+500ex); repeatable.",
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0 to N-1, each its own plan. [default: 3]")] = None,
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
    eval_every: Annotated[int | None, typer.Option(help="Samples between evaluations.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. [default: auto]")] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where runs and report go; what is done is not run again. [default: new in runs/]",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes. [default: one a core]")] = None,
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
    json_lines: Annotated[bool, typer.Option("--json", help="Events as JSON lines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
) -> None:
    """Compare strategies at aligned memory budgets, and write a report.

    Stopped at any time, the same command with --out (or streamlab resume) goes on.
    """
    from streamlab.config import merged, parse_settings
    from streamlab.runs.experiment import read_recipe
    from streamlab.sweep.request import CompareRequest

    from .compare import dry_run_grid, watch_comparison

    given: dict[str, Any] = {"settings": {}}
    if scenarios and scenarios[0].endswith(".toml"):
        given = read_recipe(Path(scenarios[0]), CompareRequest)
        if len(scenarios) > 1:
            raise StreamlabError(f"compare: beside a recipe no scenario is named, and {scenarios[1]} is")
    elif scenarios:
        given["scenarios"] = tuple(scenarios)
    options = {
        "source": source, "strategies": tuple(strategy) if strategy else None, "seeds": seeds,
        "budgets": tuple(budget) if budget else None, "accounting": accounting, "count_frozen": count_frozen,
        "smaller": tuple(smaller) if smaller else None, "tune": tune, "eval_every": eval_every,
        "device": device, "data": data, "workers": workers, "per_gpu": per_gpu, "engine": engine,
        "address": address, "intervals": intervals,
    }  # fmt: skip
    given |= {name: value for name, value in options.items() if value is not None}
    given["settings"] = merged(given["settings"], parse_settings(settings or ()))
    request = configure_request("compare", CompareRequest, given)
    if dry_run:
        dry_run_grid(request)
        return
    watch_comparison(request, out, json_lines)


@app.command()
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


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="What --out named.")],
    workers: Annotated[int | None, typer.Option(help="Worker processes; 0 runs in this one.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Events and results as JSON lines.")] = False,
) -> None:
    """Go on with what is unfinished in a folder, of runs or of a comparison."""
    from streamlab.runs import experiment as experiments

    if (folder / "comparison.json").exists():
        from streamlab.sweep.grid import read_request

        from .compare import watch_comparison

        asked = read_request(folder)
        asked = dataclasses.replace(asked, workers=asked.workers if workers is None else workers)
        watch_comparison(asked, folder, json_lines)
        return
    _watch(experiments.reopen(folder), folder, workers, json_lines)


@app.command()
def pretrain(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…", help="Labelled images; several are joined.", autocompletion=complete("sources")
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where weights.safetensors and CARD.md go.")
    ] = Path("pretrained"),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.OPTION=VALUE", help="As backbone.width=96, recipe.epochs=10."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the weights at first, the order and the draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data: Data = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
) -> None:
    """Train a backbone on labelled images, for strategies that keep it frozen.

    Stopped at any time, the same command goes on.
    """
    from streamlab.config import parse_settings
    from streamlab.runs.pretraining import Pretraining

    from .pretrain import run_pretraining

    run_pretraining(Pretraining(tuple(sources), seed, device, data, parse_settings(settings or ())), out)


@app.command()
def check(
    strategy: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE.py[:OPTION=VALUE,…]", autocompletion=complete("strategies")),
    ],
    json_lines: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
) -> None:
    """Find out within seconds whether a strategy keeps its promises; exit 1 if not."""
    from .check import print_checks

    if not print_checks(strategy, json_lines):
        raise SystemExit(1)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="strategy, scenario, source or backbone.")],
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens, as my-method.")],
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="Where its folder goes.")] = Path(),
) -> None:
    """Begin a plugin: an installable package with one file, one test and an entry point."""
    from .new import make_plugin

    for path in make_plugin(kind, name, into):
        print(path)
    print(f"\nnext: pip install -e {into / name} && streamlab list")


@app.command()
def cite(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or an experiment's.")],
) -> None:
    """Print BibTeX of what a run used: its scenario, source, strategies and backbones."""
    from streamlab.runs.citations import citations

    print("\n\n".join(citations(folder)))


@data_app.callback(invoke_without_command=True)
def data_sources(context: typer.Context, data: Data = None) -> None:
    """List the sources: classes, images, size on disk, and where they were found."""
    if context.invoked_subcommand is None:
        from .sources import print_sources

        print_sources(data)


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A source.", autocompletion=complete("sources"))],
    data: Data = None,
) -> None:
    """Download a source from its official address; a cut download goes on."""
    from .sources import fetch_source

    fetch_source(name, data)


@app.command(name="list")
def list_plugins(
    kind: Annotated[
        str | None,
        typer.Argument(help="scenarios, strategies, sources, backbones or metrics.", show_default=False),
    ] = None,
) -> None:
    """List what is installed: scenarios, strategies, sources, backbones, metrics."""
    if kind is not None and kind not in plugins.KINDS:
        raise unknown("kind of plugin", kind, plugins.KINDS)
    for number, shown in enumerate([kind] if kind else plugins.KINDS):
        found = plugins.installed(shown)
        width = max((len(plugin.name) for plugin in found), default=0)
        print(("\n" if number else "") + shown)
        for plugin in found:
            stranger = "" if plugin.distribution == "streamlab-cl" else f"  [{plugin.distribution}]"
            print(hanging(f"  {plugin.name:<{width}}  ", plugin.description + stranger))
        for family in plugins.installed(plugins.FAMILIES) if shown == "strategies" else ():
            print(hanging(f"  {family.name + ':NAME':<{width}}  ", family.description))


@app.command()
def describe(
    scenario: Annotated[
        str, typer.Argument(help="A scenario by name.", autocompletion=complete("scenarios"))
    ] = "si-blurry",
    source: SourceName = None,
    seed: Annotated[int, typer.Option(help="The plan's seed.")] = 0,
    settings: Setting = None,
    data: Data = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Write the plan as a picture (png, svg or pdf)."),
    ] = None,
    episode: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Of few-shot episodes: show this one.")
    ] = None,
    phase: Annotated[
        str, typer.Option(metavar="train|validation|test", help="Whose episode it is.")
    ] = "test",
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
) -> None:
    """Show a plan: which class appears when, counts, imbalance; or one few-shot episode."""
    from streamlab.config import parse_settings
    from streamlab.data.source import load_source
    from streamlab.episodes import PHASES, EpisodePlan
    from streamlab.stream import make_plan

    from .describe import draw_plan, print_plan
    from .episodes import print_episode, print_episode_plan

    loaded = load_source(source or "glyphs-100", data)
    tree = parse_settings(settings or ())
    for section in tree:
        if section != "scenario":
            raise unknown("section", section, ("scenario",))
    plan = make_plan(scenario, loaded.labels, seed, tree.get("scenario", {}))
    if isinstance(plan, EpisodePlan):
        if phase not in PHASES:
            raise unknown("phase", phase, PHASES)
        if episode is None:
            print_episode_plan(plan, loaded)
        if episode is not None or picture is not None:
            print_episode(plan, loaded, episode or 0, phase, picture)
        return
    if episode is not None:
        raise StreamlabError(f"--episode is of few-shot episodes, and {scenario} is a stream")
    print_plan(plan, loaded)
    if picture is not None:
        draw_plan(plan, loaded, picture)
        print(f"\nwritten: {picture}")


def configure_request(command: str, kind: type[R], given: dict[str, Any]) -> R:
    """A request from options, typed and checked; settings stay the tree that they are."""
    from streamlab.config import configure

    settings = given.pop("settings")
    return dataclasses.replace(configure(kind, given, command), settings=settings)  # type: ignore[type-var]  # a dataclass


def _watch(
    prepared: Any, folder: Path, workers: int | None, json_lines: bool, tensorboard: Path | None = None
) -> None:
    """Run an experiment under a live table, plain lines or JSON; exit 1 if a run failed."""
    from streamlab.runs import experiment as experiments
    from streamlab.runs.tensorboard import also_to_tensorboard

    from .plain import JsonView, PlainView
    from .view import LiveView

    live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    make = JsonView if json_lines else LiveView if live else PlainView
    view = make(prepared, folder)
    try:
        with view, also_to_tensorboard(tensorboard, view.hear) as hear:
            complete = experiments.run_experiment(prepared, folder, workers, hear, view.tick)
    except KeyboardInterrupt:
        print(f"\nstopped; go on with: streamlab resume {folder}", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        raise StreamlabError(
            f"cannot write to {folder}: {error.strerror}; then go on with streamlab resume {folder}"
        ) from None
    if not complete:
        print(f"\nnot complete; go on with: streamlab resume {folder}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
