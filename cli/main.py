"""The command `streamlab`. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from streamlab import plugins
from streamlab.errors import StreamlabError, unknown

from . import decoding
from .commands import compare, report, resume, run
from .completion import complete
from .lines import hanging
from .options import Data, Debug, Setting, SourceName
from .runs import runs_app

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
        with decoding.shown():
            app()
    except StreamlabError as error:
        if debug:
            raise
        fail(str(error))
    except OSError as error:
        if debug or error.filename is None:
            raise
        fail(str(StreamlabError(f"{error.filename}: {error.strerror}")))


def fail(message: str) -> NoReturn:
    """Say what is wrong, in one line, and exit with 2."""
    print(f"streamlab: {message}", file=sys.stderr)
    raise SystemExit(2)


for command in (run, compare, report, resume):
    app.command()(command)


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
        typer.Option("--set", metavar="SECTION.OPTION=VALUE", help="As backbone.width=96, fit.epochs=10."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the weights at first, the order and the draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data: Data = None,
    debug: Debug = False,
) -> None:
    """Train a backbone on labelled images, for strategies that keep it frozen.

    Stopped at any time, the same command goes on.
    """
    from streamlab.config import parse_settings
    from streamlab.experiments.pretraining import Pretraining

    from .pretrain import run_pretraining

    run_pretraining(Pretraining(tuple(sources), seed, device, data, parse_settings(settings or ())), out)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE.pth", help="Weights that are pickled.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.safetensors", help="What is written. (default: beside it)", show_default=False
        ),
    ] = None,
) -> None:
    """Make a safetensors file of pickled weights; no code of the file is run."""
    from streamlab.nets.convert import convert

    target = out or checkpoint.with_suffix(".safetensors")
    print(f"{target}: {convert(checkpoint, target)} tensors")


@app.command()
def check(
    plugin: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.py[:OPTION=VALUE,…]",
            help="A strategy, a scenario or a source.",
            autocompletion=complete("strategies"),
        ),
    ],
    json_lines: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    data: Data = None,
    debug: Debug = False,
) -> None:
    """Find out whether a strategy, a scenario or a source keeps its promises; exit 1 if not."""
    from .check import print_checks

    if not print_checks(plugin, json_lines, data):
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
    from streamlab.experiments.citations import citations

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


@app.command()
def cache(
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="Remove what was least recently used, until so much is left: 5GiB, 0."
        ),
    ] = None,
) -> None:
    """List what is kept of earlier runs (it is made again where it is needed), or remove it.

    What was used within a day stays, and downloads do.
    """
    from .cache import print_cache, prune_cache

    if keep is not None:
        prune_cache(keep)
    print_cache()


@app.command()
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(help="One of them, as survey/cifar-100-b0-inc10.", show_default=False),
    ] = None,
    times: Annotated[
        bool, typer.Option("--times", help="And how long a run of each row takes here.")
    ] = False,
    data: Data = None,
) -> None:
    """List the published protocols that ship, and what was published with them."""
    from .recipes import print_recipe, print_recipes

    if name is None:
        print_recipes()
    else:
        print_recipe(name, data, times)


@app.command(name="list")
def list_plugins(
    kind: Annotated[
        str | None,
        typer.Argument(help="scenarios, strategies, sources, augmentations …", show_default=False),
    ] = None,
) -> None:
    """List what is installed: scenarios, strategies, sources, backbones, augmentations, metrics …"""
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
        str,
        typer.Argument(help="A scenario or a source by name.", autocompletion=complete("scenarios")),
    ] = "si-blurry",
    source: SourceName = None,
    seed: Annotated[int, typer.Option(help="The plan's seed.")] = 0,
    settings: Setting = None,
    data: Data = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Write the plan as a picture (png, svg or pdf), or a contact sheet."
        ),
    ] = None,
    episode: Annotated[
        str | None,
        typer.Option(metavar="[PHASE:]NUMBER", help="Of few-shot episodes: show this one, as 7 or train:7."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Show a plan (which class appears when, counts, imbalance), one few-shot episode, or a source."""
    from streamlab.config import parse_settings
    from streamlab.data.load import load_source
    from streamlab.data.names import plugin_of
    from streamlab.planning import make_plan
    from streamlab.plans.episodes import EpisodePlan

    from .describe import draw_plan, print_plan
    from .describe_episodes import print_episode, print_episode_plan

    if scenario not in plugins.names("scenarios") and plugin_of(scenario) in plugins.names("sources"):
        from .describe_source import print_source

        if source or settings or episode:
            raise StreamlabError(f"{scenario} is a source; it is shown without --source, --set and --episode")
        print_source(load_source(scenario, data), picture)
        return
    loaded = load_source(source or "glyphs-100", data)
    tree = parse_settings(settings or ())
    for section in tree:
        if section != "scenario":
            raise unknown("section", section, ("scenario",))
    plan = make_plan(scenario, loaded.labels, seed, tree.get("scenario", {}))
    if isinstance(plan, EpisodePlan):
        if episode is None:
            print_episode_plan(plan, loaded)
        if episode is not None or picture is not None:
            print_episode(plan, loaded, episode or "0", picture)
        return
    if episode is not None:
        raise StreamlabError(f"--episode is of few-shot episodes, and {scenario} is a stream")
    print_plan(plan, loaded)
    if picture is not None:
        draw_plan(plan, loaded, picture)
        print(f"\nwritten: {picture}")


if __name__ == "__main__":
    main()
