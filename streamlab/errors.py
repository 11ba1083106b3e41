"""The mistakes that a person can mend, each told in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 1000  # letters of a sentence


class StreamlabError(Exception):
    """A user's or a plugin's mistake: what is wrong, where, and what would be right.

    Told in one line: what does not print is escaped, and the middle of a very long sentence left out.
    """

    def __init__(self, sentence: str) -> None:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(sentence.split("\n")))
        if len(line) > _LONGEST:
            line = f"{line[: _LONGEST - 300]} … {line[-290:]}"
        super().__init__(line)


class BudgetExceeded(StreamlabError):
    """A strategy holds more bytes than its budget allows."""


class CorruptFile(StreamlabError):
    """A file that streamlab wrote or was given is not what it claims to be."""


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> StreamlabError:
    """The error for a name that is not known, with the nearest one that is."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5) or [
        candidate for candidate in names if sorted(candidate) == sorted(name)
    ]
    advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return StreamlabError(f"unknown {kind} {name!r}; {advice}" + (f" ({hint})" if hint else ""))
