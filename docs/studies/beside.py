"""What the studies beside other libraries share: our recipe on the same images, and both accuracies."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from images import arrays
from results import COMMAND, complete_runs, percent
from scipy.stats import ttest_ind

from streamlab.evaluation.intervals import interval

Curves = list[list[float]]  # of each run the accuracies after its tasks, 0..1


@dataclass(frozen=True)
class Pair:
    """A row of ours, and what it is beside: the other library's name, and which of its accuracies."""

    ours: str
    theirs: str
    figure: str


@dataclass(frozen=True)
class Study:
    """folder: of the study, with its recipe, notes.md and theirs.json; count, tested: images of a class."""

    folder: Path
    recipe: str
    library: str
    repository: str
    count: int
    tested: int
    pairs: Sequence[Pair]

    @property
    def runs(self) -> Path:
        """Where ours lie."""
        return Path("runs") / self.folder.name

    def run(self) -> None:
        """The recipe on the study's images, or what is left of it."""
        images, out = (self.runs / "images.npz").resolve(), self.runs / "ours"
        if not images.exists():
            images.parent.mkdir(parents=True, exist_ok=True)
            np.savez(images, **arrays(self.count, self.tested))
        asked = ["run", self.folder / self.recipe, "--source", f"npz:{images}", "--out", out]
        begun = (out / "experiment.json").exists()
        subprocess.run([COMMAND, *map(str, ["resume", out] if begun else asked)], check=True)

    def ours(self, row: str) -> Curves:
        """Of our runs that are complete."""
        found = complete_runs(self.runs / "ours", row)
        return [[one.accuracy for one in run.record.at_task_ends] for run in found]

    def theirs(self, name: str, figure: str) -> Curves:
        """Of theirs that were kept."""
        kept = json.loads((self.folder / "theirs.json").read_text(encoding="utf-8"))["runs"]
        return [[value / 100 for value in one[figure]] for one in kept if one["method"] == name]

    def page(self) -> str:
        """The whole page."""
        commit = json.loads((self.folder / "theirs.json").read_text(encoding="utf-8"))["commit"]
        name = self.folder.name
        return "\n".join(
            [
                f"# Ours and {self.library}'s, on the same images",
                "",
                f"Made by `python docs/studies/{name}/study.py`; do not edit. One recipe of ours",
                f"([{self.recipe}]({name}/{self.recipe})) beside {self.library} by its own code",
                f"([theirs.py]({name}/theirs.py); {self.repository}, commit {commit[:7]}).",
                "",
                (self.folder / "notes.md").read_text(encoding="utf-8"),
                "## Differences",
                "",
                "Percent, mean ± 95 % over seeds; p: Welch's t test, not corrected for so many looks.",
                "",
                *self._differences(),
                "",
                "## After each task",
                "",
                *self._tasks(),
                "",
            ]
        )

    def _differences(self) -> list[str]:
        """A row a pair: the mean over tasks and after the last, ours and theirs, and whether they differ."""
        lines = [
            "| ours | theirs | A_avg, ours | A_avg, theirs | p | A_last, ours | A_last, theirs | p | n |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for pair in self.pairs:
            mine, other = self.ours(pair.ours), self.theirs(pair.theirs, pair.figure)
            if not mine or not other:
                continue
            cells = [f"`{pair.ours}`", f"{pair.theirs}, {pair.figure}"]
            for left, right in (
                ([sum(one) / len(one) for one in mine], [sum(one) / len(one) for one in other]),
                ([one[-1] for one in mine], [one[-1] for one in other]),
            ):
                p_value = ttest_ind(left, right, equal_var=False).pvalue
                cells += [percent(interval(left)), percent(interval(right)), f"{p_value:.3f}"]
            lines.append("| " + " | ".join([*cells, f"{len(mine)}, {len(other)}"]) + " |")
        return lines

    def _tasks(self) -> list[str]:
        """Mean accuracies after each task."""
        lines = ["| | 1 | 2 | 3 | 4 | 5 |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
        told = set[str]()
        for pair in self.pairs:
            both = (
                (f"`{pair.ours}`", self.ours(pair.ours)),
                (f"{pair.theirs}, {self.library}", self.theirs(pair.theirs, pair.figure)),
            )
            for name, found in both:
                if found and name not in told:
                    told.add(name)
                    means = [f"{100 * sum(column) / len(column):.1f}" for column in zip(*found, strict=True)]
                    lines.append(f"| {name} | " + " | ".join(means) + " |")
        return lines
