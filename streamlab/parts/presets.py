"""Options that a preset fills in: which of several published codes a method follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    D = TypeVar("D", bound=DataclassInstance)


def settled(details: type[D], preset: Mapping[str, Any], options: DataclassInstance) -> D:
    """The details that an options dataclass asks for: its own where they are given, else the preset's.

    Of the options, those fields are read that `details` has too; None means the preset's.
    """
    names = [field.name for field in dataclasses.fields(details)]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return details(**{**preset, **given})
