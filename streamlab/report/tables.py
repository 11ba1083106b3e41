"""The tables of a report, apart from how they are written: headings, entries, and which are the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..config import readable_bytes
from ..evaluation.intervals import Interval, interval, t_quantile
from ..memory.ledger import KINDS
from .panel import Gathered, Panel, Result
from .statistics import BySeed, against, areas, granted, lower_is_better, ranked, reference_of, standings

Mark = Literal["", "best", "tied", "failed"]


@dataclass(frozen=True)
class Entry:
    """A cell: text, the half-width of its interval, and its mark; note: what hover or a footnote says."""

    text: str
    half: str = ""
    mark: Mark = ""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """key: its anchor. columns: headings, an arrow after what is best small or large."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Column:
    heading: str
    metric: str
    shown: Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _tera(value: float) -> str:
    return f"{value / 1e12:.1f}" if value >= 1e11 else f"{value / 1e12:.2g}"


ORACLE = "Hyperparameters were chosen by an oracle, on the very streams and test images of this table."
_COLUMNS = (
    _Column("A_avg ↑", "a_avg", _percent),
    _Column("A_last ↑", "a_last", _percent),
    _Column("A_AUC ↑", "a_auc", _percent),
    _Column("F_last ↓", "f_last", _percent),
)
_COSTS = (
    _Column("train s ↓", "train_seconds", _seconds),
    _Column("train TFLOP ↓", "flops", _tera),
)
_LOST = _Column("lost ↓", "samples_lost", lambda value: f"{value:,.0f}")


def tables_of(gathered: Gathered) -> list[Table]:
    """Every table, in the order of a report."""
    found = []
    for panel in gathered.panels:
        if any(areas(panel, row, "a_avg") for row in panel.rows):
            found.append(area_table(panel))
        found += [main_table(gathered, panel, budget) for budget in reversed(panel.budgets)]
        found += [kinds_table(panel, budget) for budget in reversed(panel.budgets)]
        if gathered.seeds > 1 and len(ranked(panel)) > 1:
            found += [difference_table(gathered, panel, budget) for budget in reversed(panel.budgets)]
    if any(tuned["protocol"] == "oracle" for tuned in gathered.tuned):
        return [replace(table, notes=(*table.notes, ORACLE)) for table in found]
    return found


def main_table(gathered: Gathered, panel: Panel, budget: str) -> Table:
    """Accuracy, forgetting, memory and cost of every row at one budget."""
    rows = [row for row in panel.rows if (budget, row) in panel.results]
    columns = [c for c in _COLUMNS if any(panel.values(budget, row, c.metric) for row in rows)]
    costs = (*_COSTS, *((_LOST,) if granted(panel) else ()))
    columns += costs
    marks = {c.metric: _standings(panel, budget, rows, c.metric) for c in columns}
    headings = ("strategy", *(c.heading for c in columns[: -len(costs)]), "exemplars", "held", "survey")
    body = []
    seeds = max(len(panel.results[budget, row]) for row in rows)
    for row in rows:
        results = panel.results[budget, row]
        done = [result for result in results if result.status == "complete"]
        n = f" (n={len(done)})" if len(done) < seeds else ""
        cells = [Entry(row + n, note=_network(results))]
        for column in columns:
            values = panel.values(budget, row, column.metric)
            cells.append(_entry(values, column.shown, marks[column.metric].get(row, ""), results))
        spent, cells = cells[-len(costs) :], cells[: -len(costs)]
        cells += [_exemplars(done)]
        cells += [_most(done, name, readable_bytes) for name in ("held_bytes", "survey_bytes")]
        body.append((*cells, *spent))
    notes = [
        f"Mean ± 95 % (Student's t) over {seeds} seed{'s' if seeds > 1 else ''}, in percent. Bold: the best; "
        "italic: not told apart from it (paired by seed, Holm-corrected, 5 %). F_last: how far classes fell "
        "from their best, the mean over those that were ever right.",
    ]
    if seeds == 2:
        notes.append(
            f"Two seeds: ± is {t_quantile(0.95, 1):.1f} standard errors, so wide that it says little; of "
            f"three seeds it is {t_quantile(0.95, 2):.1f}."
        )
    if granted(panel):
        notes.append(
            f"At equal compute: the stream grants {granted(panel) / 1e6:,.2f} MFLOP with each sample. Lost: "
            "samples that no update was taken on, since a row had not finished."
        )
    notes += failures(panel, budget)
    title = f"{panel.label} at {budget_text(panel, budget)}{', at equal compute' if granted(panel) else ''}"
    return Table(
        _key("main", panel, budget),
        title,
        (*headings, *(c.heading for c in costs)),
        tuple(body),
        tuple(notes),
    )


def area_table(panel: Panel) -> Table:
    """AUC-A and AUC-L: areas under average and last accuracy against memory."""
    names = {"AUC-A ↑": "a_avg", "AUC-L ↑": "a_last"}
    values = {metric: {row: areas(panel, row, metric) for row in panel.rows} for metric in names.values()}
    body = []
    for row in panel.rows:
        cells = [Entry(row)]
        for metric in names.values():
            competing = {r: by_seed for r, by_seed in values[metric].items() if not panel.is_ceiling(r)}
            found = standings(competing, False)
            mark: Mark = "best" if row in found and found[row].best else ""
            mark = "tied" if row in found and found[row].tied else mark
            shown = _entry(values[metric][row], lambda value: f"{value:.3f}", mark, panel.all_of(row))
            missing = not values[metric][row]
            cells.append(Entry("n/a", note="not complete at every budget") if missing else shown)
        body.append(tuple(cells))
    ends = [panel.bytes_of[budget] / 2**20 for budget in panel.budgets]
    note = (
        f"Trapezoids over {len(ends)} budgets, {ends[0]:.2f} to {ends[-1]:.2f} MB (2^20 bytes), accuracy "
        f"in 0..1, so that the most is {ends[-1] - ends[0]:.2f}."
    )
    return Table(
        _key("areas", panel),
        f"{panel.label}: areas under accuracy against memory",
        ("strategy", *names),
        tuple(body),
        (note,),
    )


def kinds_table(panel: Panel, budget: str) -> Table:
    """The most that each row held, by kind."""
    rows = [row for row in panel.rows if (budget, row) in panel.results]
    held = {row: _held(panel.results[budget, row]) for row in rows}
    kinds = [kind for kind in KINDS if any(by_kind.get(kind) for by_kind in held.values())]
    body = []
    for row in rows:
        cells = [Entry(readable_bytes(held[row][kind]) if held[row].get(kind) else "–") for kind in kinds]
        body.append(
            (Entry(row), *cells, Entry(readable_bytes(sum(held[row].values())) if held[row] else "–"))
        )
    return Table(
        _key("kinds", panel, budget),
        f"{panel.label} at {budget_text(panel, budget)}: bytes held by kind",
        ("strategy", *kinds, "in all"),
        tuple(body),
        ("At the moment of the stream when most was held, teachers and labels included; the first seed.",),
    )


def difference_table(gathered: Gathered, panel: Panel, budget: str) -> Table:
    """Every row minus the reference, in points."""
    metric = "a_avg"
    by_label = {row: panel.values(budget, row, metric) for row in panel.rows if not panel.is_ceiling(row)}
    reference = reference_of(gathered, panel, budget, metric)
    body = []
    if reference is not None:
        for paired in against({row: seeds for row, seeds in by_label.items() if seeds}, reference):
            verdict = "not told apart" if paired.p_holm >= 0.05 else "above" if paired.mean > 0 else "below"
            body.append(
                (
                    Entry(paired.row),
                    Entry(f"{100 * paired.mean:+.1f}", f"{100 * paired.half_width:.1f}"),
                    Entry(str(paired.n)),
                    Entry(f"{paired.p_holm:.3f}"),
                    Entry(verdict),
                )
            )
    return Table(
        _key("paired", panel, budget),
        f"{panel.label} at {budget_text(panel, budget)}: A_avg, minus {reference}",
        ("strategy", "points", "n", "p (Holm)", ""),
        tuple(body),
        ("Paired by seed; the intervals hold together with 95 % (Bonferroni).",),
    )


def budget_text(panel: Panel, budget: str) -> str:
    """`1MiB`, or a need with what it came to."""
    size = panel.bytes_of.get(budget)
    plain = size is None or budget[-1] in "Bb"
    return budget if plain else f"{budget} ({readable_bytes(size or 0)})"


def failures(panel: Panel, budget: str) -> list[str]:
    """One line for every run at a budget that is not complete."""
    lines = []
    for (column, row), results in panel.results.items():
        if column == budget:
            for result in results:
                if result.status == "failed":
                    lines.append(f"Failed: {row}, seed {result.spec.seed}: {result.message}")
                elif result.status == "unfinished":
                    lines.append(f"Not finished: {row}, seed {result.spec.seed}.")
    return lines


def _standings(panel: Panel, budget: str, rows: list[str], metric: str) -> dict[str, Mark]:
    values = {row: panel.values(budget, row, metric) for row in rows if not panel.is_ceiling(row)}
    found = standings(values, lower_is_better(metric))
    return {
        row: "best" if standing.best else "tied" if standing.tied else "" for row, standing in found.items()
    }


def _entry(
    values: BySeed, shown: Callable[[float], str], mark: Mark, results: tuple[Result, ...] | list[Result]
) -> Entry:
    failed = sum(result.status != "complete" for result in results)
    if not values:
        return Entry("failed", mark="failed") if failed else Entry("n/a")
    mean: Interval = interval(list(values.values()))
    half = "" if mean.half_width is None else shown(mean.half_width)
    note = ", ".join(f"seed {seed}: {shown(value)}" for seed, value in values.items())
    return Entry(shown(mean.mean), half, mark, note + (f"; {failed} not complete" if failed else ""))


def _exemplars(done: list[Result]) -> Entry:
    """The most that were held; where more than a tenth were given up, also how many were left."""
    if not done:
        return Entry("–")
    most, left = (
        max(int(result.resources.get("exemplars", 0)) for result in done),
        max(result.exemplars for result in done),
    )
    return Entry(f"{most:,}" if left >= 0.9 * most else f"{most:,} to {left:,}")


def _most(done: list[Result], name: str, shown: Callable[[float], str]) -> Entry:
    if not done:
        return Entry("–")
    return Entry(shown(max(result.resources.get(name, 0) for result in done)))


def _held(results: tuple[Result, ...]) -> Mapping[str, int]:
    return next((result.held for result in results if result.status == "complete"), {})


def _network(results: tuple[Result, ...]) -> str:
    """The network that a row used, where it was named."""
    options = results[0].spec.backbone
    name = options.get("name", "")
    others = ", ".join(f"{key} {value}" for key, value in options.items() if key != "name")
    return f"{name} ({others})" if name and others else str(name)


def _key(kind: str, panel: Panel, budget: str = "") -> str:
    text = f"{kind}-{panel.label}-{budget}".lower()
    return "".join(c if c.isalnum() else "-" for c in text).strip("-")
