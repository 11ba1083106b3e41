"""A stream plan that lies in a file: one that was saved, or came from another library."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from streamlab.errors import StreamlabError
from streamlab.plans.episodes import EpisodePlan
from streamlab.plans.stream import Labels, Plan, labels_at, load_plan


def _same_labels(plan: Plan, labels: Labels) -> bool:
    """Whether the samples that a plan names have the classes that it counts them to."""
    if isinstance(plan, EpisodePlan):
        both = np.concatenate([labels.train, labels.test])
        return all(
            np.array_equal(both[phase.samples], np.repeat(phase.classes, phase.sizes))
            for phase in plan.phases.values()
        )
    judged = all(
        np.isin(labels_at(labels.test, experience.test_indices), experience.classes).all()
        for experience in plan.experiences
    )
    counts = np.bincount(labels_at(labels.train, plan.stream), minlength=plan.num_classes)
    return judged and (not plan.class_counts or tuple(counts.tolist()) == plan.class_counts)


@dataclass(frozen=True)
class Saved:
    """plan: the file that StreamPlan.save wrote; every seed then has this stream."""

    plan_file: str = ""

    name: ClassVar[str] = "saved"

    def plan(self, labels: Labels, seed: int) -> Plan:
        """The plan in the file; raises StreamlabError where it is none, or not of these labels."""
        if not self.plan_file:
            raise StreamlabError("saved: say which file (scenario.plan_file=my-plan.safetensors)")
        plan = load_plan(Path(self.plan_file))
        train, test = len(labels.train), len(labels.test)
        if isinstance(plan, EpisodePlan):
            needed, there = (
                int(max(phase.samples.max(initial=-1) for phase in plan.phases.values())) + 1,
                train + test,
            )
            fits = needed <= there
            asked, found = f"{needed} samples", f"{there}"
        else:
            under = max(1, len(plan.transforms))
            most = 1 + max(int(e.indices.max(initial=-1)) for e in plan.experiences)
            judged = 1 + max(int(e.test_indices.max(initial=-1)) for e in plan.experiences)
            fits = most <= train * under and judged <= test * under
            asked, found = f"{most} training and {judged} test samples", f"{train} and {test}"
            if under > 1:
                found += f" under {under} transforms"
        if plan.num_classes != labels.num_classes or not fits:
            raise StreamlabError(
                f"saved: {self.plan_file} is of {plan.num_classes} classes and needs {asked}; the source has "
                f"{labels.num_classes} classes, {found}"
            )
        if not _same_labels(plan, labels):
            raise StreamlabError(
                f"saved: {self.plan_file} was made of other labels: in this source its samples are of other "
                f"classes"
            )
        return dataclasses.replace(plan, scenario=self.name, options={"plan_file": self.plan_file})
