"""Makes a plan: a scenario on labels, with the options that every scenario takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import plugins
from .config import configure
from .errors import StreamlabError, unknown
from .noise import Noise
from .plans.episodes import EpisodePlan
from .plans.stream import Experience, Labels, Plan, Scenario, labels_at
from .stream_options import Corruption, Distribution, Part, Subgroups

if TYPE_CHECKING:
    from numpy.typing import NDArray


def make_plan(scenario: str, labels: Labels, seed: int, options: Mapping[str, Any]) -> Plan:
    """The plan that an installed scenario makes of these labels and this seed.

    options: the scenario's, and those of `Distribution`, `Corruption`, `Noise`, `Part` and `Subgroups`.
    Raises StreamlabError for an unknown scenario, an unknown or mistyped option, or options that the labels
    cannot meet.
    """
    plugin = plugins.load("scenarios", scenario)
    parts = [_names(part) for part in (Distribution, Corruption, Noise, Part, Subgroups, plugin)]
    known = set().union(*parts)
    for name in options:
        if name not in known:
            raise unknown(f"option of {scenario}", name, known)
    given = [{name: value for name, value in options.items() if name in part} for part in parts]
    shape, corruption = configure(Distribution, given[0], scenario), configure(Corruption, given[1], scenario)
    noise = configure(Noise, given[2], scenario)
    part = configure(Part, given[3], scenario)
    subgroups = configure(Subgroups, given[4], scenario)
    chosen: Scenario = configure(plugin, given[5], scenario)
    if shape == Distribution():
        plan = chosen.plan(labels, seed)
    else:
        kept = shape.keep(labels.train, labels.num_classes, seed)
        plan = _spread(chosen.plan(labels.only(kept), seed), kept, labels)
        plan = dataclasses.replace(plan, options={**plan.options, **dataclasses.asdict(shape)})
    if isinstance(plan, EpisodePlan):
        if corruption.environment:
            raise StreamlabError(f"{scenario}: environment is of streams; set scenario.environments")
        asked = {
            "part": part.part, "noise": noise.noise != "none", "subgroups": subgroups.subgroups,
            "imbalance_over": shape.imbalance_over == "tasks",
        }  # fmt: skip
        for name in filter(asked.__getitem__, asked):
            raise StreamlabError(f"{scenario}: {name} is of streams, and these are episodes")
        return plan
    plan = shape.of_tasks(plan, labels.train)
    plan = part.applied(plan, labels.train)
    plan = noise.applied(plan, labels.train)
    plan = corruption.applied(plan, len(labels.test))
    plan = subgroups.applied(plan, labels)
    _, place = plan._test_owners
    if len(place) != len(np.unique(place)):
        raise StreamlabError(f"scenario {scenario} judges two experiences on one test sample")
    counts = np.bincount(labels_at(labels.train, plan.stream), minlength=plan.num_classes)
    return dataclasses.replace(plan, class_counts=tuple(counts.tolist()))


def _names(options: type) -> set[str]:
    return {field.name for field in dataclasses.fields(options)}


def _spread(plan: Plan, kept: NDArray[np.int64], labels: Labels) -> Plan:
    """A plan over the kept samples as the same plan over the whole split."""
    size = len(labels.train)
    if isinstance(plan, EpisodePlan):
        return plan.placed(np.concatenate([kept, size + np.arange(len(labels.test))]))

    def whole(experience: Experience) -> Experience:
        transform, row = np.divmod(experience.indices, len(kept))
        return dataclasses.replace(experience, indices=transform * size + kept[row])

    return dataclasses.replace(plan, experiences=tuple(map(whole, plan.experiences)))
