"""Makers of what tests need: a tiny source, idx files, and a simulation without a folder."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from streamlab.data.idx import IDX_FILES
from streamlab.data.source import Source, open_shared, share
from streamlab.experiments.engines import run_grid
from streamlab.experiments.grid import Grid, prepare_grid
from streamlab.experiments.layout import hold, settle, write_experiment
from streamlab.experiments.request import Request
from streamlab.simulator import events
from streamlab.simulator.assembly import build
from streamlab.simulator.execute import deterministic, drive, execute
from streamlab.simulator.stream_simulation import StreamSimulation
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


def write_cifar(folder: Path, files: dict[str, int], heads: int, classes: int, seed: int = 0) -> None:
    """CIFAR's binary format: `heads` label bytes (the last is the class) and 3,072 pixels a record."""
    draws = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for name, count in files.items():
        labels = np.arange(count) % classes
        coarse = [labels[:, None] % 20] * (heads - 1)
        records = np.hstack([*coarse, labels[:, None], draws.integers(0, 256, (count, 3072))])
        (folder / name).write_bytes(records.astype(np.uint8).tobytes())


def write_tiny_imagenet(folder: Path, classes: int = 200, count: int = 2, seed: int = 0) -> None:
    """Tiny ImageNet's archive as it is unpacked: lists, training pictures by class, validation ones together."""
    draws, names = np.random.default_rng(seed), [f"n{number:08}" for number in range(classes)]

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)

    for name in names:
        for number in range(count):
            write(folder / "train" / name / "images" / f"{name}_{number}.JPEG")
    lines = []
    for number, name in enumerate(reversed(names)):
        write(folder / "val" / "images" / f"val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("".join(f"{name}\n" for name in names))


def write_pictures(folder: Path, classes: int = 3, count: int = 5, size: int = 8, seed: int = 0) -> None:
    """A folder of grey PNG files, a sub-folder a class."""
    draws = np.random.default_rng(seed)
    for number in range(classes):
        (folder / f"class-{number}").mkdir(parents=True)
        for picture in range(count):
            pixels = draws.integers(0, 256, (size, size)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class-{number}" / f"{picture}.png")


def write_every_source(folder: Path) -> None:
    """A data folder in `folder`/data with a small set in every format, and `pictures` and `mine.npz` beside it."""
    data, source = folder / "data", make_source(classes=10, train=12, test=4, size=12)
    for place in ("fashion-mnist", "mnist", "torchvision/KMNIST/raw"):
        target = data / place
        target.mkdir(parents=True)
        parts = (source.train_images[:, 0], source.train_labels, source.test_images[:, 0], source.test_labels)
        for name, array in zip(IDX_FILES, parts, strict=True):
            write_idx(target / name, array)
    ten = {f"data_batch_{number}.bin": 20 for number in range(1, 6)} | {"test_batch.bin": 20}
    write_cifar(data / "cifar-10", ten, 1, 10)
    write_cifar(data / "cifar-100", {"train.bin": 200, "test.bin": 100}, 2, 100)
    write_tiny_imagenet(data / "tiny-imagenet", classes=10, count=4)
    write_pictures(folder / "pictures")
    np.savez(
        folder / "mine.npz", x_train=source.train_images[:, 0], y_train=source.train_labels,
        x_test=source.test_images[:, 0], y_test=source.test_labels,
    )  # fmt: skip


def resolved(source: Source, *strategies: str | type[Strategy], **request: Any) -> Grid:
    """Strategies on a source in memory, with one seed unless told otherwise; scenario, budget: just one."""
    for one, many in (("scenario", "scenarios"), ("budget", "budgets")):
        if one in request:
            request[many] = (request.pop(one),)
    named = tuple(name for name in strategies if isinstance(name, str))
    classes = tuple(cls for cls in strategies if not isinstance(cls, str))
    asked = Request(**{"source": source.name, "strategies": named, "seeds": 1, "workers": 0, **request})
    return prepare_grid(asked, {source.name: source}, classes)


def laid_out(grid: Grid, out: Path) -> None:
    """The grid's folders, as before anything is run."""
    with hold(out):
        write_experiment(grid, out)
        settle(grid, out)


def broken_off(grid: Grid, out: Path, after: int) -> None:
    """Run in this process, and stop like a kill after this many checkpoints."""
    laid_out(grid, out)
    count = 0

    def hear(event: events.Event) -> None:
        nonlocal count
        count += isinstance(event, events.CheckpointWritten)
        if count == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(out / grid.cells[0].folder, share(grid.cells[0].source), hear)


def carry_on(grid: Grid, out: Path) -> bool:
    """Run what is left of a grid in a folder, as a command does; whether all is complete then."""
    with hold(out):
        write_experiment(grid, out)
        settle(grid, out)
        return run_grid(grid, out, lambda cell, event: None)


def simulate(
    source: Source,
    strategy: str | type[Strategy],
    hear: Callable[[events.Event], None] = lambda event: None,
    **request: Any,
) -> StreamSimulation:
    """One run to its end, in this process and with nothing on disk."""
    (cell,) = resolved(source, strategy, **request).cells
    shared = open_shared(share(source))
    with deterministic():
        simulation = build(cell.spec, cell.plan, shared, hear, None, cell.strategy)
        drive(simulation)
    return simulation


def bits(folder: Path) -> dict[str, Any]:
    """Everything of a finished run that must not depend on kills; times and peaks aside."""
    result = json.loads((folder / "result.json").read_text())
    for name in ("resources", "seals", "seal"):  # the log and run.json hold times
        result.pop(name)
    timed = {"train_seconds", "evaluation_seconds", "resources"}
    log = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    predictions = {p.name: p.read_bytes() for p in sorted((folder / "evaluations").iterdir())}
    return {
        "result": result,
        "events": [{k: v for k, v in event.items() if k not in timed} for event in log],
        "predictions": predictions,
    }


def all_bits(out: Path, grid: Grid) -> dict[str, Any]:
    return {cell.folder: bits(out / cell.folder) for cell in grid.cells}
