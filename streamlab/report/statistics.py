"""What a report says of numbers: areas over memory, who is not told apart from the best, ranks over blocks.

Differences are paired by seed; p values are Holm's, and intervals of several differences are widened as
Bonferroni's, so that all hold at once with 95 %. Ranks: Friedman's and Nemenyi's tests (Demšar, JMLR 2006).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.intervals import Interval, interval, paired_differences, t_quantile
from ..evaluation.metrics import is_better_lower
from .panel import Gathered, Panel

MIB = 2**20
FEWEST_BLOCKS = 10

BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Standing:
    """A row among others: the best, or not told apart from it (Holm-corrected, paired by seed).

    What shares too few seeds with the best to be tested is not told apart either.
    """

    mean: Interval
    best: bool
    tied: bool


@dataclass(frozen=True)
class Paired:
    """A row minus the reference: mean, simultaneous 95 % interval (half its width), n, Holm's p."""

    row: str
    mean: float
    half_width: float
    n: int
    p_holm: float


def lower_is_better(metric: str) -> bool:
    """Of a metric or a resource: seconds, operations and bytes are better small."""
    return metric in _COSTS or (metric not in _AREAS and is_better_lower(metric))


_COSTS = ("train_seconds", "flops", "held_bytes", "survey_bytes", "samples_lost")
_AREAS = ("auc_a", "auc_l")


def granted(panel: Panel) -> float:
    """Operations that the stream grants with each sample, to every row alike; 0 where it waits."""
    spent = (run.resources for runs in panel.results.values() for run in runs)
    return max((each.get("granted_flops_per_sample", 0.0) for each in spent), default=0.0)


def areas(panel: Panel, row: str, metric: str) -> dict[int, float]:
    """Area under a metric against memory by seed: trapezoids over MB (2^20 bytes), accuracy in 0..1.

    Only of seeds that are complete at every budget, and of two budgets in bytes or more (else none).
    Source: Zhou et al., arXiv 2302.03648, sec. 4.2.
    """
    if len(panel.bytes_of) < 2 or len(panel.bytes_of) < len(panel.budgets):
        return {}
    at = np.array([panel.bytes_of[budget] / MIB for budget in panel.budgets])
    curves = [panel.values(budget, row, metric) for budget in panel.budgets]
    common = set.intersection(*(set(curve) for curve in curves))
    return {seed: float(np.trapezoid([curve[seed] for curve in curves], at)) for seed in sorted(common)}


def standings(values: Mapping[str, BySeed], lower: bool) -> dict[str, Standing]:
    """Each row's mean, which is the best, and which are not told apart from that. values: by row and seed."""
    means = {row: interval(list(by_seed.values())) for row, by_seed in values.items() if by_seed}
    if not means:
        return {}
    best = (min if lower else max)(means, key=lambda row: means[row].mean)
    others = {row: values[row] for row in means if row != best}
    apart = paired_differences(values[best], others)
    return {
        row: Standing(mean, row == best, row != best and not (row in apart and apart[row].told_apart))
        for row, mean in means.items()
    }


def against(values: Mapping[str, BySeed], reference: str) -> list[Paired]:
    """Every other row minus the reference, over the seeds that both have (at least two)."""
    others = {row: by_seed for row, by_seed in values.items() if row != reference}
    found = paired_differences(values[reference], others)
    rows = []
    for row, difference in found.items():
        spread = difference.interval
        narrow = t_quantile(0.95, spread.n - 1)
        wide = t_quantile(1 - 0.05 / len(found), spread.n - 1)
        half = (spread.half_width or 0.0) * wide / narrow
        rows.append(Paired(row, -spread.mean, half, spread.n, difference.p_holm))
    return rows


def ranked(panel: Panel) -> list[str]:
    """Rows that compete: those that are no ceiling and have a complete run."""
    return [
        row
        for row in panel.rows
        if not panel.is_ceiling(row) and any(result.status == "complete" for result in panel.all_of(row))
    ]


def by_row(panel: Panel, budget: str, metric: str) -> dict[str, dict[int, float]]:
    """A metric of every competing row at a budget, by seed."""
    return {row: panel.values(budget, row, metric) for row in ranked(panel)}


def reference_of(gathered: Gathered, panel: Panel, budget: str, metric: str) -> str | None:
    """The row asked for, else the best at this budget."""
    values = {row: by_seed for row, by_seed in by_row(panel, budget, metric).items() if by_seed}
    if gathered.reference in values:
        return gathered.reference
    return max(values, key=lambda row: interval(list(values[row].values())).mean, default=None)


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over blocks (1 is best), the critical difference between two of them, Friedman's p."""

    means: Mapping[str, float]
    blocks: int
    critical_difference: float
    p: float


def ranks(gathered: Gathered, metric: str) -> Ranks | str:
    """Ranks over (scenario, seed) blocks, a value being the mean over budgets; or why there are none."""
    blocks = []
    rows = [
        row for row in ranked(gathered.panels[0]) if all(row in ranked(panel) for panel in gathered.panels)
    ]
    for panel in gathered.panels:
        tables = {row: [panel.values(budget, row, metric) for budget in panel.budgets] for row in rows}
        seeds = sorted({seed for of_row in tables.values() for table in of_row for seed in table})
        for seed in seeds:
            values = [[table.get(seed, math.nan) for table in tables[row]] for row in rows]
            if np.isfinite(values).all():
                blocks.append([float(np.mean(column)) for column in values])
    if len(rows) < 3 or len(blocks) < FEWEST_BLOCKS:
        return (
            f"a critical-difference diagram needs {FEWEST_BLOCKS} blocks (scenario x seed) and 3 rows that "
            f"are complete in all of them; there are {len(blocks)} and {len(rows)}"
        )
    return rank_blocks(rows, blocks)


def rank_blocks(rows: Sequence[str], blocks: Sequence[Sequence[float]]) -> Ranks:
    """Friedman's and Nemenyi's tests. blocks: a value a row, in their order; the largest is the best."""
    table = np.asarray(blocks)
    count, k = table.shape
    less = (table[:, None, :] > table[:, :, None]).sum(2)
    equal = (table[:, None, :] == table[:, :, None]).sum(2)
    means = (less + (equal + 1) / 2).mean(0)
    chi = 12 * count / (k * (k + 1)) * (float((means**2).sum()) - k * (k + 1) ** 2 / 4)
    critical = nemenyi_quantile(k) * math.sqrt(k * (k + 1) / (6 * count))
    return Ranks(dict(zip(rows, means.tolist(), strict=True)), count, critical, chi_squared_tail(chi, k - 1))


def nemenyi_quantile(k: int, level: float = 0.95) -> float:
    """The studentized range of k normal means at infinite degrees of freedom, over the root of 2."""
    points = np.linspace(-8, 8, 3201)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)]) * (
        points[1] - points[0]
    )

    def inside(width: float) -> float:
        below = np.interp(points - width, points, cumulative, left=0.0)
        return float(np.trapezoid(k * density * (cumulative - below) ** (k - 1), points))

    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < level else (low, middle)
    return high / math.sqrt(2)


def chi_squared_tail(value: float, degrees: int) -> float:
    """The probability of more than `value` (Abramowitz and Stegun, 26.4.4 and 26.4.5)."""
    half = value / 2
    if degrees % 2 == 0:
        term = total = math.exp(-half)
        for number in range(1, degrees // 2):
            term *= half / number
            total += term
        return min(1.0, total)
    total = math.erfc(math.sqrt(half))
    term = math.sqrt(2 * value / math.pi) * math.exp(-half)
    for number in range(1, (degrees + 1) // 2):
        total += term
        term *= value / (2 * number + 1)
    return min(1.0, total)
