"""Files that no kill can spoil, and folders that one process holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import StreamlabError


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically and durably."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically and durably; after a failure the file before stands."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there, nor need it be
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder for one process; the operating system lets go of it when the process dies.

    Raises StreamlabError where another has it, unless told to wait.
    """
    lock = FileLock(folder / ".lock", timeout=-1 if wait else 0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise StreamlabError(
            f"{folder} is in use by another streamlab command; wait for it, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()
