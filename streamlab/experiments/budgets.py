"""Budgets that align strategies: what a strategy needs, what a budget buys it, which network fits.

A budget is bytes (`2MiB`), exemplars (`500ex`), or a need: NAME or NAME+2000ex, where NAME is a row of the
comparison (by its label, or its strategy where no other row has that), an installed strategy as it comes,
or `model` (one network of the run, and nothing else). A need is
the most that counts in the named accounting over the whole stream, and the exemplars' bytes. So
`expandable-der+2000ex` in the survey's accounting is its memory-aligned setting.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch

from ..config import Budget, parse_budget, readable_bytes
from ..errors import StreamlabError
from ..memory.policies import ReservoirBuffer
from ..nets.network import PixelStatistics
from ..plans.stream import StreamPlan
from ..plugins import names as plugin_names
from ..runs.spec import RunSpec, parse_row, settled_backbone
from ..simulator.execute import make_strategy
from ..strategy import Strategy
from .experiment import Experiment

_MODEL = "model"  # a network alone, as whoever keeps nothing else holds it
_NEED = re.compile(r"(?P<name>[^+].*?)(?:\+(?P<exemplars>\d+)ex)?")


@dataclass(frozen=True)
class Need:
    """What a strategy counts for beside exemplars, and what one exemplar costs it.

    first, last: bytes in the first experience, and the most of the whole stream. each: bytes of one
    exemplar (0: it keeps none), plain: of one as plain replay holds it, least: exemplars that it must have.
    parameters: of its network now.
    """

    first: int
    last: int
    each: int
    plain: int
    least: int
    parameters: int

    def buys(self, budget: Budget) -> tuple[int, int]:
        """Exemplars that a budget buys it in the first experience and in the last."""
        if not self.each:
            return 0, 0
        if budget.bytes is None:
            count = 500 if budget.exemplars is None else budget.exemplars
            return count, count
        first, last = (max(0, budget.bytes - own) // self.each for own in (self.first, self.last))
        return first, last

    @property
    def total(self) -> int:
        """Bytes below which it cannot work."""
        return self.last + self.least * self.each


def need_of(experiment: Experiment, spec: RunSpec) -> Need:
    """The need of a spec's strategy, from one made for it; raises StreamlabError where it cannot be made."""
    plan = experiment.plans[spec.plan_seed]
    made = make_strategy(
        dataclasses.replace(spec, device="cpu"),
        plan,
        experiment.source.image_shape,
        PixelStatistics(0.5, 0.25),
        Strategy if spec.strategy == _MODEL else experiment.classes.get(spec.strategy),
    )
    budget = Budget(accounting=spec.accounting, count_frozen=spec.count_frozen)
    count = len(plan.experiences) if isinstance(plan, StreamPlan) else 1
    each = made.exemplar_sizes(budget)
    least = made.least_per_class * plan.num_classes * len(each)
    average = sum(each) // len(each) if each else 0
    first, last = made.needs(budget), made.needs(budget, count)
    exemplar = ReservoirBuffer(experiment.source.image_shape, torch.device("cpu"), 0)
    plain = exemplar.pixel_bytes if spec.accounting == "survey" else exemplar.exemplar_bytes
    return Need(first, max(first, last), average, plain, least, made.ledger().parameters)


def resolve(
    text: str, rows: Mapping[str, RunSpec], need: Callable[[RunSpec], Need], backbone: Mapping[str, Any]
) -> str:
    """A budget as a run's spec states it: exact bytes, or exemplars.

    rows: the comparison's rows by label, one spec of each. backbone: what was asked for of all of them, which
    `model` and a strategy that is no row have too. Raises StreamlabError for what it does not mean.
    """
    try:
        return str(parse_budget(text).bytes) if parse_budget(text).bytes is not None else text
    except StreamlabError as error:
        match = _NEED.fullmatch(text.strip())
        if match is None:
            raise
        name = match["name"]
        own = rows.get(name) or _only(name, rows)
        known = (_MODEL, *rows, *plugin_names("strategies"))
        if own is None and name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StreamlabError(f"{error}, or what a strategy needs, as model+500ex{hint}") from None
    if own is None:
        any_row = next(iter(rows.values()))
        asked = settled_backbone(backbone)
        own = dataclasses.replace(any_row, strategy=name, label=name, backbone=asked, strategy_options={})
    found = need(own)
    exemplars = max(int(match["exemplars"] or 0), found.least)
    return str(found.last + exemplars * (found.each or found.plain))


def _only(name: str, rows: Mapping[str, RunSpec]) -> RunSpec | None:
    """The row of this strategy; raises StreamlabError where several are."""
    found = [spec for spec in rows.values() if spec.strategy == name]
    if len(found) > 1:
        labels = " and ".join(repr(spec.label) for spec in found)
        raise StreamlabError(f"the budget {name} means one of several rows; name it whole: {labels}")
    return found[0] if found else None


def fitting(
    spec: RunSpec, budget: Budget, asked: str, smaller: Sequence[str], need: Callable[[RunSpec], Need]
) -> RunSpec:
    """The spec with the largest network that fits the budget: its own, or the first of `smaller` that does.

    asked: the budget as it was asked for.
    Raises StreamlabError, with what it needs, where none does.
    """
    if budget.bytes is None:
        return spec
    own = need(spec)
    if own.total <= budget.bytes:
        return spec
    for text in smaller:
        row = parse_row(text)
        backbone = settled_backbone({"name": row.strategy, **row.options})
        other = dataclasses.replace(spec, strategy_options={**spec.strategy_options, "backbone": backbone})
        if need(other).total <= budget.bytes:
            return other
    beside = f" and the {own.least} exemplars that it must have" if own.least else ""
    named = "" if asked[-1] in "Bb" or asked.isdigit() else f" ({asked})"
    tried = ", nor does any of the smaller networks" if smaller else "; --smaller names smaller networks"
    raise StreamlabError(
        f"{spec.label}: it needs {readable_bytes(own.total)} for its own state{beside}, which the budget of "
        f"{budget}{named} does not hold{tried}"
    )
