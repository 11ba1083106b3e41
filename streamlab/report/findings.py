"""What a report opens with: the answer, in three sentences."""

from __future__ import annotations

from collections.abc import Mapping

from ..evaluation.intervals import interval
from .panel import Gathered, Panel
from .statistics import areas, by_row, granted, ranked, standings
from .tables import budget_text


def findings(gathered: Gathered) -> list[str]:
    """Who is best at the largest budget; what memory changes; what it costs, and how sure it is."""
    return [_best(gathered), _over_memory(gathered), _cost_and_certainty(gathered)]


def _main_metric(panel: Panel, budget: str) -> str:
    for metric in ("a_avg", "a_last"):
        if any(by_row(panel, budget, metric).values()):
            return metric
    return "a_last"


_NAMES = {"a_avg": "average accuracy", "a_last": "last accuracy"}


def _best(gathered: Gathered) -> str:
    parts = []
    for panel in gathered.panels:
        budget = panel.budgets[-1]
        metric = _main_metric(panel, budget)
        values = {row: by_seed for row, by_seed in by_row(panel, budget, metric).items() if by_seed}
        found = standings(values, False)
        where = f"on {panel.label} at {budget_text(panel, budget)}"
        where += " and equal compute" if granted(panel) else ""
        if not found:
            parts.append(f"{where} nothing is complete")
            continue
        best = next(row for row, standing in found.items() if standing.best)
        half = found[best].mean.half_width
        shown = f"{100 * found[best].mean.mean:.1f}" + ("" if half is None else f" ± {100 * half:.1f}") + " %"
        tied = [row for row, standing in found.items() if standing.tied]
        others = [row for row in found if row != best]
        if not others:
            verdict = ""
        elif len(tied) == len(others):
            verdict = ", though no other row is told apart from it"
        elif tied:
            verdict = f", not told apart from {_listed(tied)}"
        else:
            verdict = ", above all others"
        parts.append(f"{where} {best} has the best {_NAMES[metric]}, {shown}{verdict}")
    return _sentence("; ".join(parts))


def _over_memory(gathered: Gathered) -> str:
    parts = []
    for panel in gathered.panels:
        if len(panel.budgets) < 2:
            continue
        small = panel.budgets[0]
        metric = _main_metric(panel, small)
        every = [by_row(panel, budget, metric) for budget in panel.budgets]
        known = [row for row in every[0] if all(at_budget.get(row) for at_budget in every)]
        if len(known) < 2:
            continue
        least, most = (_leader({row: at_budget[row] for row in known}) for at_budget in (every[0], every[-1]))
        whole = _leader({row: areas(panel, row, metric) for row in by_row(panel, small, metric)})
        over = f", and {whole} has the largest area over all budgets" if whole else ""
        at = f"on {panel.label} {least} leads at the smallest budget ({small})"
        if least == most:
            parts.append(f"{at} too{over}")
        elif least and most:
            parts.append(f"{at}, {most} at the largest{over}")
    if not parts:
        return "No two rows are complete at several budgets; nothing is said of how memory changes it."
    return _sentence("; ".join(parts))


def _cost_and_certainty(gathered: Gathered) -> str:
    parts = []
    for panel in gathered.panels[:1]:
        budget = panel.budgets[-1]
        metric = _main_metric(panel, budget)
        best = _leader(by_row(panel, budget, metric))
        costs = {
            row: interval(list(by_seed.values())).mean
            for row, by_seed in by_row(panel, budget, "flops").items()
            if by_seed
        }
        if best in costs and len(costs) > 1 and min(costs.values()) > 0:
            cheapest = min(costs, key=lambda row: costs[row])
            if best == cheapest:
                parts.append(f"{best} is also the cheapest to train")
            else:
                times = costs[best] / costs[cheapest]
                if times < 1.05:
                    parts.append(f"training {best} takes no more operations than {cheapest}, the cheapest")
                    continue
                parts.append(
                    f"training {best} takes {times:.1f} times the operations of {cheapest}, the cheapest"
                )
    seeds = min(_common_seeds(panel) for panel in gathered.panels)
    sure = (
        "no difference is told from chance, for fewer than two seeds are complete of every row"
        if seeds < 2
        else f"all of it rests on {seeds} seeds, differences paired by seed and Holm-corrected"
        if any(len(ranked(panel)) > 1 for panel in gathered.panels)
        else f"it rests on {seeds} seeds"
    )
    lost = sum(result.status != "complete" for result in gathered.results)
    runs = "run" if lost == 1 else "runs"
    parts.append(sure + (f", and {lost} {runs} did not complete" if lost else ""))
    return _sentence("; ".join(parts))


def _common_seeds(panel: Panel) -> int:
    """Seeds that are complete of every competing row at the largest budget, if a row has any there."""
    budget = panel.budgets[-1]
    known = [
        set(by_seed) for by_seed in by_row(panel, budget, _main_metric(panel, budget)).values() if by_seed
    ]
    return len(set.intersection(*known)) if known else 0


def _leader(values: Mapping[str, Mapping[int, float]]) -> str:
    means = {row: interval(list(by_seed.values())).mean for row, by_seed in values.items() if by_seed}
    return max(means, key=lambda row: means[row], default="")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(text: str) -> str:
    """With a capital, unless it begins with a name."""
    begins = text.split(" ", 1)[0] in ("on", "one", "all", "no", "training")
    return (text[0].upper() + text[1:] if begins else text) + "."
