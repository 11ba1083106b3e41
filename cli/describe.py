"""Shows a plan: in the terminal as counts and shades, and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamlab.data.source import Source
from streamlab.plans.stream import StreamPlan, labels_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHADES = " ░▒▓█"


def class_counts(plan: StreamPlan, labels: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """(classes, bins): samples of each class in equal stretches of the stream."""
    stream = labels_at(labels, plan.stream)
    place = np.arange(len(stream)) * bins // max(1, len(stream))
    return np.bincount(stream * bins + place, minlength=plan.num_classes * bins).reshape(-1, bins)


def print_plan(plan: StreamPlan, source: Source, console: Console | None = None) -> None:
    """Counts and imbalance of each experience, and a map of when each class appears."""
    console = console or Console()
    shown = "shown" if plan.shows_boundaries else "hidden"
    console.print(
        f"{plan.scenario} on {source.name}, seed {plan.seed}: {len(plan.experiences)} experiences, "
        f"{plan.num_samples:,} samples\nboundaries {shown}\nfingerprint {plan.fingerprint}\n",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in (
        "experience",
        "samples",
        "classes seen",
        "new",
        "its own",
        "test",
        "largest/smallest",
    ):
        table.add_column(heading, justify="right")
    notes = [name for name in ("domain",) if any(name in e.notes for e in plan.experiences)]
    for name in notes:
        table.add_column(name)
    known: set[int] = set()
    for number, experience in enumerate(plan.experiences):
        counts = np.bincount(labels_at(source.train_labels, experience.indices), minlength=plan.num_classes)
        seen = set(np.flatnonzero(counts).tolist())
        present = counts[counts > 0]
        ratio = f"{present.max()}/{present.min()}" if len(present) else "–"
        table.add_row(
            str(number + 1),
            f"{len(experience.indices):,}",
            str(len(seen)),
            str(len(seen - known)),
            str(len(experience.classes)),
            f"{len(experience.test_indices):,}",
            ratio,
            *(str(experience.notes.get(name, "")) for name in notes),
        )
        known |= seen
    console.print(table)
    unjudged = sum(len(experience.test_indices) == 0 for experience in plan.experiences)
    if unjudged:
        console.print(
            f"{unjudged} experiences have no test sample of their own, and are not judged", style="yellow"
        )
    if plan.wrong_labels is not None:
        console.print(f"{len(plan.wrong_labels):,} of {plan.num_samples:,} labels are wrong", style="yellow")
    console.print("\nwhich class appears when (each row a class, left to right the stream):", style="dim")
    width = max(20, min(console.width, 140) - 6)
    first = _order_of_appearance(plan, source)
    counts = class_counts(plan, source.train_labels, width)[first]
    for label, row in zip(first, counts, strict=True):
        shades = "".join(_SHADES[min(4, int(np.ceil(4 * value / max(1, counts.max()))))] for value in row)
        console.print(Text(f"{source.class_names[label][:4]:>4}  {shades}"), overflow="crop", no_wrap=True)


def draw_plan(plan: StreamPlan, source: Source, path: Path) -> None:
    """Write the map as a picture; raises StreamlabError for a format that is not known."""
    from streamlab.report.canvas import Canvas

    order = _order_of_appearance(plan, source)
    counts = class_counts(plan, source.train_labels, 200)[order]
    canvas = Canvas("plan", 9, 2.5 + min(9.0, 0.09 * plan.num_classes))
    axes = canvas.axes
    axes.grid(visible=False)
    extent = (0, plan.num_samples, plan.num_classes, 0)
    image = axes.imshow(counts, aspect="auto", cmap="Greys", extent=extent, interpolation="nearest")
    for end in np.cumsum([len(e.indices) for e in plan.experiences])[:-1]:
        axes.axvline(end, color="tab:blue", linewidth=1)
    axes.set_xlabel("samples of the stream (blue: where an experience ends)")
    axes.set_ylabel("class, by first appearance")
    if plan.num_classes <= 40:
        names = [source.class_names[label] for label in order]
        axes.set_yticks(np.arange(plan.num_classes) + 0.5, names)
    axes.set_title(f"{plan.scenario} on {source.name}, seed {plan.seed}", loc="left")
    canvas.figure.colorbar(image, label=f"samples per {max(1, plan.num_samples // 200)}")
    canvas.write(path)


def _order_of_appearance(plan: StreamPlan, source: Source) -> list[int]:
    stream = labels_at(source.train_labels, plan.stream)
    labels, first = np.unique(stream, return_index=True)
    order: list[int] = labels[np.argsort(first)].tolist()
    return order + [label for label in range(plan.num_classes) if label not in set(order)]
