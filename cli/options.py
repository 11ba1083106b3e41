"""The options of a request, declared once for every command that runs one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from streamlab import plugins

from .completion import complete


def scenario_or_recipe(incomplete: str) -> list[str]:
    """What the shell offers: scenarios, recipes that lie in this folder, and those that ship."""
    from streamlab.recipes import PREFIX, shipped

    there = [str(path) for path in Path().glob(f"{incomplete}*.toml")]
    names = [*plugins.names("scenarios"), *(PREFIX + name for name in shipped())]
    return [name for name in names if name.startswith(incomplete)] + there


SourceName = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="Labelled images; a+b joins two. (default: glyphs-100)",
        autocompletion=complete("sources"),
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.OPTION=VALUE", help="As stream.batch_size=10, er.replay_size=20."),
]
Data = Annotated[str | None, typer.Option("--data", metavar="FOLDER", help="Where downloaded sources lie.")]
Workers = Annotated[
    int | None, typer.Option(help="Worker processes; 0 runs in this one. (default: one a core)")
]
JsonLines = Annotated[bool, typer.Option("--json", help="Events and results as JSON lines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]

# By the field of a request that each sets (streamlab.experiments.request); nothing given sets nothing.
REQUEST: Mapping[str, Any] = {
    "source": SourceName,
    "strategies": Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            metavar="NAME|FILE.py[:OPTION=VALUE,…]",
            help="A row of the table; repeatable.",
            autocompletion=complete("strategies"),
        ),
    ],
    "seeds": Annotated[
        int | None, typer.Option("--seeds", help="Seeds 0 to N-1, each with its own plan. (default: 3)")
    ],
    "plan_seed": Annotated[int | None, typer.Option("--plan-seed", help="One stream for all seeds.")],
    "budgets": Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="2MiB|500ex|NEED",
            help="What a strategy may hold: bytes, exemplars, or a need (expandable-der+2000ex, "
            "model+500ex); repeatable. (default: 500ex)",
        ),
    ],
    "accounting": Annotated[
        str | None,
        typer.Option("--accounting", metavar="held|survey", help="What counts as a byte. (default: held)"),
    ],
    "count_frozen": Annotated[
        bool | None,
        typer.Option(
            "--count-frozen/--free-frozen", help="Whether frozen backbones count. (default: they do)"
        ),
    ],
    "smaller": Annotated[
        list[str] | None,
        typer.Option(
            "--smaller",
            metavar="BACKBONE[:OPTION=VALUE,…]",
            help="A network for those whose own does not fit a budget; repeatable, the largest first.",
        ),
    ],
    "tune": Annotated[
        int | None,
        typer.Option("--tune", metavar="N", help="Trials of each strategy, alike for all."),
    ],
    "protocol": Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="validation|two-phase|first-tasks|oracle",
            help="What trials may see. (default: validation images)",
        ),
    ],
    "augment": Annotated[
        str | None,
        typer.Option(
            "--augment",
            metavar="NAME",
            help="How training images are augmented (streamlab list augmentations). (default: none)",
        ),
    ],
    "backbone": Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="NAME[:OPTION=VALUE,…]",
            help="The network of every row, as resnet32 or timm:resnet50.a1_in1k,train=all.",
            autocompletion=complete("backbones"),
        ),
    ],
    "settings": Setting,
    "eval_every": Annotated[
        int | None,
        typer.Option(
            "--eval-every", help="Samples (or episodes) between evaluations. (default: 1000, or a tenth)"
        ),
    ],
    "record": Annotated[
        list[str] | None,
        typer.Option(
            "--record",
            metavar="unexposed|neighbours|geometry",
            help="Keep more at task ends, for metrics that need it; repeatable.",
        ),
    ],
    "log": Annotated[
        list[str] | None,
        typer.Option(
            "--log",
            metavar="tensorboard|wandb|mlflow|trackio",
            help="Who else is told of evaluations, with options as wandb:project=mine; repeatable.",
            autocompletion=complete("listeners"),
        ),
    ],
    "intervals": Annotated[
        bool | None, typer.Option("--intervals/--no-intervals", help="Refuse one seed, which has none.")
    ],
    "device": Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda. (default: auto)")],
    "data": Data,
    "workers": Workers,
    "per_gpu": Annotated[
        int | None, typer.Option("--per-gpu", help="Runs at once on each GPU. (default: 1)")
    ],
    "patience": Annotated[
        float | None,
        typer.Option("--patience", help="Seconds of silence that stop a worker. (default: 14400)"),
    ],
    "engine": Annotated[
        str | None,
        typer.Option("--engine", metavar="local|ray", help="Where cells are run. (default: local)"),
    ],
    "address": Annotated[
        str | None, typer.Option("--address", help="A Ray cluster's. (default: one on this machine)")
    ],
}
SHOWING: Mapping[str, tuple[Any, Any]] = {
    "out": (
        Annotated[
            Path | None,
            typer.Option(
                metavar="FOLDER",
                help="Where the runs go; what is done there is not run again. (default: new in runs/)",
                show_default=False,
            ),
        ],
        None,
    ),
    "dry_run": (
        Annotated[bool, typer.Option("--dry-run", help="Check, and print what would run, for how long.")],
        False,
    ),
    "json_lines": (JsonLines, False),
    "debug": (Debug, False),
}


def takes_a_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option of a request, as the keywords that it is called with."""
    declared = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, keyword, default=None, annotation=a) for name, a in REQUEST.items()]
    added += [
        inspect.Parameter(name, keyword, default=default, annotation=annotation)
        for name, (annotation, default) in SHOWING.items()
    ]
    named = [p for p in declared.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    told = declared.replace(parameters=[*named, *added])
    vars(command)["__signature__"] = told  # where inspect.signature, by which Typer reads a command, looks
    command.__annotations__ = {p.name: p.annotation for p in (*named, *added)}
    return command


def make_request(command: str, told: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """A request, typed and checked: a recipe's values or a command's defaults, under the options given.

    options: by field of the request; None or nothing is one that was not given, settings the lines of
    `--set`. Raises StreamlabError.
    """
    import dataclasses

    from streamlab.config import configure, merged, parse_settings
    from streamlab.experiments.request import Request
    from streamlab.experiments.rows import parse_backbone

    given = {name: value for name, value in options.items() if value is not None and value != []}
    lines = given.pop("settings", ())
    asked = {**told, **given}
    named = asked.pop("augment", None)
    augment = {"augment": {"pipeline": named, "operations": ()}} if named else {}
    network = asked.pop("backbone", None)
    chosen = {"backbone": parse_backbone(network)} if network else {}
    tree = merged(asked.pop("settings", {}), chosen, parse_settings(lines), augment)
    return dataclasses.replace(configure(Request, asked, command), settings=tree)
