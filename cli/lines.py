"""Lines that fit the terminal; where there is none they are left whole, for other programs to read."""

from __future__ import annotations

import shutil
import sys
import textwrap


def hanging(head: str, text: str) -> str:
    """`head` and a text after it, wrapped to the terminal under the text's own first column."""
    if not sys.stdout.isatty():
        return head + text
    width = max(40, shutil.get_terminal_size().columns)
    wrapped = textwrap.wrap(text, width - len(head), break_long_words=False) or [""]
    return head + ("\n" + " " * len(head)).join(wrapped)


def readable_seconds(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
