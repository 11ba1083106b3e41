"""What streamlab keeps in the user's cache, and its removal.

All of it is made again where it is needed: decoded pictures, arrays that workers share, base sessions,
features of frozen backbones. Downloads lie there too, and are no part of this.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .files import cache_folder

KINDS = {
    "base": "trained base sessions",
    "decoded": "decoded pictures",
    "features": "features of frozen backbones",
    "shared": "arrays that workers share",
}
"""Folders of the cache, and what is in them."""

_DAY = 86400.0


@dataclass(frozen=True)
class Kept:
    """One thing that is kept: a file or a folder. sizes: inode -> bytes; used: seconds since 1970."""

    kind: str
    path: Path
    sizes: dict[int, int]
    used: float


def touch(path: Path) -> None:
    """Say that it is used now, so that it is among the last to go."""
    try:
        os.utime(path)
    except OSError:
        return  # of another user, or gone: it is read as it is


def kept() -> list[Kept]:
    """All that is kept, least recently used first."""
    found = []
    for kind in KINDS:
        folder = cache_folder() / kind
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name.startswith("."):
                continue
            inside = [path, *path.rglob("*")] if path.is_dir() else [path]
            about = [one.stat() for one in inside if one.is_file()]
            found.append(Kept(kind, path, {one.st_ino: one.st_size for one in about}, path.stat().st_mtime))
    return sorted(found, key=lambda one: one.used)


def bytes_of(things: Iterable[Kept]) -> int:
    """What they take together; a file under two names (decoded pictures that are shared) counts once."""
    sizes: dict[int, int] = {}
    for one in things:
        sizes.update(one.sizes)
    return sum(sizes.values())


def prune(most: int) -> list[Kept]:
    """Remove what was least recently used until at most so many bytes are left; returns what went.

    What was used within a day stays: a run may be about to read it.
    """
    left, gone = kept(), []
    recent = time.time() - _DAY
    while left and bytes_of(left) > most and left[0].used < recent:
        oldest = left.pop(0)
        if oldest.path.is_dir():
            shutil.rmtree(oldest.path, ignore_errors=True)
        else:
            oldest.path.unlink(missing_ok=True)
        gone.append(oldest)
    return gone
