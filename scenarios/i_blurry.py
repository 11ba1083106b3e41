"""Blurry class-incremental stream with even tasks (i-Blurry, Koh et al., ICLR 2022).

As si-blurry, but every task gets as many classes, disjoint and blurry alike, and as many of the
samples that move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from streamlab.plans.stream import Labels, StreamPlan

from .blurry import blurry_plan, check_options

CITATION = """
@inproceedings{koh2022iblurry,
  title = {Online Continual Learning on Class Incremental Blurry Task Configuration with Anytime Inference},
  author = {Koh, Hyunseo and Kim, Dahyun and Ha, Jung-Woo and Choi, Jonghyun},
  booktitle = {ICLR},
  year = {2022},
}
"""


@dataclass(frozen=True)
class IBlurry:
    """Options of the stream; the defaults are the paper's setting (T = 5, N = 50, M = 10).

    tasks: T. disjoint_percent: N, percent of classes that belong to one task alone.
    blurry_percent: M, percent of the blurry classes' samples that move between tasks.
    order: "clean" or "reference". boundaries: whether strategies are told where tasks begin.
    """

    tasks: int = 5
    disjoint_percent: int = 50
    blurry_percent: int = 10
    order: Literal["clean", "reference"] = "clean"
    boundaries: Literal["hidden", "shown"] = "hidden"

    name: ClassVar[str] = "i-blurry"
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)

    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        """The stream for these labels and this seed.

        Raises StreamlabError where there are more tasks than classes.
        """
        return blurry_plan(self, labels, seed)
