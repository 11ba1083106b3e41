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
