"""Makers of what tests need: a tiny source, idx files, and a simulation without a folder."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamlab.data.source import Source, open_shared, share
from streamlab.runs.experiment import Request, prepare
from streamlab.simulator import events
from streamlab.simulator.execute import build, deterministic, drive
from streamlab.simulator.simulation import Simulation
from streamlab.strategy import Strategy

VECTORS = Path(os.environ.get("STREAMLAB_VECTORS", Path(__file__).parent / "vectors"))


def make_source(
    classes: int = 6, train: int = 40, test: int = 10, size: int = 8, seed: int = 0, contrast: int = 128
) -> Source:
    """Classes that differ in a random pattern, under noise; the less contrast, the harder."""
    draws = np.random.default_rng(seed)
    patterns = draws.integers(128 - contrast, 128 + contrast, (classes, 1, size, size))

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = draws.permutation(np.repeat(np.arange(classes), count))
        noise = draws.normal(0, 60, (len(labels), 1, size, size))
        return np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8), labels.astype(np.int64)

    images, labels = split(train)
    test_images, test_labels = split(test)
    names = tuple(f"class {number}" for number in range(classes))
    return Source("tiny", names, images, labels, test_images, test_labels)


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def simulate(
    source: Source,
    strategy: str | type[Strategy],
    hear: Callable[[events.Event], None] = lambda event: None,
    **request: Any,
) -> Simulation:
    """One run to its end, in this process and with nothing on disk."""
    named = (strategy,) if isinstance(strategy, str) else ()
    classes = () if isinstance(strategy, str) else (strategy,)
    experiment = prepare(Request(**{"strategies": named, "seeds": 1, **request}), source, classes)
    spec = experiment.specs[0]
    shared = open_shared(share(source))
    with deterministic():
        cls = experiment.classes.get(spec.strategy)
        simulation = build(spec, experiment.plans[spec.plan_seed], shared, hear, None, cls)
        drive(simulation)
    return simulation
