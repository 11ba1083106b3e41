"""Means with their 95 % intervals over seeds (Student t), and differences that are paired by seed.

Where several differences are looked at, their p values are corrected as Holm (1979) does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..randomness import Draws


@dataclass(frozen=True)
class Interval:
    """mean ± half_width at 95 %, from n values; half_width is None for n = 1."""

    mean: float
    half_width: float | None
    n: int

    def __str__(self) -> str:
        if self.half_width is None:
            return f"{self.mean:.4f} (n=1)"
        return f"{self.mean:.4f} ± {self.half_width:.4f} (n={self.n})"


@dataclass(frozen=True)
class Difference:
    """A paired difference: its interval, and its p value before and after Holm's correction."""

    interval: Interval
    p: float
    p_holm: float

    @property
    def told_apart(self) -> bool:
        """Whether it differs from 0 at 5 %, among all that were looked at."""
        return self.p_holm < 0.05


def interval(values: Sequence[float]) -> Interval:
    """The interval of the mean of at least one value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, None, 1)
    return Interval(mean, t_quantile(0.95, n - 1) * _deviation(values) / math.sqrt(n), n)


def normal_interval(values: Sequence[float]) -> Interval:
    """Mean ± 1.96 s / sqrt(n), as few-shot papers give it over episodes; at least one value."""
    n = len(values)
    mean = math.fsum(values) / n
    return Interval(mean, 1.96 * _deviation(values) / math.sqrt(n) if n > 1 else None, n)


def bootstrap(values: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """The middle 95 % of the means of resamples (percentile bootstrap; Efron 1979); draws are fixed."""
    sample = np.asarray(values, np.float64)
    rows = Draws(0, "bootstrap").integers(len(sample), draws * len(sample)).reshape(draws, -1)
    low, high = np.quantile(sample[rows].mean(1), [0.025, 0.975])
    return float(low), float(high)


def paired_differences(
    own: Mapping[int, float], others: Mapping[str, Mapping[int, float]]
) -> dict[str, Difference]:
    """`own` minus each other row, over the seeds that both have (at least two); values are by seed."""
    gaps = {
        name: [own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())]
        for name, other in others.items()
    }
    tested = {name: values for name, values in gaps.items() if len(values) > 1}
    raw = {name: _p_of_mean(values) for name, values in tested.items()}
    corrected = holm(raw)
    return {name: Difference(interval(tested[name]), raw[name], corrected[name]) for name in tested}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction: the k-th smallest of m times m - k + 1, never falling, at most 1."""
    corrected: dict[str, float] = {}
    highest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}


def t_tails(t: float, degrees: int) -> float:
    """The probability of a Student t beyond ±t (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    theta = math.atan(abs(t) / math.sqrt(degrees))
    cosine = math.cos(theta) ** 2
    odd = degrees % 2 == 1
    term = total = math.cos(theta) if odd else 1.0
    for number in range(2 if odd else 1, degrees - 1, 2):
        term *= cosine * number / (number + 1)
        total += term
    if degrees == 1:
        total = 0.0
    inside = 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
    return max(0.0, 1 - inside)


@cache
def t_quantile(level: float, degrees: int) -> float:
    """What a Student t stays within, on both sides, with this probability."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, degrees) > 1 - level else (low, middle)
    return high


def _p_of_mean(values: Sequence[float]) -> float:
    """Two-sided: how often a mean so far from 0 would come of no difference."""
    deviation, mean = _deviation(values), math.fsum(values) / len(values)
    if deviation == 0:
        return 0.0 if mean else 1.0
    return t_tails(mean * math.sqrt(len(values)) / deviation, len(values) - 1)


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
