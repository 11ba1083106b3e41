"""How sources are named: the plugin, what it is to read, and several joined."""

from __future__ import annotations

import re

from .. import plugins


def plugin_of(name: str) -> str:
    """The plugin's name in `mnist`, `folder:PATH@32` or `cub200@256,224`."""
    return re.split("[:@]", name, maxsplit=1)[0]


def several(name: str) -> list[str]:
    """`glyphs-100+mnist` as its sources; what stands after a colon may hold a plus of its own."""
    known = plugins.names("sources")
    parts: list[str] = []
    for part in name.split("+"):
        if parts and plugin_of(part) not in known and ":" in parts[-1]:
            parts[-1] += f"+{part}"
        else:
            parts.append(part)
    return parts
