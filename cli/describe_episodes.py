"""Shows a plan of episodes: its phases, and one episode as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamlab.data.source import Source
from streamlab.errors import StreamlabError, unknown
from streamlab.plans.episodes import PHASES, Episode, EpisodePlan, Phase

from .blocks import half_blocks

_SHOWN_QUERIES = 3


def print_episode_plan(plan: EpisodePlan, source: Source, console: Console | None = None) -> None:
    """The three phases: their classes, ways, shots and episodes."""
    console = console or Console()
    console.print(
        f"{plan.scenario} on {source.name}, seed {plan.seed}\nfingerprint {plan.fingerprint}\n",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("phase", "episodes", "way", "shots", "queries", "classes", "images"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase, episodes in plan.phases.items():
        shots = sorted(set(episodes.shots))
        cells = (episodes.way, ", ".join(map(str, shots)), episodes.query, len(episodes.classes))
        table.add_row(f"meta-{phase}", f"{len(episodes):,}", *map(str, cells), f"{len(episodes.samples):,}")
    console.print(table)
    for phase, episodes in plan.phases.items():
        names = " ".join(source.class_names[label] for label in episodes.classes)
        console.print(Text(f"\nmeta-{phase}: {names}", style="dim"))
    if plan.environments:
        console.print(f"\ntested clean, and with {plan.corrupted} in {len(plan.environments)} environments")


def print_episode(plan: EpisodePlan, source: Source, name: str, picture: Path | None) -> None:
    """One episode, drawn in the terminal or into a file: a row a class, its support, then queries.

    name: `7`, or `train:7`; of meta-test where no phase is said. Raises StreamlabError where there is none.
    """
    phase, number = _named(name)
    try:
        episode = plan.phases[phase][number]
    except IndexError as error:
        raise StreamlabError(f"--episode {number}: {error}") from None
    print(f"episode {number} of meta-{phase}, seed {plan.seed}")
    if picture is not None:
        _draw(episode, source, picture, f"{plan.scenario}, seed {plan.seed}, meta-{phase} episode {number}")
        print(f"written: {picture}")
        return
    console = Console()
    room = max(1, (console.width - 8) // 15)
    for place, label in enumerate(episode.classes):
        support = episode.support[episode.support_labels == place]
        query = episode.query[episode.query_labels == place]
        shown = support[: max(1, room - _SHOWN_QUERIES)]
        asked = query[: max(0, room - len(shown))]
        coloured = console.is_terminal and not console.no_color
        lines = [half_blocks(_pixels(source, index), coloured) for index in (*shown, *asked)]
        shown_name = source.class_names[label][:6]
        for row in range(len(lines[0])):
            text = Text(f"{shown_name if row == 0 else '':<7}")
            for column, image in enumerate(lines):
                text.append("┊" if column == len(shown) else " ", "dim").append_text(image[row])
            console.print(text, no_wrap=True, overflow="crop")
    print(f"\nleft of ┊ the support, right of it the first of {len(episode.query)} queries")


def _named(name: str) -> tuple[Phase, int]:
    """`train:7` as (train, 7)."""
    text, _, digits = name.rpartition(":")
    phase = next((known for known in PHASES if known == (text or "test")), None)
    if phase is None:
        raise unknown("phase", text, PHASES)
    if not digits.isdigit():
        raise StreamlabError(f"--episode is {name!r}, and should be a number from 0, as 7 or train:7")
    return phase, int(digits)


def _pixels(source: Source, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(C, H, W) of a sample of both splits."""
    train = len(source.train_labels)
    chosen = source.train_images[index] if index < train else source.test_images[index - train]
    return np.asarray(chosen)


def _draw(episode: Episode, source: Source, path: Path, title: str) -> None:
    from streamlab.report.canvas import Canvas

    way = len(episode.classes)
    support = [episode.support[episode.support_labels == place] for place in range(way)]
    query = [episode.query[episode.query_labels == place] for place in range(way)]
    most = max(map(len, support))
    columns = most + max(map(len, query))
    grid = {"nrows": way, "ncols": columns, "squeeze": False}
    canvas = Canvas("episode", 0.6 * columns + 1, 0.62 * way + 0.5, **grid)
    axes = canvas.axes
    for row in range(way):
        for axis in axes[row]:
            axis.axis("off")
        placed = [*enumerate(support[row]), *enumerate(query[row], most)]
        for column, index in placed:
            image = _pixels(source, int(index)).transpose(1, 2, 0)
            axes[row, column].imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        name = source.class_names[episode.classes[row]]
        axes[row, 0].text(-0.3, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center")
    axes[0, 0].set_title("support", fontsize=8, loc="left")
    axes[0, most].set_title("queries", fontsize=8, loc="left")
    canvas.figure.suptitle(title, fontsize=9)
    canvas.write(path)
