"""Files that no kill can spoil, folders that one process holds, and the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import CorruptFile, StreamlabError


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically and durably."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> str:
    """Replace a file atomically and durably; after a failure the file before stands. Returns its SHA-256."""
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
    return hashlib.sha256(content).hexdigest()


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
    except OSError as error:
        raise StreamlabError(f"{folder} cannot be held: {folder / '.lock'}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def read_arrays(path: Path, what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON under `what` in a file's metadata, and its numpy arrays by name; raises CorruptFile."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            names = list(file.keys())  # the file itself cannot be iterated
            return json.loads(file.metadata()[what]), {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{path} is not a saved {what}: {error}") from None


def cache_folder() -> Path:
    """streamlab's folder in the user's cache (XDG_CACHE_HOME, else ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamlab"
