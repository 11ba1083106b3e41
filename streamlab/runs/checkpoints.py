"""Checkpoints in a folder: the last two, sealed, so that a kill at any instant leaves one whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """A state that work can go on from."""

    state: Any
    progress: Mapping[str, Any]
    tensors: dict[str, Tensor]


def patience(cost: float = 0.0) -> float:
    """Seconds until the next checkpoint, after one that took `cost`: at least one, and 3 % of the time.

    The variable decides alone; it is for tests that cannot wait, whatever the disk.
    """
    given = os.environ.get("STREAMLAB_CHECKPOINT_SECONDS")
    return float(given) if given is not None else max(1.0, 33 * cost)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under the older one's number, so that the newer one stays."""
    from safetensors.torch import save

    numbers = sorted(_numbers(folder))
    number = numbers[-1] + 1 if numbers else 1
    tensors = save(checkpoint.tensors) if checkpoint.tensors else b""
    text = json.dumps({"state": checkpoint.state, "progress": checkpoint.progress})
    seal = hashlib.sha256(text.encode() + hashlib.sha256(tensors).digest()).hexdigest()
    write_bytes(folder / f"checkpoint-{number:08}.safetensors", tensors)
    write_bytes(folder / f"checkpoint-{number:08}.json", json.dumps({"seal": seal, "body": text}).encode())
    for old in numbers[:-1]:
        for path in folder.glob(f"checkpoint-{old:08}.*"):
            path.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; None where there is none."""
    return next(checkpoints(folder), None)


def checkpoints(folder: Path) -> Iterator[Checkpoint]:
    """The whole checkpoints, the newest first; damaged ones are noticed by their seal and passed over."""
    from safetensors.torch import load

    for number in sorted(_numbers(folder), reverse=True):
        try:
            sealed = json.loads((folder / f"checkpoint-{number:08}.json").read_bytes())
            content = (folder / f"checkpoint-{number:08}.safetensors").read_bytes()
            text = sealed["body"]
            digest = hashlib.sha256(text.encode() + hashlib.sha256(content).digest())
            if digest.hexdigest() != sealed["seal"]:
                continue
            body = json.loads(text)
            tensors = load(content) if content else {}
            found = Checkpoint(body["state"], body["progress"], tensors)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        yield found


def remove_checkpoints(folder: Path) -> None:
    """Remove all of a folder's checkpoints: what they led to is there."""
    for path in folder.glob("checkpoint-*"):
        path.unlink()


def _numbers(folder: Path) -> list[int]:
    return [int(path.stem.split("-")[1]) for path in folder.glob("checkpoint-????????.json")]
