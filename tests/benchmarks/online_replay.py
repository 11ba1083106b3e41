"""Online reservoir replay, 10 new + 10 replayed: streamlab, a plain loop, and Avalanche.

    python tests/benchmarks/online_replay.py --data FOLDER --write docs/benchmarks.md

Fashion-MNIST in five tasks of two classes, a 784-256-10 MLP with SGD, 500 exemplars, one thread
each, an evaluation of the exposed classes every 4,000 samples. Every figure is a ratio taken in
one run: the parties take turns, each in a process of its own, and medians over the turns are
compared. Avalanche is slow, so it is timed over the first samples of the same stream.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EVAL_EVERY = 4_000
AVALANCHE_SAMPLES = 8_000
BUFFER, BATCH, RATE, WIDTH = 500, 10, 0.05, 256


def plan_and_source(data: str):
    from streamlab.data.source import load_source
    from streamlab.stream import make_plan

    source = load_source("fashion-mnist", data)
    options = {"tasks": 5, "disjoint_percent": 100, "blurry_percent": 0, "stochastic": False}
    return make_plan("si-blurry", source.labels, 0, options), source


def plain_loop(data: str) -> dict[str, float]:
    """What a researcher writes by hand: uint8 gather, normalise, torch.optim, a reservoir."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    plan, source = plan_and_source(data)
    images, labels = torch.from_numpy(source.train_images.copy()), torch.from_numpy(source.train_labels)
    test_images, test_labels = (
        torch.from_numpy(source.test_images.copy()),
        torch.from_numpy(source.test_labels),
    )
    mean, deviation = source.mean_and_deviation
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    draws = np.random.default_rng(0)
    buffer_images = torch.zeros(BUFFER, 1, 28, 28, dtype=torch.uint8)
    buffer_labels = torch.zeros(BUFFER, dtype=torch.int64)
    stream = torch.from_numpy(plan.stream)
    exposed = torch.zeros(10, dtype=torch.bool)
    seen = held = 0
    training = evaluation = accuracy = 0.0

    def normalised(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() / 255 - mean) / deviation

    for start in range(0, len(stream), BATCH):
        began = time.perf_counter()
        chosen = stream[start : start + BATCH]
        x, y = images[chosen], labels[chosen]
        exposed[y] = True
        if held:
            rows = torch.from_numpy(draws.choice(held, min(BATCH, held), replace=False))
            both, targets = torch.cat([x, buffer_images[rows]]), torch.cat([y, buffer_labels[rows]])
        else:
            both, targets = x, y
        loss = F.cross_entropy(model(normalised(both)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for row in range(len(y)):
            if held < BUFFER:
                slot, held = held, held + 1
            else:
                slot = int(draws.integers(seen + 1))
            if slot < BUFFER:
                buffer_images[slot], buffer_labels[slot] = x[row], y[row]
            seen += 1
        training += time.perf_counter() - began
        if seen % EVAL_EVERY < BATCH:
            began = time.perf_counter()
            own = exposed[test_labels].nonzero().flatten()
            right = 0
            with torch.no_grad():
                for part in own.split(500):
                    scores = model(normalised(test_images[part])).masked_fill(~exposed, float("-inf"))
                    right += int((scores.argmax(1) == test_labels[part]).sum())
            accuracy = right / len(own)
            evaluation += time.perf_counter() - began
    return {"train": training, "evaluate": evaluation, "samples": seen, "accuracy": accuracy}


def streamlab_run(data: str) -> dict[str, float]:
    """The same through streamlab: `er`, run folder and checkpoints included."""
    import torch

    torch.set_num_threads(1)
    from streamlab.api import run

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        experiment = run(
            "si-blurry",
            "fashion-mnist",
            ["er"],
            seeds=1,
            data=data,
            workers=0,
            out=Path(folder) / "out",
            eval_every=EVAL_EVERY,
            budget=f"{BUFFER}ex",
            show=False,
            settings={
                "scenario": {"tasks": 5, "disjoint_percent": 100, "blurry_percent": 0, "stochastic": False},
                "stream": {"batch_size": BATCH},
                "optimizer": {"name": "sgd", "lr": RATE},
                "backbone": {"name": "mlp", "widths": [WIDTH]},
            },
        )
        whole = time.perf_counter() - began
        (made,) = experiment.runs
        spent = made.result["resources"]
        return {
            "train": spent["train_seconds"],
            "evaluate": spent["evaluation_seconds"],
            "samples": 60_000,
            "accuracy": made.metrics["a_last"],
            "whole": whole,
        }


class Pictures:
    """Images as torchvision's own data sets serve them: a PIL picture and a transform a sample."""

    def __init__(self, images, labels, mean: float, deviation: float) -> None:
        from torchvision import transforms

        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((mean,), (deviation,))]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index, 0], mode="L")), int(self.labels[index])


def stream_accuracy(metrics: dict[str, float]) -> float:
    """The accuracy over the whole test stream, among Avalanche's metrics."""
    return next(float(value) for name, value in metrics.items() if name.startswith("Top1_Acc_Stream"))


def avalanche_at_its_best(data: str) -> dict[str, float]:
    """Avalanche at its best: pictures normalised into one tensor, one metric, no logger."""
    return avalanche_run(data, at_its_best=True)


def avalanche_run(data: str, at_its_best: bool = False) -> dict[str, float]:
    """Avalanche's Naive with its ReplayPlugin and a reservoir, on the first samples of the stream."""
    import torch
    from avalanche.benchmarks import CLScenario, CLStream, split_online_stream
    from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
    from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
    from avalanche.training.storage_policy import ReservoirSamplingBuffer
    from avalanche.training.supervised import Naive
    from torch import nn
    from torch.utils.data import TensorDataset

    torch.set_num_threads(1)
    torch.manual_seed(0)
    plan, source = plan_and_source(data)
    mean, deviation = source.mean_and_deviation

    def stream_of(name: str, images, labels):
        y = torch.from_numpy(labels.copy())
        served = Pictures(images, labels, mean, deviation)
        if at_its_best:
            served = TensorDataset((torch.from_numpy(images.copy()).float() / 255 - mean) / deviation, y)
        targets = DataAttribute(y.tolist(), "targets")
        tasks = DataAttribute([0] * len(y), "targets_task_labels", use_in_getitem=True)
        dataset = AvalancheDataset([served], data_attributes=[targets, tasks])
        return CLStream(name, [DatasetExperience(dataset=dataset, current_experience=0)])

    chosen = plan.stream[:AVALANCHE_SAMPLES]
    train = stream_of("train", source.train_images[chosen], source.train_labels[chosen])
    exposed = [label in plan.experiences[0].classes for label in source.test_labels.tolist()]
    test = stream_of("test", source.test_images[exposed], source.test_labels[exposed])
    scenario = CLScenario([train, test])
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
    storage = ReservoirSamplingBuffer(BUFFER)
    replay = ReplayPlugin(mem_size=BUFFER, batch_size=BATCH, batch_size_mem=BATCH, storage_policy=storage)
    quiet = {"evaluator": EvaluationPlugin(accuracy_metrics(stream=True), loggers=[])} if at_its_best else {}
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=RATE),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        eval_mb_size=500,
        plugins=[replay],
        **quiet,
    )
    training = evaluation = accuracy = 0.0
    online = split_online_stream(scenario.train_stream, experience_size=BATCH)
    for number, experience in enumerate(online, start=1):
        began = time.perf_counter()
        strategy.train(experience, num_workers=0)
        training += time.perf_counter() - began
        if number * BATCH % EVAL_EVERY == 0:
            began = time.perf_counter()
            accuracy = stream_accuracy(strategy.eval(scenario.test_stream, num_workers=0))
            evaluation += time.perf_counter() - began
    spent = {"train": training, "evaluate": evaluation}
    return {**spent, "samples": AVALANCHE_SAMPLES, "accuracy": accuracy}


PARTIES = {
    "plain": plain_loop,
    "streamlab": streamlab_run,
    "avalanche": avalanche_run,
    "avalanche at its best": avalanche_at_its_best,
}


def measure(party: str, data: str) -> dict[str, float]:
    """One turn of one party, in a process of its own with one thread."""
    command = [sys.executable, __file__, "--data", data, "--party", party]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, check=False)
    if done.returncode:
        raise SystemExit(f"{party} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--party", choices=PARTIES)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if given.party:
        print(json.dumps(PARTIES[given.party](given.data)))
        return
    turns: dict[str, list[dict[str, float]]] = {party: [] for party in PARTIES}
    for turn in range(given.turns):
        for party in PARTIES:
            if party.startswith("avalanche") and turn > 1:
                continue
            turns[party].append(measure(party, given.data))
            print(turn, party, {k: round(v, 3) for k, v in turns[party][-1].items()}, file=sys.stderr)
    text = report(turns)
    print(text)
    if given.write:
        given.write.write_text(text, encoding="utf-8")


def report(turns: dict[str, list[dict[str, float]]]) -> str:
    """The page: medians over the turns, and the ratios that count."""
    import torch

    def speed(party: str, *parts: str) -> float:
        return statistics.median(t["samples"] / sum(t[part] for part in parts) for t in turns[party])

    def ratio(part: str) -> float:
        pairs = zip(turns["plain"], turns["streamlab"], strict=True)
        return statistics.median(plain[part] / ours[part] for plain, ours in pairs)

    rows = [
        ("a plain loop", speed("plain", "train"), speed("plain", "train", "evaluate")),
        ("streamlab", speed("streamlab", "train"), speed("streamlab", "train", "evaluate")),
        *(
            (name, speed(party, "train"), speed(party, "train", "evaluate"))
            for party, name in (
                ("avalanche", "Avalanche 0.6 as it comes: pictures and transforms, its default evaluator"),
                (
                    "avalanche at its best",
                    "Avalanche 0.6 at its best: one tensor normalised ahead, one metric, no logger",
                ),
            )
        ),
    ]
    whole = statistics.median(
        (p["train"] + p["evaluate"]) / (o["train"] + o["evaluate"])
        for p, o in zip(turns["plain"], turns["streamlab"], strict=True)
    )
    against = [(rows[1][1] / row[1], rows[1][2] / row[2]) for row in rows[2:]]
    lines = [
        "# Benchmarks",
        "",
        "Written by `make data bench`; do not edit. What counts is the ratios, each taken in one run.",
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} processors, {platform.system()}; "
        f"Python {platform.python_version()}, torch {torch.__version__}; one thread each.",
        "",
        "## Online reservoir replay, 10 new + 10 replayed",
        "",
        "Fashion-MNIST in five tasks of two classes, a 784-256-10 MLP with SGD, 500 exemplars, an",
        f"evaluation of the exposed classes every {EVAL_EVERY:,} samples; medians of {len(turns['plain'])} turns.",
        "",
        "| | training, samples/s | with evaluations, samples/s |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {train:,.0f} | {both:,.0f} |" for name, train, both in rows),
        "",
        f"streamlab against the plain loop: {ratio('train'):.2f} in training, {ratio('evaluate'):.2f} in "
        f"evaluation, {whole:.2f} in both (above 1 is faster).",
        f"streamlab against Avalanche as it comes: {against[0][0]:.1f} times in training, "
        f"{against[0][1]:.1f} in both; against Avalanche at its best: {against[1][0]:.1f} and "
        f"{against[1][1]:.1f}.",
        "",
        "Final accuracies, to see that the work is the same: plain "
        f"{statistics.median(t['accuracy'] for t in turns['plain']):.3f}, streamlab "
        f"{statistics.median(t['accuracy'] for t in turns['streamlab']):.3f}.",
        "",
        f"Avalanche is timed over the first {AVALANCHE_SAMPLES:,} samples of the same stream.",
        "On a GPU: not measured yet.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
