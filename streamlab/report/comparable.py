"""What may stand in one table: refused, with what differs, where unlike would be put beside like.

Two runs of one seed are comparable when their plans, their sources' pixels, their evaluation points, the
way the stream is served and the precision agree; runs of one row also when options, versions, threads and
device do.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..errors import StreamlabError
from ..runs.spec import RunSpec

if TYPE_CHECKING:
    from .panel import Panel, Result


def check_comparable(panel: Panel) -> None:
    """Raise StreamlabError, with what differs, where runs in one table are not comparable."""
    first: dict[int, Result] = {}
    for (_, row), results in panel.results.items():
        _check_make(row, results, lambda result: {**_form(result), "backbone": dict(result.spec.backbone)})
    for row in panel.rows:
        _check_make(row, panel.all_of(row), _form)
        for result in panel.all_of(row):
            check_pair(first.setdefault(result.spec.seed, result), result)


def _check_make(row: str, results: Iterable[Result], form: Callable[[Result], dict[str, Any]]) -> None:
    """Raise StreamlabError where results of one row are of different forms."""
    forms = {json.dumps(form(result), sort_keys=True): result for result in results}
    if len(forms) > 1:
        one, other, *_ = forms.values()
        named = [name for name, value in form(one).items() if form(other)[name] != value]
        raise StreamlabError(
            f"{row}: its runs are of different make ({', '.join(named)}) in {one.folder} and "
            f"{other.folder}; one row holds runs of one make"
        )


def check_pair(one: Result, other: Result) -> None:
    """Raise StreamlabError, with what differs, where two runs of one seed are not comparable."""
    names = _differing(one.spec, other.spec)
    if names:
        raise StreamlabError(
            f"{one.spec.label} ({one.folder}) and {other.spec.label} ({other.folder}) are not comparable: "
            f"with seed {other.spec.seed} they differ in {', '.join(names)}"
        )


def _form(result: Result) -> dict[str, Any]:
    """What a row's runs must share beside the stream; another budget may ask for a smaller network."""
    made, spec = result.about.get("provenance", {}), result.spec
    names = ("packages", "threads", "layout", "sgd")
    return {
        **{name: made.get(name) for name in names},
        "device": spec.device,
        "strategy": spec.strategy,
        "options": dict(spec.strategy_options),
        "optimizer": dataclasses.asdict(spec.optimizer),
        "first": dataclasses.asdict(spec.first),
        "base": dataclasses.asdict(spec.base),
    }


def _differing(one: RunSpec, other: RunSpec) -> list[str]:
    """What makes two runs of one seed incomparable, in words."""
    precisions = [spec.compute.precision for spec in (one, other)]
    checks = {
        f"the plan{_options(one, other)}": one.plan_fingerprint != other.plan_fingerprint,
        "the source's pixels": one.source_digest != other.source_digest,
        "the evaluation points": one.eval_every != other.eval_every,
        "how the stream is served": one.stream != other.stream,
        "how the stream is augmented": one.augment != other.augment,
        "how images are preprocessed": one.preprocess != other.preprocess,
        "the precision": precisions[0] != precisions[1],
    }
    return [name for name, differs in checks.items() if differs]


def _options(one: RunSpec, other: RunSpec) -> str:
    """` (samples_per_class: 4 and 3)`: the scenario's options that differ."""
    mine, its = one.scenario_options, other.scenario_options
    changed = [name for name in {**mine, **its} if mine.get(name) != its.get(name)]
    shown = ", ".join(
        f"{name}: {mine.get(name, 'not set')} and {its.get(name, 'not set')}" for name in changed
    )
    return f" ({shown})" if changed else ""
