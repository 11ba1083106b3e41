"""The names of environments: conditions that a camera meets and a clean test set does not show.

Six conditions in five severities each: `low-light:3` names one. What they do to images is in
data/corruption.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import StreamlabError, unknown

CONDITIONS = ("clutter", "small-target", "low-light", "blur", "occlusion", "low-contrast")
SEVERITIES = (1, 2, 3, 4, 5)


def parse_environment(text: str) -> tuple[str, int]:
    """`low-light:3` as (low-light, 3); raises StreamlabError, with the nearest name."""
    name, _, severity = text.partition(":")
    if name not in CONDITIONS:
        raise unknown("environment", name, CONDITIONS)
    if severity not in map(str, SEVERITIES):
        raise StreamlabError(f"environment {text!r}: write {name}:1 to {name}:5, the severity after a colon")
    return name, int(severity)


def every_environment(names: Sequence[str]) -> tuple[str, ...]:
    """`low-light` as its five severities, `low-light:3` as it is, `all` as all thirty; none twice."""
    found: dict[str, None] = {}
    for name in names:
        for condition in CONDITIONS if name == "all" else (name,):
            if ":" in condition:
                parse_environment(condition)
                found[condition] = None
            else:
                found |= {f"{condition}:{severity}": None for severity in SEVERITIES}
                parse_environment(f"{condition}:1")
    return tuple(found)
