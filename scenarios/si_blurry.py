"""Stochastic blurry class-incremental stream (Si-Blurry, Moon et al., ICCV 2023).

Some classes belong to one task (disjoint), the others are spread (blurry): a share of their
samples turns up in other tasks. Which class and how many samples a task gets is drawn from the
seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from streamlab.plans.stream import Labels, StreamPlan

from .blurry import blurry_plan, check_options

CITATION = """
@inproceedings{moon2023siblurry,
  title = {Online Class Incremental Learning on Stochastic Blurry Task Boundary
           via Mask and Visual Prompt Tuning},
  author = {Moon, Jun-Yeong and Park, Keon-Hee and Kim, Jung Uk and Park, Gyeong-Moon},
  booktitle = {ICCV},
  year = {2023},
}
"""


@dataclass(frozen=True)
class SiBlurry:
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

    name: ClassVar[str] = "si-blurry"
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self)

    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        """The stream for these labels and this seed.

        Raises StreamlabError where there are more tasks than classes.
        """
        return blurry_plan(self, labels, seed)
