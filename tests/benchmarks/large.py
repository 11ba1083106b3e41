"""A set larger than memory: what a run on 8 GiB of pictures holds, and how long a step waits for them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE, CLASSES = 224, 20
GIB = 1 << 30
SIZES = (1, 8)  # GiB of training pictures
STEPS = 6


def make(folder: Path, gib: int) -> None:
    """Array files of noise: `gib` GiB to train on, 20 pictures to test."""
    draws = np.random.default_rng(0)
    for split, count in (("train", gib * GIB // (3 * SIDE * SIDE)), ("test", CLASSES)):
        file = np.lib.format.open_memmap(
            folder / f"{split}.npy", mode="w+", dtype=np.uint8, shape=(count, 3, SIDE, SIDE)
        )
        tile = draws.integers(0, 256, (256, 3, SIDE, SIDE), dtype=np.uint8)
        for start in range(0, count, 256):
            part = tile[: min(256, count - start)]
            file[start : start + len(part)] = part
            file[start : start + len(part), 0, 0, 0] = np.arange(len(part))
        file.flush()


def run(folder: Path) -> None:
    """Every picture of the set goes through a run once; prints the worker's peak memory."""
    import streamlab

    arrays = {split: np.load(folder / f"{split}.npy", mmap_mode="r") for split in ("train", "test")}
    labels = {split: np.arange(len(images)) % CLASSES for split, images in arrays.items()}
    source = streamlab.Source(
        "made", tuple(f"class {n}" for n in range(CLASSES)), arrays["train"], labels["train"], arrays["test"],
        labels["test"],
    )  # fmt: skip
    made = streamlab.run(
        "class-incremental", source, ["ncm"], seeds=1, workers=1, out=folder / "out", show=False,
        settings={"preprocess": {"resize": 28}}, eval_every=10**9,
    )  # fmt: skip
    (one,) = made.runs
    print(json.dumps({"peak": one.result["resources"]["peak_memory_bytes"], "failure": one.failure}))


def wait(folder: Path) -> None:
    """Steps of a ViT-tiny on one core, its pictures read cold from the disk: seconds of step and of waiting."""
    import timm
    import torch

    from streamlab.data.rows import FileRows

    torch.set_num_threads(1)
    images = np.load(folder / "train.npy", mmap_mode="r")
    rows = FileRows([images], torch.device("cpu"))
    net = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(images))[: 10 * (STEPS + 1)])
    batches = list(torch.split(order, 10))
    handle = os.open(folder / "train.npy", os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    rows.ahead(batches[0])
    waits, steps = [], []
    for number in range(STEPS):
        began = time.perf_counter()
        taken = rows.at(batches[number])
        rows.ahead(batches[number + 1])
        ready = time.perf_counter()
        loss = net(taken.float() / 255).logsumexp(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        waits.append(ready - began)
        steps.append(time.perf_counter() - ready)
    print(json.dumps({"wait": statistics.median(waits[1:]), "step": statistics.median(steps[1:])}))


def _child(what: str, folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, what, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def section() -> list[str]:
    """Peak memory of a run on a small and a large set, and the share of a step that waits."""
    lines = [
        "## A set larger than memory",
        "",
        f"Made pictures of {SIDE}x{SIDE} in array files, each through a run of `ncm` once; the peak is the worker's own, of",
        "which torch, imported, is the larger part. Up to 1 GiB files are mapped: their pages count here, but are shared by all",
        "workers; larger ones are read a batch at a time.",
        "",
        "| pictures | peak memory of the worker |",
        "| ---: | ---: |",
    ]
    for gib in SIZES:
        with tempfile.TemporaryDirectory(prefix="streamlab-large") as place:
            folder = Path(place)
            make(folder, gib)
            peak = _child("run", folder)["peak"]
            lines.append(f"| {gib} GiB | {peak / 2**20:,.0f} MiB |")
            print(lines[-1], file=sys.stderr)
            if gib == SIZES[-1]:
                found = _child("wait", folder)
    share = found["wait"] / (found["wait"] + found["step"])
    lines += [
        "",
        f"A step of a ViT-tiny (10 pictures, one core) takes {1000 * found['step']:.0f} ms and waits "
        f"{1000 * found['wait']:.2f} ms, {100 * share:.2f} %, for pictures",
        "that are read in random order from a file that no cache holds, while the step before is computed.",
        "",
    ]
    return lines


if __name__ == "__main__":
    {"run": run, "wait": wait}[sys.argv[1]](Path(sys.argv[2]))
