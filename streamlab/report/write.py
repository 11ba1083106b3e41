"""Writes a report: one HTML file that needs nothing beside it, and the same as Markdown, LaTeX and CSV.

report.html   report.md   report.tex   report.csv (a line a run)   tables/*.csv   pictures/*.svg, *.pdf
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from ..errors import StreamlabError
from ..experiments.protocol import told
from ..files import write_bytes
from .canvas import Picture
from .charts import pictures_of
from .findings import findings
from .panel import Gathered
from .provenance import provenance_of
from .statistics import ranks
from .tables import Entry, Table, tables_of

TITLE = "Comparison at aligned memory budgets"


def write_report(gathered: Gathered, out: Path) -> list[Path]:
    """Write the report into `out`; returns its files, the HTML first. Raises StreamlabError."""
    tables, pictures = tables_of(gathered), pictures_of(gathered)
    forms: dict[str, bytes] = {
        "report.html": html_of(gathered, tables, pictures).encode(),
        "report.md": markdown_of(gathered, tables, pictures).encode(),
        "report.tex": latex_of(gathered, tables).encode(),
        "report.csv": csv_of(gathered).encode(),
    }
    try:
        for folder in ("tables", "pictures"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        for table in tables:
            write_bytes(out / "tables" / f"{table.key}.csv", table_csv(table).encode())
        for picture in pictures:
            write_bytes(out / "pictures" / f"{picture.key}.svg", picture.svg.encode())
            write_bytes(out / "pictures" / f"{picture.key}.pdf", picture.pdf)
        for name, content in forms.items():
            write_bytes(out / name, content)
    except OSError as error:
        raise StreamlabError(f"cannot write the report to {out}: {error.strerror}") from None
    return [out / name for name in forms]


def accounting_of(gathered: Gathered) -> str:
    """How memory was counted, in a sentence."""
    ways = {
        "held": "Budgets count all that is held at its most while learning: networks, teachers, exemplars "
        "with labels, statistics",
        "survey": "Budgets count as the survey does (Zhou et al., arXiv 2302.03648): 4 bytes a parameter "
        "of the network at rest without its head, and exemplars' pixels",
    }
    frozen = "counts" if gathered.count_frozen else "does not count"
    return f"{ways[gathered.accounting]}; a frozen backbone {frozen}. Tables show both accountings."


def html_of(gathered: Gathered, tables: Sequence[Table], pictures: Sequence[Picture]) -> str:
    """The page."""
    folder = files(__package__)
    template = _environment(html=True).from_string(folder.joinpath("report.html.jinja").read_text("utf-8"))
    return template.render(
        title=TITLE,
        findings=findings(gathered),
        accounting=accounting_of(gathered),
        tables=tables,
        pictures=[
            {"key": p.key, "caption": p.caption, "svg": p.svg, "pdf": base64.b64encode(p.pdf).decode()}
            for p in pictures
        ],
        ranks=ranks(gathered, "a_avg"),
        tuned=_tuned(gathered),
        provenance=provenance_of(gathered),
        recipes=gathered.recipes,
        style=folder.joinpath("report.css").read_text("utf-8"),
        script=folder.joinpath("report.js").read_text("utf-8"),
    )


def markdown_of(gathered: Gathered, tables: Sequence[Table], pictures: Sequence[Picture]) -> str:
    """The same for a repository or a notebook."""
    lines = [f"# {TITLE}", "", " ".join(findings(gathered)), "", accounting_of(gathered), ""]
    for table in tables:
        lines += [f"## {table.title}", ""]
        lines += [_pipes(table.columns), _pipes(["---", *["---:"] * (len(table.columns) - 1)])]
        lines += [_pipes([_markdown_entry(entry) for entry in row]) for row in table.rows]
        lines += ["", *(f"{note}  " for note in table.notes), ""]
    lines += ["## Pictures", ""]
    for picture in pictures:
        lines += [f"![{picture.caption}](pictures/{picture.key}.svg)", "", picture.caption, ""]
    why = ranks(gathered, "a_avg")
    lines += [f"No critical-difference diagram: {why}.", ""] if isinstance(why, str) else []
    tuned = _tuned(gathered)
    if tuned:
        lines += ["## What was tuned", "", *_markdown_tuning(tuned), ""]
    lines += ["## Provenance", ""]
    lines += [f"- {name}: {text}" for name, text in provenance_of(gathered)]
    for recipe in gathered.recipes:
        lines += [
            "",
            "What was asked for (`streamlab compare RECIPE.toml`):",
            "",
            "```toml",
            recipe.rstrip(),
            "```",
        ]
    return "\n".join(lines).rstrip() + "\n"


def latex_of(gathered: Gathered, tables: Sequence[Table]) -> str:
    """Tables for a paper's appendix: \\input it; it needs booktabs (and graphicx, for wide ones)."""
    parts = [
        "% Made by streamlab report; needs \\usepackage{booktabs,graphicx}.",
        *(f"% {line}" for line in [*findings(gathered), accounting_of(gathered)]),
    ]
    for table in tables:
        columns = "l" + "r" * (len(table.columns) - 1)
        body = [" & ".join(map(_latex, table.columns)) + " \\\\", "\\midrule"]
        body += [" & ".join(map(_latex_entry, row)) + " \\\\" for row in table.rows]
        notes = " ".join(map(_latex, table.notes)).replace("Bold:", "\\textbf{Bold}:")
        parts += [
            "", "\\begin{table}[htbp]", "\\centering", f"\\caption{{{_latex(table.title)}. {notes}}}",
            f"\\label{{tab:{table.key}}}",
            "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
            f"\\begin{{tabular}}{{{columns}}}", "\\toprule", *body, "\\bottomrule", "\\end{tabular}}",
            "\\end{table}",
        ]  # fmt: skip
    parts += ["", *(f"% {name}: {text}" for name, text in provenance_of(gathered))]
    parts += [f"% {line}" for recipe in gathered.recipes for line in ("", "recipe:", *recipe.splitlines())]
    return "\n".join(parts) + "\n"


def csv_of(gathered: Gathered) -> str:
    """A line a run and budget: what identifies it, its metrics in 0..1, what it held and cost."""
    metrics = sorted({name for result in gathered.results for name in result.metrics})
    resources = sorted({name for result in gathered.results for name in result.resources})
    kinds = sorted({kind for result in gathered.results for kind in result.held})
    head = [
        "scenario",
        "source",
        "budget",
        "budget_bytes",
        "strategy",
        "seed",
        "status",
        "plan",
        "folder",
        "message",
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, *metrics, *resources, *(f"held {kind}" for kind in kinds)])
    for panel in gathered.panels:
        for (budget, row), results in panel.results.items():
            for result in results:
                about = [
                    panel.label, result.spec.source, budget, panel.bytes_of.get(budget, ""), row,
                    result.spec.seed, result.status, result.spec.plan_fingerprint, result.folder,
                    result.message,
                ]  # fmt: skip
                values: list[Any] = [result.metrics.get(name, "") for name in metrics]
                values += [result.resources.get(name, "") for name in resources]
                values += [result.held.get(kind, "") for kind in kinds]
                writer.writerow([*about, *values])
    return text.getvalue()


def table_csv(table: Table) -> str:
    """A table as the page shows it; half-widths of intervals are columns of their own."""
    spread = [any(row[place].half for row in table.rows) for place in range(len(table.columns))]

    def line(cells: Iterable[tuple[str, str]]) -> list[str]:
        both = zip(cells, spread, strict=True)
        return [text for (value, half), wide in both for text in ((value, half) if wide else (value,))]

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(line((name, f"{name} ±") for name in table.columns))
    writer.writerows(line((entry.text, entry.half) for entry in row) for row in table.rows)
    return text.getvalue()


def _environment(html: bool) -> jinja2.Environment:
    return jinja2.Environment(autoescape=html, trim_blocks=True, lstrip_blocks=True)


def _tuned(gathered: Gathered) -> list[dict[str, Any]]:
    """What was tried and chosen, in words."""
    shown = []
    for tuned in gathered.tuned:
        scores = [trial["score"] for trial in tuned["trials"]]
        known = [score for score in scores if score is not None]
        shown.append(
            {
                "scenario": tuned["scenario"],
                "strategy": tuned["strategy"],
                "trials": len(scores),
                "chosen": _parameters(tuned["chosen"]) or "as it comes",
                "best": f"{100 * max(known):.1f}",
                "first": "failed" if scores[0] is None else f"{100 * scores[0]:.1f}",
                "metric": tuned["metric"],
                "budget": tuned["budget"],
                "protocol": told(tuned["protocol"]),
                "operations": f"{tuned['operations']:.2g}",
                "spread": f"{100 * tuned['spread']:.1f}",
                "tried": [
                    (_parameters(trial["parameters"]) or "as it comes")
                    + (": failed" if trial["score"] is None else f": {100 * trial['score']:.1f}")
                    for trial in tuned["trials"]
                ],
            }
        )
    return shown


def _parameters(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def _markdown_tuning(tuned: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [*dict.fromkeys(one["protocol"] for one in tuned), ""]
    for one in tuned:
        found = f"{one['metric']} {one['best']} %, as it comes {one['first']} %"
        where = f"{one['strategy']} on {one['scenario']}, {one['trials']} trials at {one['budget']}"
        costs = f"The trials took {one['operations']} operations, and lie {one['spread']} points apart"
        tried = "; ".join(one["tried"])
        lines.append(f"- {where}: chosen {one['chosen']} ({found}). {costs}. Tried: {tried}.")
    return lines


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _whole(entry: Entry) -> str:
    return f"{entry.text} ± {entry.half}" if entry.half else entry.text


def _markdown_entry(entry: Entry) -> str:
    return _marked(entry, _whole(entry), lambda text: f"**{text}**", lambda text: f"*{text}*")


def _latex_entry(entry: Entry) -> str:
    text = _latex(entry.text) + (f" $\\pm$ {_latex(entry.half)}" if entry.half else "")
    return _marked(entry, text, lambda cell: f"\\textbf{{{cell}}}", lambda cell: f"\\emph{{{cell}}}")


def _marked(entry: Entry, text: str, best: Callable[[str], str], tied: Callable[[str], str]) -> str:
    if entry.mark == "best":
        return best(text)
    return tied(text) if entry.mark == "tied" else text


_LATEX = {
    "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{",
    "}": "\\}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$",
    "↑": "$\\uparrow$", "↓": "$\\downarrow$",
    "–": "--", "·": "$\\cdot$", "…": "\\ldots{}",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
