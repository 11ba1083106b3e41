"""Seals: what tells that a file of a run is as it was written.

JSON files carry the digest of their own content; a result carries those of every other file of its run, a
checkpoint those of the evaluations and the log until then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CorruptFile
from ..files import write_json

_SEAL = "seal"
_MOST = 1 << 29  # bytes; a result of 1,623 tasks has 22 MB


def digest_of(path: Path, length: int | None = None) -> str:
    """SHA-256 of a file, or of its first bytes; empty where it is missing or shorter."""
    digest, left = hashlib.sha256(), length
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 20 if left is None else min(1 << 20, left)):
                digest.update(part)
                left = None if left is None else left - len(part)
    except OSError:
        return ""
    return "" if left else digest.hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file, its content sealed."""
    plain = json.loads(json.dumps(dict(content)))
    write_json(path, {**plain, _SEAL: _seal(plain)})


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote.

    Raises FileNotFoundError; CorruptFile where it is no JSON, or not as it was written.
    """
    try:
        if path.stat().st_size > _MOST:
            raise CorruptFile(f"{path} has {path.stat().st_size:,} bytes, and is not streamlab's")
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.pop(_SEAL, None)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, AttributeError) as error:
        raise CorruptFile(f"{path} is damaged: {error}") from None
    if found != _seal(content):
        raise CorruptFile(f"{path} is damaged: it is not as it was written")
    plain: dict[str, Any] = content
    return plain


def _seal(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
