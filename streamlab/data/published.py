"""A source of fixed, published content: how it is read, what it holds, where it can be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import StreamlabError
from .fetch import Download, fetch
from .progress import Progress
from .source import Source


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What `streamlab data` tells of a source without reading it.

    classes, train, test (0: not known), shape (C, H, W): what it holds. folder: its own below the data
    folder; a bundled source's whole path. files: what must lie in it, files or folders.
    """

    classes: int
    train: int
    test: int
    shape: tuple[int, int, int]
    folder: str
    files: tuple[str, ...]

    def found(self, data: Path) -> list[Path]:
        """What must be there where all of it is, else nothing."""
        there = [data / self.folder / file for file in self.files]
        return there if all(path.exists() for path in there) else []


@dataclass(frozen=True, kw_only=True)
class Published(Listed):
    """A source plugin that is fetched.

    load: reads it from the data folder. files: each plain or with .gz.
    """

    load: Callable[[Path], Source]
    downloads: tuple[Download, ...] = ()

    def __call__(self, data: Path) -> Source:
        return self.load(data)

    def found(self, data: Path) -> list[Path]:
        """Its files where all are there, else none."""
        there = [_plain_or_zipped(data / self.folder / name) for name in self.files]
        return [path for path in there if path is not None] if None not in there else []

    def fetch(self, data: Path, progress: Progress) -> None:
        """Download what is missing; raises StreamlabError where there is nowhere to have it from."""
        if self.found(data):
            return
        if not self.downloads:
            raise StreamlabError("it is bundled; there is nothing to fetch")
        for download in self.downloads:
            fetch(download, data / self.folder, progress)


def _plain_or_zipped(path: Path) -> Path | None:
    zipped = path.with_name(path.name + ".gz")
    return path if path.is_file() else zipped if zipped.is_file() else None
