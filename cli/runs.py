"""`streamlab runs`: the commands on what was run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .completion import complete

runs_app = typer.Typer(help="List, show or remove finished and unfinished runs.", no_args_is_help=True)


@runs_app.command(name="list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Where experiments lie.")] = Path("runs"),
) -> None:
    """List the experiments below a folder, newest first."""
    from .listing import print_experiments

    print_experiments(folder)


@runs_app.command()
def show(folder: Annotated[Path, typer.Argument(help="An experiment's folder, or a run's.")]) -> None:
    """Show an experiment again: its table, accuracy over the stream as a chart, memory by kind."""
    from .results import print_experiment

    print_experiment(folder)


@runs_app.command()
def metrics(
    folder: Annotated[Path, typer.Argument(help="An experiment's folder.")],
    names: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Only these; repeatable.", autocompletion=complete("metrics")),
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Measure an experiment by every metric, and say why some are not defined."""
    from .measures import print_metrics

    print_metrics(folder, tuple(names or ()), json_lines)


@runs_app.command()
def matrix(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or an experiment's.")],
    json_lines: Annotated[bool, typer.Option("--json", help="As one JSON list, a run an entry.")] = False,
) -> None:
    """Print accuracy by task and task end, and what five libraries would make of it."""
    from .measures import print_matrices

    print_matrices(folder, json_lines)


@runs_app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="An experiment's folder, a part of it, or a run's.")],
    form: Annotated[
        str, typer.Option("--to", metavar="csv|parquet|hf", help="Tables, or model folders for the hub.")
    ] = "csv",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where it goes. (default: FOLDER/export)", show_default=False),
    ] = None,
) -> None:
    """Write results as tidy tables, or the networks that runs kept as Hugging Face model folders."""
    from .export import export_runs

    export_runs(folder, form, out or folder / "export")


@runs_app.command()
def remove(
    folder: Annotated[Path, typer.Argument(help="An experiment's folder.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove an experiment and all its runs."""
    from streamlab.experiments.held import read_experiment
    from streamlab.experiments.layout import remove

    count = len(read_experiment(folder)["cells"])
    if not yes and not typer.confirm(f"Remove {folder} and its {count} runs?"):
        print("nothing removed")
        return
    remove(folder)
    print(f"removed {folder}")


@runs_app.command()
def sessions(
    folder: Annotated[Path, typer.Argument(help="An experiment's folder, or a run's.")],
) -> None:
    """Show few-shot sessions one by one: base, novel, harmonic mean, what is taken for what."""
    from .few_shot import print_sessions

    print_sessions(folder)


@runs_app.command()
def confusion(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or an experiment's (its first run).")],
    picture: Annotated[
        Path, typer.Option(metavar="FILE.png", help="Where the picture goes (png, svg or pdf).")
    ] = Path("confusion.png"),
) -> None:
    """Draw which class is taken for which after the last few-shot session, ordered by session."""
    from .few_shot import draw_confusion

    draw_confusion(folder, picture)
    print(f"written: {picture}")


@runs_app.command()
def episodes(
    folder: Annotated[Path, typer.Argument(help="An experiment's folder, or a run's.")],
) -> None:
    """Show few-shot episodes: accuracy by seed and over seeds, by environment, confusion by way."""
    from .episode_results import print_episodes

    print_episodes(folder)


@runs_app.command()
def geometry(
    folder: Annotated[Path, typer.Argument(help="An experiment's folder, or a run's.")],
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it instead (png, svg or pdf).")
    ] = None,
) -> None:
    """Show how classes lay in feature space over the stream, where --record geometry kept it."""
    from .geometry import print_geometry

    print_geometry(folder, picture)
