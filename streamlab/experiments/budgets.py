"""Budgets that align strategies: what a strategy needs, what a budget buys it, which network fits.

A budget is bytes (`2MiB`), exemplars (`500ex`), or a need: NAME or NAME+2000ex, where NAME is a row of the
comparison (by its label, or its strategy where no other row has that), an installed strategy as it comes,
or `model` (one network of the run, and nothing else). A need is the most that counts in the named
accounting over the whole stream, and the exemplars' bytes. So `expandable-der+2000ex` in the survey's
accounting is its memory-aligned setting.
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
from ..runs.spec import RunSpec, settled_backbone
from ..simulator.assembly import make_strategy, problem_of
from ..strategy import Strategy
from .prepare import Prepared
from .rows import parse_backbone

_MODEL = "model"  # a network alone, as whoever keeps nothing else holds it
_NEED = re.compile(r"(?P<name>[^+].*?)(?:\+(?P<exemplars>\d+)ex)?")


@dataclass(frozen=True)
class Need:
    """What a strategy counts for beside exemplars, and what one exemplar costs it.

    first_bytes: what it counts for in the first experience; most_bytes: the most of the whole stream.
    exemplar_bytes: of one exemplar (0: it keeps none); replay_bytes: of one as plain replay holds it.
    least_exemplars: how many it must have. parameters: of its network now.
    """

    first_bytes: int
    most_bytes: int
    exemplar_bytes: int
    replay_bytes: int
    least_exemplars: int
    parameters: int

    def buys(self, budget: Budget) -> tuple[int, int]:
        """Exemplars that a budget buys it in the first experience and in the last."""
        if not self.exemplar_bytes:
            return 0, 0
        if budget.bytes is None:
            count = 500 if budget.exemplars is None else budget.exemplars
            return count, count
        left = [max(0, budget.bytes - counted) for counted in (self.first_bytes, self.most_bytes)]
        return left[0] // self.exemplar_bytes, left[1] // self.exemplar_bytes

    @property
    def total(self) -> int:
        """Bytes below which it cannot work."""
        return self.most_bytes + self.least_exemplars * self.exemplar_bytes


def need_of(prepared: Prepared, spec: RunSpec) -> Need:
    """The need of a spec's strategy, from one made for it; raises StreamlabError where it cannot be made."""
    plan, shape = prepared.plans[spec.plan_seed], prepared.source.image_shape
    cls = Strategy if spec.strategy == _MODEL else prepared.classes.get(spec.strategy)
    problem = problem_of(plan, shape, PixelStatistics(0.5, 0.25))
    made = make_strategy(dataclasses.replace(spec, device="cpu"), problem, cls)
    count = len(plan.experiences) if isinstance(plan, StreamPlan) else 1
    sizes = made.account.exemplar_sizes(spec.budget)
    first, last = made.account.bytes_needed(spec.budget), made.account.bytes_needed(spec.budget, count)
    exemplar = ReservoirBuffer(shape, torch.device("cpu"), 0)
    survey = spec.budget.accounting == "survey"
    return Need(
        first_bytes=first,
        most_bytes=max(first, last),
        exemplar_bytes=sum(sizes) // len(sizes) if sizes else 0,
        replay_bytes=exemplar.pixel_bytes if survey else exemplar.exemplar_bytes,
        least_exemplars=made.needs.exemplars_per_class * plan.num_classes * len(sizes),
        parameters=made.account.ledger().parameters,
    )


def resolve(
    text: str, rows: Mapping[str, RunSpec], need: Callable[[RunSpec], Need], backbone: Mapping[str, Any]
) -> Budget:
    """A budget as it was asked for in bytes or exemplars, counted as the rows' specs say.

    rows: the comparison's rows by label, one spec of each. backbone: what was asked for of all of them, which
    `model` and a strategy that is no row have too. Raises StreamlabError for what it does not mean.
    """
    any_row = next(iter(rows.values()))
    try:
        parsed = parse_budget(text)
        return dataclasses.replace(any_row.budget, bytes=parsed.bytes, exemplars=parsed.exemplars)
    except StreamlabError as error:
        match = _NEED.fullmatch(text.strip())
        if match is None:
            raise
        name = match["name"]
        spec = rows.get(name) or _only(name, rows)
        known = (_MODEL, *rows, *plugin_names("strategies"))
        if spec is None and name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StreamlabError(f"{error}, or what a strategy needs, as model+500ex{hint}") from None
    if spec is None:
        asked = settled_backbone(backbone)
        spec = dataclasses.replace(any_row, strategy=name, label=name, backbone=asked, strategy_options={})
    needed = need(spec)
    exemplars = max(int(match["exemplars"] or 0), needed.least_exemplars)
    count = needed.most_bytes + exemplars * (needed.exemplar_bytes or needed.replay_bytes)
    return dataclasses.replace(any_row.budget, bytes=count)


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
    """The spec at this budget, with the largest network that fits: its own, or the first of `smaller`.

    asked: the budget as it was asked for. Raises StreamlabError, with what it needs, where none fits.
    """
    spec = dataclasses.replace(spec, budget=budget)
    if budget.bytes is None:
        return spec
    needed = need(spec)
    if needed.total <= budget.bytes:
        return spec
    for text in smaller:
        backbone = settled_backbone(parse_backbone(text))
        other = dataclasses.replace(spec, backbone=backbone)
        if need(other).total <= budget.bytes:
            return other
    least = needed.least_exemplars
    beside = f" and the {least} exemplars that it must have" if least else ""
    named = "" if asked[-1] in "Bb" or asked.isdigit() else f" ({asked})"
    tried = ", nor does any of the smaller networks" if smaller else "; --smaller names smaller networks"
    raise StreamlabError(
        f"{spec.label}: it needs {readable_bytes(needed.total)} for its own state{beside}, which the budget "
        f"of {budget}{named} does not hold{tried}"
    )
