"""How a joined source is named."""

from __future__ import annotations

import re

from .. import plugins


def several(name: str) -> list[str]:
    """`glyphs-100+mnist` as its sources; what stands after a colon may hold a plus of its own."""
    known = plugins.names("sources")
    parts: list[str] = []
    for part in name.split("+"):
        if parts and re.split("[:@]", part)[0] not in known and ":" in parts[-1]:
            parts[-1] += f"+{part}"
        else:
            parts.append(part)
    return parts
