"""Reads what plans and evaluations are saved as: arrays in a safetensors file, and JSON in its metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import CorruptFile


def read_arrays(path: Path, what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON under `what` in a file's metadata, and its numpy arrays by name; raises CorruptFile."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            names = list(file.keys())  # the file itself cannot be iterated
            return json.loads(file.metadata()[what]), {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{path} is not a saved {what}: {error}") from None
