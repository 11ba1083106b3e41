"""The same strategy through streamlab, through Avalanche alone, and through the bridge."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from jobs import cells_of
from torch import nn

from streamlab.data.load import load_source
from streamlab.data.source import Source, open_shared, share
from streamlab.interop.avalanche import to_benchmark
from streamlab.interop.avalanche_strategies import quiet
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.simulator.assembly import build
from streamlab.simulator.execute import deterministic, drive

SETTINGS: dict[str, Any] = {
    "scenario": {"kind": "sessions", "tasks": 5, "samples_per_class": 60},
    "stream": {"batch_size": 32, "epochs": 3},
    "optimizer": {"lr": 0.05},
}
ONLINE: dict[str, Any] = {  # every batch an experience of theirs
    "scenario": {"tasks": 5, "samples_per_class": 40},
    "stream": {"batch_size": 10},
    "optimizer": {"lr": 0.05},
}
ROWS = {"er:selection=herding,replay_size=32": "streamlab", "avalanche:Replay": "through the bridge"}


def ours(name: str, source: Source, settings: dict[str, Any]) -> float:
    """Seconds of training and evaluation of one run in this process, by the kernel's own clock."""
    (cell,) = cells_of(source, "class-incremental", name, settings=settings, device="cpu")
    shared = open_shared(share(source))
    with deterministic():
        made: Any = build(cell.spec, cell.plan, shared, lambda event: None, None)
        drive(made)
    return float(made.progress.train_seconds)


def theirs(source: Source, settings: dict[str, Any]) -> float:
    """Seconds of training by Avalanche alone: its Replay on the same benchmark, network and batches."""
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Replay

    plan = cells_of(source, "class-incremental", "er", settings=settings)[0].plan
    stream = settings["stream"]
    benchmark = to_benchmark(plan, source)
    network = build_network({"name": "mlp"}, source.image_shape, 100, PixelStatistics(0.5, 0.2))
    model = nn.Sequential(network.backbone, network.head)
    with deterministic(), quiet():
        strategy = Replay(
            model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.05), criterion=nn.CrossEntropyLoss(),
            mem_size=500, train_mb_size=stream["batch_size"], train_epochs=stream.get("epochs", 1), evaluator=EvaluationPlugin(loggers=[]),
        )  # fmt: skip
        began = time.perf_counter()
        for experience in benchmark.train_stream:
            strategy.train(experience, num_workers=0)
        return time.perf_counter() - began


def section(turns: int = 5) -> list[str]:
    """The page's section."""
    source = load_source("glyphs-100")
    taken: dict[str, list[float]] = {"Avalanche alone": [], **{title: [] for title in ROWS.values()}}
    for _ in range(turns):
        taken["Avalanche alone"].append(theirs(source, SETTINGS))
        for name, title in ROWS.items():
            taken[title].append(ours(name, source, SETTINGS))
    alone = taken["Avalanche alone"]
    lines = [
        "## The bridge to Avalanche",
        "",
        "Replay with 500 exemplars on five sessions of glyphs-100 (6,000 samples, 3 epochs, batches of 32 and 32, an MLP):",
        f"seconds of training, one thread, medians of {turns} turns and of their ratios. Alone, images are scaled as they",
        "are asked for (`to_benchmark`); the bridge scales an experience's ahead.",
        "",
        "| | s | this / Avalanche alone |",
        "| --- | ---: | ---: |",
    ]
    for title, seconds in taken.items():
        ratio = statistics.median(own / other for own, other in zip(seconds, alone, strict=True))
        lines.append(f"| {title} | {statistics.median(seconds):.2f} | {ratio:.2f} |")
    pairs = [(theirs(source, ONLINE), ours("avalanche:Replay", source, ONLINE)) for _ in range(turns)]
    ratio = statistics.median(mine / other for other, mine in pairs)
    lines += [
        "",
        "On an online stream each batch is one experience of theirs, and their buffer joins a data set for every",
        "experience at each step. 4,000 samples in batches of 10, once: alone",
        f"{statistics.median(other for other, _ in pairs):.1f} s, through the bridge "
        f"{statistics.median(mine for _, mine in pairs):.1f} s, {ratio:.2f} times as long.",
    ]
    return [*lines, ""]


if __name__ == "__main__":
    print("\n".join(section()))
