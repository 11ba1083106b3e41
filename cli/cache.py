"""`streamlab cache`: what is kept of earlier runs, and its removal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from streamlab.cached import KINDS, bytes_of, kept, prune
from streamlab.config import parse_budget, readable_bytes
from streamlab.errors import StreamlabError
from streamlab.files import cache_folder


def print_cache() -> None:
    """A line a kind of what is kept: how many, how many bytes, where."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("kept")
    for heading in ("number", "size"):
        table.add_column(heading, justify="right")
    table.add_column("in", no_wrap=True)
    found = kept()
    for kind, about in KINDS.items():
        things = [one for one in found if one.kind == kind]
        table.add_row(about, f"{len(things):,}", readable_bytes(bytes_of(things)), f"CACHE/{kind}")
    table.add_row("together", f"{len(found):,}", readable_bytes(bytes_of(found)), "", style="bold")
    Console().print(table, highlight=False)
    print(f"\nCACHE is {cache_folder()}; XDG_CACHE_HOME names another.")


def prune_cache(keep: str) -> None:
    """Remove until at most so many bytes are left, and say what went."""
    most = parse_budget(keep).bytes
    if most is None:
        raise StreamlabError(f"--keep is {keep!r}, and should be bytes, as 5GiB")
    gone = prune(most)
    print(f"removed {len(gone):,}, {readable_bytes(bytes_of(gone))}\n" if gone else "nothing to remove\n")
