"""What the shell offers when a name is half written."""

from __future__ import annotations

from collections.abc import Callable

from streamlab import plugins


def complete(kind: str) -> Callable[[str], list[str]]:
    """A completer of the installed plugins of one kind."""

    def names(incomplete: str) -> list[str]:
        return [name for name in plugins.names(kind) if name.startswith(incomplete)]

    return names
