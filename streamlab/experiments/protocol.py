"""How hyperparameters are chosen (`--protocol`): what trials see, and what is left to be judged by.

A method that needs the streams it is judged on to be tuned is not a method; each protocol says what it reads.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..data.names import several
from ..errors import StreamlabError, unknown

if TYPE_CHECKING:
    from .request import AskedScenario, Request

PROTOCOLS = {
    "validation": "On validation images carved from the training split, with seeds and plans of their own; "
    "the test split was not read.",
    "two-phase": "In two phases (Cha and Cho, arXiv 2403.09066): on a fifth of the training images, in class "
    "orders of their own, then frozen; what is reported was learned from the other four fifths.",
    "first-tasks": "On the first tasks of the stream (Chaudhry et al. 2019), which are no part of what is "
    "reported.",
    "oracle": "By an oracle: on the very streams and test images that are reported. It is what a method "
    "reaches where it is told the answer, and no fair estimate.",
}
_TASKS = 3  # as Chaudhry et al. take


def check_protocol(request: Request) -> None:
    """Raise StreamlabError where a protocol is unknown, or has nothing to choose, or no stream for it."""
    name, tasks = _parts(request)
    if request.protocol == "validation":
        return
    if not request.tune:
        raise StreamlabError(f"compare: protocol {name} says how to tune; ask for trials by --tune")
    if name == "first-tasks" and request.plan_seed is None and request.seeds > 1:
        raise StreamlabError(
            "compare: the first tasks of one stream are other seeds' last ones; give all seeds one stream "
            "by --plan-seed"
        )
    if tasks < 1:
        raise StreamlabError(f"compare: protocol is {request.protocol!r}, and should be first-tasks:3")


def judged(asked: AskedScenario, request: Request) -> AskedScenario:
    """The scenario as it is reported: less what trials may see."""
    name, tasks = _parts(request)
    if name == "two-phase":
        return dataclasses.replace(asked, source=_share("evaluation", asked, request))
    if name == "first-tasks":
        return dataclasses.replace(asked, options={**asked.options, "part": f"after:{tasks}"})
    return asked


def of_trials(asked: AskedScenario, request: Request) -> AskedScenario:
    """The scenario that trials run."""
    name, tasks = _parts(request)
    if name == "validation":
        return dataclasses.replace(asked, source=_share("validation", asked, request))
    if name == "two-phase":
        return dataclasses.replace(asked, source=_share("validation:tuning", asked, request))
    if name == "first-tasks":
        return dataclasses.replace(asked, options={**asked.options, "part": f"first:{tasks}"})
    return asked


def own_plans(request: Request) -> bool:
    """Whether trials run on the plans that are reported, or on parts of them."""
    return _parts(request)[0] in ("first-tasks", "oracle")


def told(protocol: str) -> str:
    """What a report says of a protocol."""
    return PROTOCOLS[protocol.partition(":")[0]]


def _parts(request: Request) -> tuple[str, int]:
    name, colon, tasks = request.protocol.partition(":")
    if name not in PROTOCOLS or (colon and (name != "first-tasks" or not tasks.isdigit())):
        raise unknown("protocol", request.protocol, PROTOCOLS)
    return name, int(tasks) if colon else _TASKS


def _share(kind: str, asked: AskedScenario, request: Request) -> str:
    """A share of each source of a scenario: `validation:tuning:mnist+validation:tuning:glyphs-100`."""
    return "+".join(f"{kind}:{name}" for name in several(asked.source or request.source))
