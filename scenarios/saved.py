"""A stream plan that lies in a file: one that was saved, or came from another library."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from streamlab.errors import StreamlabError
from streamlab.stream import Labels, StreamPlan


@dataclass(frozen=True)
class Saved:
    """plan: the file that StreamPlan.save wrote; every seed then has this stream."""

    plan_file: str = ""

    name: ClassVar[str] = "saved"

    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        """The plan in the file; raises StreamlabError where it is none, or not of a source like this."""
        if not self.plan_file:
            raise StreamlabError("saved: say which file (scenario.plan_file=my-plan.safetensors)")
        plan = StreamPlan.load(Path(self.plan_file))
        most = max(int(experience.indices.max(initial=-1)) for experience in plan.experiences)
        judged = max(int(experience.test_indices.max(initial=-1)) for experience in plan.experiences)
        counts = len(labels.train), len(labels.test)
        if plan.num_classes != labels.num_classes or (not plan.transforms and (most, judged) >= counts):
            raise StreamlabError(
                f"saved: {self.plan_file} is of {plan.num_classes} classes and samples up to {most} and "
                f"{judged}; the source has {labels.num_classes} classes, {counts[0]} and {counts[1]} samples"
            )
        return dataclasses.replace(plan, scenario=self.name, options={"plan_file": self.plan_file})
