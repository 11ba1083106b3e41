"""How hyperparameters are chosen (`--protocol`): what trials see, and what is left to be judged by.

A method that needs the streams it is judged on to be tuned is not a method; each protocol says what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..data.names import several
from ..errors import StreamlabError, unknown

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


def check_protocol(protocol: str, tune: int, seeds: int, plan_seed: int | None) -> None:
    """Raise StreamlabError where a protocol is unknown, or has nothing to choose, or no stream for it.

    tune: trials of each strategy; plan_seed: of the one stream of all seeds, where there is one.
    """
    name, tasks = _parts(protocol)
    if name == "validation":
        return
    if not tune:
        raise StreamlabError(f"compare: protocol {name} says how to tune; ask for trials by --tune")
    if name == "first-tasks" and plan_seed is None and seeds > 1:
        raise StreamlabError(
            "compare: the first tasks of one stream are other seeds' last ones; give all seeds one stream "
            "by --plan-seed"
        )
    if tasks < 1:
        raise StreamlabError(f"compare: protocol is {protocol!r}, and should be first-tasks:3")


def of_report(protocol: str, source: str) -> tuple[str, Mapping[str, str]]:
    """What is reported, less what trials may see: the source by name, and options of the scenario."""
    name, tasks = _parts(protocol)
    if name == "two-phase":
        return _share("evaluation", source), {}
    return source, {"part": f"after:{tasks}"} if name == "first-tasks" else {}


def of_trials(protocol: str, source: str) -> tuple[str, Mapping[str, str]]:
    """What trials run on: the source by name, and options of the scenario."""
    name, tasks = _parts(protocol)
    if name in ("validation", "two-phase"):
        return _share("validation" if name == "validation" else "validation:tuning", source), {}
    return source, {"part": f"first:{tasks}"} if name == "first-tasks" else {}


def on_reported_plans(protocol: str) -> bool:
    """Whether trials run on the plans that are reported, or on parts of them."""
    return _parts(protocol)[0] in ("first-tasks", "oracle")


def told(protocol: str) -> str:
    """What a report says of a protocol."""
    return PROTOCOLS[protocol.partition(":")[0]]


def _parts(protocol: str) -> tuple[str, int]:
    name, colon, tasks = protocol.partition(":")
    if name not in PROTOCOLS or (colon and (name != "first-tasks" or not tasks.isdigit())):
        raise unknown("protocol", protocol, PROTOCOLS)
    return name, int(tasks) if colon else _TASKS


def _share(kind: str, source: str) -> str:
    """A share of each source that is joined: `validation:tuning:mnist+validation:tuning:glyphs-100`."""
    return "+".join(f"{kind}:{name}" for name in several(source))
