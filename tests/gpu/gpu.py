"""`make gpu`: what a GPU is for, measured on the one that is here, in under ten minutes; writes
docs/benchmarks-gpu.md.

    python tests/gpu/gpu.py --write docs/benchmarks-gpu.md
    python tests/gpu/gpu.py --rehearse            the same on the CPU, in small; writes nothing

The promises of `streamlab check` on the device (same bits twice, and after a resume), then steps beside
hand-written loops and the authors' way of computing, by turns in one process. Every figure that counts is a
ratio in one run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import episodes
import prompts
from jobs import cells_of

from streamlab.check import Subject, check_strategy
from streamlab.data.load import load_source
from streamlab.data.source import Source, open_shared, share
from streamlab.nets.network import Network, PixelStatistics, build_network
from streamlab.simulator.assembly import build
from streamlab.simulator.execute import deterministic
from streamlab.simulator.stream_simulation import StreamSimulation

LOOKED_AT = ("er", "der++", "icarl", "podnet", "mvp", "slda", "teen", "protonet", "maml")
REPLAY = ("er", "er-ace", "der++")


@dataclass(frozen=True)
class Size:
    """How much is done: steps of a turn, turns, test images, classes of the replay's head."""

    steps: int
    turns: int
    promises: tuple[str, ...]


WHOLE = Size(400, 5, LOOKED_AT)
SMALL = Size(4, 2, ("er",))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of what is asked of the device and done."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def by_turns(
    ours: Callable[[int], object], theirs: Callable[[int], object], device: torch.device, size: Size
) -> tuple[float, float, float]:
    """Milliseconds of a step of both, and how much faster ours is: medians of turns after one that warms
    up.
    """
    taken: list[tuple[float, float]] = []
    for turn in range(size.turns + 1):
        numbers = range(turn * size.steps, (turn + 1) * size.steps)
        taken.append(
            (
                seconds(lambda numbers=numbers: [ours(number) for number in numbers], device),
                seconds(lambda numbers=numbers: [theirs(number) for number in numbers], device),
            )
        )
    kept = taken[1:]
    each = [1000 * statistics.median(times) / size.steps for times in zip(*kept, strict=True)]
    return each[0], each[1], statistics.median(b / a for a, b in kept)


def simulation_of(strategy: str, source: Source, device: str, **settings: Any) -> StreamSimulation:
    """A run of ours that stands before its first step."""
    (cell,) = cells_of(
        source, "class-incremental", strategy, device=device, settings=settings, budgets=("500ex",)
    )
    made = build(cell.spec, cell.plan, open_shared(share(source)), lambda event: None, None)
    assert isinstance(made, StreamSimulation)
    made.start()
    made.begin(0)
    return made


def ours_of(simulation: StreamSimulation, batch: int) -> Callable[[int], None]:
    """Its steps by number, over the first experience again and again."""
    order = simulation.order(simulation.plan.experiences[0].indices)
    batches = len(order) // batch

    def step(number: int) -> None:
        first = number % batches * batch
        simulation.learn(order[first : first + batch], order[:0])

    return step


class Plain:
    """What a researcher would write in a notebook: a network, SGD, and a reservoir on the device."""

    def __init__(
        self, source: Source, network: dict[str, Any], device: torch.device, batch: int, method: str
    ) -> None:
        classes = len(source.class_names)
        pixels = PixelStatistics(*source.mean_and_deviation)
        self.net: Network = build_network(network, source.image_shape, classes, pixels).to(device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.03)
        self.images = torch.from_numpy(source.train_images).to(device)
        self.labels = torch.from_numpy(source.train_labels).to(device)
        self.held = torch.zeros((500, *source.image_shape), dtype=torch.uint8, device=device)
        self.held_labels = torch.zeros(500, dtype=torch.int64, device=device)
        self.held_logits = torch.zeros((500, classes), device=device)
        self.draws, self.seen, self.batch, self.method = np.random.default_rng(0), 0, batch, method
        self.exposed = torch.ones(classes, dtype=torch.bool, device=device)

    def step(self, number: int) -> None:
        rows = torch.arange(number * self.batch, (number + 1) * self.batch, device=self.labels.device) % len(
            self.labels
        )
        x, y = self.images[rows], self.labels[rows]
        loss, logits = self.loss(x, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.method != "finetune":
            self.add(x, y, logits.detach())

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.method == "finetune" or not self.seen:
            logits = self.net(x)
            return F.cross_entropy(logits, y), logits
        one, two = (
            torch.from_numpy(self.draws.choice(self.count, self.count_drawn, False)).to(y.device)
            for _ in range(2)
        )
        if self.method == "er":
            logits = self.net(torch.cat([x, self.held[one]]))
            return F.cross_entropy(logits, torch.cat([y, self.held_labels[one]])), logits
        if self.method == "er-ace":
            logits = self.net(torch.cat([x, self.held[one]]))
            present = torch.zeros_like(self.exposed)
            present[y] = True
            new = logits[: len(y)].masked_fill(~present, float("-inf"))
            return F.cross_entropy(new, y) + F.cross_entropy(logits[len(y) :], self.held_labels[one]), logits
        logits = self.net(torch.cat([x, self.held[one], self.held[two]]))
        new, first, second = logits.split([len(y), len(one), len(two)])
        loss = F.cross_entropy(new, y) + 0.5 * F.mse_loss(first, self.held_logits[one])
        return loss + 0.5 * F.cross_entropy(second, self.held_labels[two]), new

    @property
    def count(self) -> int:
        return min(500, self.seen)

    @property
    def count_drawn(self) -> int:
        return min(self.batch, self.count)

    def add(self, x: Tensor, y: Tensor, logits: Tensor) -> None:
        for row in range(len(y)):
            slot = self.seen if self.seen < 500 else int(self.draws.integers(self.seen + 1))
            self.seen += 1
            if slot < 500:
                self.held[slot], self.held_labels[slot], self.held_logits[slot] = x[row], y[row], logits[row]


def promises(device: torch.device, size: Size) -> list[str]:
    """Which promises are kept on the device."""
    lines = ["## Promises on the device", "", "| strategy | kept | not kept |", "| --- | ---: | --- |"]
    for name in size.promises:
        outcomes = list(check_strategy(Subject.named(name)))
        kept = sum(outcome.status in ("kept", "known") for outcome in outcomes)
        broken = [f"{one.check} ({one.message})" for one in outcomes if one.is_failure]
        lines.append(f"| `{name}` | {kept} of {len(outcomes)} | {'; '.join(broken)[:300]} |")
    return [*lines, ""]


HEAD = ["| | by hand, ms | streamlab, ms | faster |", "| --- | ---: | ---: | ---: |"]


def row(what: str, ours: float, theirs: float, ratio: float) -> str:
    return f"| {what} | {theirs:.2f} | {ours:.2f} | {ratio:.2f} |"


def replay(device: torch.device, size: Size) -> list[str]:
    """Online replay of a small network, 10 new and 10 replayed."""
    source, lines = load_source("glyphs-100"), []
    network = {"name": "mlp", "widths": (256,)}
    for name in REPLAY:
        with deterministic(str(device)):
            simulation = simulation_of(name, source, device.type, backbone=network, stream={"batch_size": 10})
            plain = Plain(source, network, device, 10, name)
            lines.append(
                row(
                    f"`{name}`, 10 new + 10 replayed, a 784-256-100 MLP",
                    *by_turns(ours_of(simulation, 10), plain.step, device, size),
                )
            )
    return ["## Online replay of a small network", "", *HEAD, *lines, ""]


def sessions(device: torch.device, size: Size) -> list[str]:
    """A ResNet-18 that learns a session."""
    source = load_source("glyphs-100")
    network = {"name": "resnet18", "norm": "batch", "width": 64 if size is WHOLE else 8}
    with deterministic(str(device)):
        simulation = simulation_of(
            "finetune",
            source,
            device.type,
            backbone=network,
            stream={"batch_size": 128},
            scenario={"kind": "sessions"},
        )
        plain = Plain(source, network, device, 128, "finetune")
        fewer = Size(max(2, size.steps // 8), size.turns, ())
        line = row(
            "ResNet-18, batches of 128", *by_turns(ours_of(simulation, 128), plain.step, device, fewer)
        )
    return ["## A session of ResNet-18", "", *HEAD, line, ""]


def few_shot() -> list[str]:
    """Test episodes after the features; on the device that `auto` chooses."""
    kept, first = episodes.testing()
    return [
        "## Episodes", "", f"10,000 test episodes of 5-way 1-shot: {kept:.2f} s after the features, {first:.2f} s with them.", "",
    ]  # fmt: skip


def memory(device: torch.device) -> list[str]:
    if device.type != "cuda":
        return []
    return [
        "## Memory",
        "",
        f"The most that torch held on the device: {torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB.",
        "",
    ]


NOT_MEASURED = [
    "## Not measured", "",
    "Steps captured as CUDA graphs, several seeds as one stacked network, and MVP on a ViT-B/16: streamlab has no "
    "capture and no stacking yet, and the MVP above is on glyph-vit.", "",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the page")
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    if not given.rehearse and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU; --rehearse goes through it on the CPU, and measures nothing")
    size = SMALL if given.rehearse else WHOLE
    device = torch.device("cpu" if given.rehearse else "cuda:0")
    card = "the CPU, rehearsed" if given.rehearse else torch.cuda.get_device_name(0)
    began = time.perf_counter()
    head = [
        "# Benchmarks on a GPU", "", "Written by `make gpu`; do not edit. Above 1, streamlab is faster.", "",
        f"{card}; torch {torch.__version__}, Python {sys.version.split()[0]}.", "",
    ]  # fmt: skip
    body = [*promises(device, size), *replay(device, size), *sessions(device, size)]
    if not given.rehearse:
        body += [*prompts.section(), *few_shot()]
    lines = [*head, *body, *memory(device), *NOT_MEASURED]
    print("\n".join(lines))
    print(f"in {time.perf_counter() - began:.0f} s")
    if given.write and not given.rehearse:
        given.write.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
