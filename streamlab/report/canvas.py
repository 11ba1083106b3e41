"""A sheet to draw on, in the one look of a report: pictures as SVG that says its values, and as PDF.

Colours keep apart in grey and for the colour-blind (Okabe and Ito), with a marker and a line of its own for
every row; legends stand below the data.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..errors import StreamlabError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00", "#8A8A8A")
_MARKERS = "osD^vP*X<>ph"
_LINES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "oo", "++", "--", "**", "||")
WIDTH, HEIGHT = 5.4, 3.6


@dataclass(frozen=True)
class Picture:
    """A picture: its anchor, its caption, and itself in two forms."""

    key: str
    caption: str
    svg: str
    pdf: bytes


class Canvas:
    """A figure whose artists can be given words to be shown under the pointer."""

    def __init__(self, key: str, width: float = WIDTH, height: float = HEIGHT, **grid: Any) -> None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        self._pyplot, self.key, self._words = pyplot, key, list[str]()
        with matplotlib.rc_context(_STYLE):
            self.figure, self.axes = pyplot.subplots(figsize=(width, height), layout="constrained", **grid)

    def say(self, artist: Any, words: str) -> None:
        """Show these words over an artist."""
        artist.set_gid(f"{self.key}-{len(self._words)}")
        self._words.append(words)

    def write(self, path: Path) -> None:
        """Write it as a file of its own (png, svg or pdf); raises StreamlabError where it cannot be."""
        import matplotlib

        try:
            with matplotlib.rc_context(_STYLE):
                self.figure.savefig(path, dpi=150)
        except OSError as error:
            raise StreamlabError(f"cannot write {path}: {error.strerror}") from None
        except ValueError as error:
            raise StreamlabError(f"cannot write {path}: {error}") from None
        finally:
            self._pyplot.close(self.figure)

    def picture(self, caption: str) -> Picture:
        """Draw it in both forms."""
        import matplotlib

        forms = {}
        with matplotlib.rc_context({**_STYLE, "svg.hashsalt": self.key}):
            for form in ("svg", "pdf"):
                out = io.BytesIO()
                about = {"Date": None} if form == "svg" else {"CreationDate": None}
                self.figure.savefig(out, format=form, metadata=about)
                forms[form] = out.getvalue()
                self.figure.set_layout_engine("none")  # it is laid out; the second form stays as the first
        self._pyplot.close(self.figure)
        text = forms["svg"].decode()
        text = text[text.index("<svg") :]
        for number, words in enumerate(self._words):
            opened = f'<g id="{self.key}-{number}">'
            said = f'<g id="{self.key}-{number}" class="says" tabindex="0"><title>{escape(words)}</title>'
            text = text.replace(opened, said, 1)
        return Picture(self.key, caption, text, forms["pdf"])


_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "hatch.linewidth": 0.6,
}


Styles = dict[str, dict[str, Any]]


def styles_of(rows: Sequence[str]) -> Styles:
    return {
        row: {
            "color": COLOURS[number % len(COLOURS)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "linestyle": _LINES[number // len(COLOURS) % len(_LINES) if number >= 8 else number % 4],
        }
        for number, row in enumerate(rows)
    }


def add_legend(canvas: Canvas, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 2 if max(map(len, labels)) <= 26 else 1
        shown = [shortened(label, 60) for label in labels]
        canvas.figure.set_figheight(canvas.figure.get_figheight() + 0.19 * -(-len(labels) // columns))
        canvas.figure.legend(
            handles, shown, loc="outside lower center", ncols=columns, fontsize=9, frameon=False
        )


def add_point(canvas: Canvas, axes: Any, x: float, y: float, words: str) -> None:
    """An invisible disc that the pointer can find."""
    canvas.say(axes.plot([x], [y], "o", markersize=13, alpha=0.0, zorder=10)[0], words)


def shortened(text: str, width: int = 34) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
