"""`streamlab runs geometry`: feature space over the stream, as a table or drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from streamlab.errors import StreamlabError
from streamlab.evaluation.geometry import curve

from .episode_results import records_of

_MEASURES = ("icnn_score", "intra_inter_ratio", "nc1", "nc2", "nc3", "nc4", "uniformity", "tolerance")
_GROUPS = tuple(f"{group} {name}" for group in ("base", "novel") for name in ("nc1", "nc2", "nc3"))
_NAME, _COLUMN = 17, 9  # characters of the longest name, and of a number with the space before it


def print_geometry(folder: Path, picture: Path | None) -> None:
    """Feature space over the stream, a line a measure: means over seeds, first to last point."""
    console, rows = Console(), records_of(folder)
    curves = {
        label: {
            name: found
            for name in (*_MEASURES, *_GROUPS)
            if (found := [points for record in records if (points := curve(record, name))])
            or name in _MEASURES
        }
        for label, records in rows.items()
    }
    if not any(found for row in curves.values() for found in row.values()):
        raise StreamlabError(f"{folder} did not record it; --record geometry does")
    if picture is not None:
        _draw_geometry(curves, picture)
        print(f"written: {picture}")
        return
    for label, row in curves.items():
        whole = max((found[0] for found in row.values() if found), key=len, default=[])
        longest = _that_fit(whole, console.width)
        title = label if longest == whole else f"{label}, {len(longest)} of {len(whole)} points"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
        table.add_column("measure", no_wrap=True, min_width=_NAME)
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


def _that_fit(points: list[tuple[int, float]], width: int) -> list[tuple[int, float]]:
    """As many points as a terminal of this width holds, evenly, the first and the last among them."""
    room = max(2, (width - _NAME) // _COLUMN)
    if len(points) <= room:
        return points
    return [points[place] for place in np.linspace(0, len(points) - 1, room).round().astype(int)]


def _draw_geometry(curves: dict[str, dict[str, list[list[tuple[int, float]]]]], path: Path) -> None:
    from streamlab.report.canvas import Canvas

    canvas = Canvas("geometry", 12, 5, nrows=2, ncols=4)
    axes = canvas.axes
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
    canvas.figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    canvas.write(path)
