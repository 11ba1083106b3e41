"""Episodes in the terminal: a plan's phases, one episode as a picture, and what was tested of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.evaluation.episode_metrics import by_condition
from streamlab.evaluation.episode_record import EpisodeRecord
from streamlab.evaluation.geometry import curve
from streamlab.evaluation.intervals import bootstrap, interval
from streamlab.evaluation.record import Record
from streamlab.experiments.held import read_runs
from streamlab.plans.episodes import Episode, EpisodePlan, Phase

_SHOWN_QUERIES = 3
_SHADES = " ░▒▓█"
_MEASURES = ("icnn_score", "intra_inter_ratio", "nc1", "nc2", "nc3", "nc4")


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


def print_episode(plan: EpisodePlan, source: Source, number: int, phase: Phase, picture: Path | None) -> None:
    """One episode, drawn in the terminal or into a file: a row a class, its support, then queries."""
    if number < 0:
        raise StreamlabError(f"--episode is {number}, and must be at least 0")
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
        lines = [_half_blocks(_pixels(source, index), coloured) for index in (*shown, *asked)]
        name = source.class_names[label][:6]
        for row in range(len(lines[0])):
            text = Text(f"{name if row == 0 else '':<7}")
            for column, image in enumerate(lines):
                text.append("┊" if column == len(shown) else " ", "dim").append_text(image[row])
            console.print(text, no_wrap=True, overflow="crop")
    print(f"\nleft of ┊ the support, right of it the first of {len(episode.query)} queries")


def _pixels(source: Source, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(C, H, W) of a sample of both splits."""
    train = len(source.train_labels)
    chosen = source.train_images[index] if index < train else source.test_images[index - train]
    return np.asarray(chosen)


def _half_blocks(
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], coloured: bool, size: int = 14
) -> list[Text]:
    """A picture as lines of half blocks, two pixels a character; of shades where there is no colour."""
    from PIL import Image

    grey = Image.fromarray(image.mean(0).astype(np.uint8)).resize((size, size), Image.Resampling.BOX)
    pixels = np.asarray(grey)
    lines = []
    for top, bottom in zip(pixels[::2], pixels[1::2], strict=True):
        line = Text()
        for upper, lower in zip(top.tolist(), bottom.tolist(), strict=True):
            style = Style(color=f"rgb({upper},{upper},{upper})", bgcolor=f"rgb({lower},{lower},{lower})")
            if coloured:
                line.append("▀", style)
            else:
                line.append(_SHADES[(upper + lower) * 5 // 512])
        lines.append(line)
    return lines


def _draw(episode: Episode, source: Source, path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    way = len(episode.classes)
    support = [episode.support[episode.support_labels == place] for place in range(way)]
    query = [episode.query[episode.query_labels == place] for place in range(way)]
    most = max(map(len, support))
    columns = most + max(map(len, query))
    figure, axes = pyplot.subplots(
        way, columns, figsize=(0.6 * columns + 1, 0.62 * way + 0.5), squeeze=False, layout="constrained"
    )
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
    figure.suptitle(title, fontsize=9)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise StreamlabError(f"cannot write {path}: {error}") from None
    finally:
        pyplot.close(figure)


def _records(folder: Path) -> dict[str, list[Record | EpisodeRecord]]:
    """Of every row, the records of its complete runs."""
    rows: dict[str, list[Record | EpisodeRecord]] = {}
    for run in read_runs(folder):
        if run.complete:
            rows.setdefault(run.label, []).append(run.folder.record())
    if not rows:
        raise StreamlabError(f"{folder} has no complete run")
    return rows


def print_episodes(folder: Path) -> None:
    """Of every row: meta-test accuracy by seed and over seeds, by environment, and the confusion by way."""
    console = Console()
    for label, records in _records(folder).items():
        own = [record for record in records if isinstance(record, EpisodeRecord)]
        if not own:
            raise StreamlabError(f"{folder} is no run of episodes")
        tests = [tested for record in own if (tested := record.tested()) is not None]
        means = [100 * tested.interval.mean for tested in tests]
        each = ", ".join(
            f"{100 * t.interval.mean:.1f} ± {100 * (t.interval.half_width or 0):.1f}" for t in tests
        )
        console.print(f"[bold]{label}[/]: {each} %, by seed (1.96 s/√n over episodes)", highlight=False)
        if len(means) > 1:
            over, (low, high) = interval(means), bootstrap(means)
            console.print(
                f"  over {len(means)} seeds {over.mean:.1f} ± {over.half_width:.1f} (Student's t), "
                f"bootstrap {low:.1f} to {high:.1f}",
                highlight=False,
            )
        conditions = [by_condition(record) for record in own]
        if conditions[0]:
            table = Table(box=None, pad_edge=False, header_style="dim")
            table.add_column("accuracy, %, by severity")
            for severity in range(1, 6):
                table.add_column(str(severity), justify="right")
            table.add_column("mean", justify="right")
            table.add_column("relative drop", justify="right")
            clean = float(np.mean(means))
            for name in conditions[0]:
                by = {
                    severity: 100 * float(np.mean([found[name][severity].mean for found in conditions]))
                    for severity in conditions[0][name]
                }
                mean = float(np.mean(list(by.values())))
                cells = [f"{by[severity]:.1f}" if severity in by else "–" for severity in range(1, 6)]
                table.add_row(f"  {name}", *cells, f"{mean:.1f}", f"{(clean - mean) / clean:.0%}")
            console.print(table, highlight=False)
        confusion = np.sum([tested.confusion for tested in tests], axis=0)
        table = Table(box=None, pad_edge=False, show_header=False)
        for row in 100 * confusion / confusion.sum(1, keepdims=True):
            table.add_row(*(f"{value:5.1f}" for value in row))
        console.print("  queries of each place of the way (row) taken for each (column), %:", highlight=False)
        console.print(table, "", highlight=False)


def print_geometry(folder: Path, picture: Path | None) -> None:
    """Feature space over the stream, a line a measure: means over seeds, first to last point."""
    console, rows = Console(), _records(folder)
    curves = {
        label: {name: [points for record in records if (points := curve(record, name))] for name in _MEASURES}
        for label, records in rows.items()
    }
    if not any(found for row in curves.values() for found in row.values()):
        raise StreamlabError(f"{folder} did not record it; --record geometry does")
    if picture is not None:
        _draw_geometry(curves, picture)
        print(f"written: {picture}")
        return
    for label, row in curves.items():
        table = Table(title=label, title_justify="left", box=None, pad_edge=False, header_style="dim")
        table.add_column("measure")
        longest = max((found[0] for found in row.values() if found), key=len, default=[])
        for seen, _ in longest:
            table.add_column(f"{seen:,}", justify="right")
        for name, found in row.items():
            if found:
                by = {
                    seen: np.mean([dict(points).get(seen, np.nan) for points in found]) for seen, _ in longest
                }
                table.add_row(name, *("–" if v != v else f"{v:.3g}" for v in by.values()))
            else:
                table.add_row(name, *("n/a" for _ in longest[:1]))
        console.print(table, "", highlight=False)


def _draw_geometry(curves: dict[str, dict[str, list[list[tuple[int, float]]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(10, 5), layout="constrained")
    for axis, name in zip(axes.flat, _MEASURES, strict=True):
        for number, (label, row) in enumerate(curves.items()):
            for seed, points in enumerate(row[name]):
                axis.plot(
                    *zip(*points, strict=True),
                    color=f"C{number}",
                    marker="osD^v<>P"[number % 8],
                    markersize=3,
                    alpha=0.8,
                    label=label if seed == 0 else None,
                )
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_xlabel("seen", fontsize=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise StreamlabError(f"cannot write {path}: {error}") from None
    finally:
        pyplot.close(figure)
