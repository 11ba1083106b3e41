"""What a researcher writes by hand: plain PyTorch loops for seven strategies.

uint8 images gathered by index, normalised, torch.optim.SGD, a vectorised reservoir. Also a script
of its own: `python plain.py --strategy er --seed 0 --data FOLDER` runs one of the grid's twenty.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from jobs import JOBS, Job, plan_and_source
from torch import nn


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def convnet() -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (1, 32, 32, 32):
        layers += [
            nn.Conv2d(channels, 32, 3, padding=1, bias=False),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10))


class Reservoir:
    """500 exemplars, each sample seen held with equal probability."""

    def __init__(self, size: int, draws: np.random.Generator) -> None:
        self.images = torch.zeros(size, 1, 28, 28, dtype=torch.uint8)
        self.labels = torch.zeros(size, dtype=torch.int64)
        self.logits = torch.zeros(size, 10)
        self.size, self.draws, self.held, self.seen = size, draws, 0, 0

    def draw(self, count: int) -> torch.Tensor:
        return torch.from_numpy(self.draws.choice(self.held, min(count, self.held), replace=False))

    def add(self, x: torch.Tensor, y: torch.Tensor, logits: torch.Tensor | None = None) -> None:
        place = np.arange(self.seen, self.seen + len(y))
        slots = np.where(place < self.size, place, self.draws.integers(0, place + 1))
        kept = np.flatnonzero(slots < self.size)
        if len(kept):
            self.images[slots[kept]], self.labels[slots[kept]] = x[kept], y[kept]
            if logits is not None:
                self.logits[slots[kept]] = logits[kept]
        self.seen += len(y)
        self.held = min(self.size, self.seen)


def run(job: Job, data: str, strategy: str = "er", seed: int = 0) -> dict[str, float]:
    """Train and evaluate; seconds of each, samples, and the last accuracy."""
    torch.manual_seed(seed)
    plan, source = plan_and_source(job, data, seed)
    images, labels = torch.from_numpy(source.train_images.copy()), torch.from_numpy(source.train_labels)
    test_images, test_labels = (
        torch.from_numpy(source.test_images.copy()),
        torch.from_numpy(source.test_labels),
    )
    mean, deviation = source.mean_and_deviation
    model = mlp() if job.backbone == "mlp" else convnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=job.rate)
    buffer = Reservoir(job.buffer, np.random.default_rng(seed))
    exposed = torch.zeros(10, dtype=torch.bool)
    spent = {"train": 0.0, "evaluate": 0.0, "boundaries": 0.0, "samples": 0.0, "accuracy": 0.0}
    sums, counts, scatter = torch.zeros(10, 784), torch.zeros(10), torch.zeros(784, 784)
    weights = bias = torch.zeros(0)
    fisher: list[torch.Tensor] = []
    anchors: list[torch.Tensor] = []

    def normalised(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() / 255 - mean) / deviation

    def scores(x: torch.Tensor) -> torch.Tensor:
        if strategy == "slda":
            return normalised(x).flatten(1) @ weights.T + bias
        return model(normalised(x))

    def evaluate() -> None:
        nonlocal weights, bias
        began = time.perf_counter()
        if strategy == "slda":
            means = sums / counts.clamp(min=1)[:, None]
            covariance = 0.99 * scatter / float(counts.sum()) + 0.01 * torch.eye(784)
            weights = torch.linalg.solve(covariance.double(), means.T.double()).T.float()
            bias = -0.5 * (means * weights).sum(1)
        model.eval()
        own = exposed[test_labels].nonzero().flatten()
        right = 0
        with torch.no_grad():
            for part in own.split(500):
                predicted = scores(test_images[part]).masked_fill(~exposed, float("-inf")).argmax(1)
                right += int((predicted == test_labels[part]).sum())
        model.train()
        spent["accuracy"] = right / len(own)
        spent["evaluate"] += time.perf_counter() - began

    def learn(x: torch.Tensor, y: torch.Tensor) -> None:
        if strategy == "slda":
            rows = normalised(x).flatten(1)
            gaps = rows - sums[y] / counts[y].clamp(min=1)[:, None]
            scatter.addmm_(gaps.T, gaps)
            sums.index_add_(0, y, rows)
            counts.add_(torch.bincount(y, minlength=10))
            return
        fresh = None
        if strategy == "er-ace":
            loss = asymmetric(x, y)
        elif strategy == "der++":
            loss, fresh = dark(x, y)
        else:
            both, targets = x, y
            if strategy == "er" and buffer.held:
                rows = buffer.draw(job.batch)
                both, targets = torch.cat([x, buffer.images[rows]]), torch.cat([y, buffer.labels[rows]])
            loss = F.cross_entropy(model(normalised(both)), targets)
            if strategy == "ewc" and fisher:
                loss = loss + 50 * sum(
                    (weight * (p - old) ** 2).sum()
                    for weight, p, old in zip(fisher, model.parameters(), anchors, strict=True)
                )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if strategy in ("er", "er-ace", "der++"):
            buffer.add(x, y, fresh)

    def asymmetric(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rows = buffer.draw(job.batch) if buffer.held else torch.zeros(0, dtype=torch.int64)
        logits = model(normalised(torch.cat([x, buffer.images[rows]])))
        present = torch.zeros(10, dtype=torch.bool)
        present[y] = True
        loss = F.cross_entropy(logits[: len(y)].masked_fill(~present, float("-inf")), y)
        if len(rows):
            old = logits[len(y) :].masked_fill(~exposed, float("-inf"))
            loss = loss + F.cross_entropy(old, buffer.labels[rows])
        return loss

    def dark(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not buffer.held:
            logits = model(normalised(x))
            return F.cross_entropy(logits, y), logits.detach()
        one, two = buffer.draw(job.batch), buffer.draw(job.batch)
        logits = model(normalised(torch.cat([x, buffer.images[one], buffer.images[two]])))
        new, first, second = logits.split([len(y), len(one), len(two)])
        loss = F.cross_entropy(new, y) + 0.5 * F.mse_loss(first, buffer.logits[one])
        return loss + 0.5 * F.cross_entropy(second, buffer.labels[two]), new.detach()

    def measure_fisher(indices: torch.Tensor) -> None:
        """Of 1,000 samples, one at a time, at the network's own prediction."""
        nonlocal anchors
        fresh = [torch.zeros_like(p) for p in model.parameters()]
        for row in indices[torch.randperm(len(indices))[:1000]]:
            logits = model(normalised(images[row : row + 1]))
            loss = F.cross_entropy(logits.masked_fill(~exposed, float("-inf")), logits.argmax(1))
            for total, gradient in zip(
                fresh, torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                total += gradient**2 / 1000
        fisher[:] = [old + new for old, new in zip(fisher, fresh, strict=True)] if fisher else fresh
        anchors = [p.detach().clone() for p in model.parameters()]

    if strategy == "joint":
        everything = torch.from_numpy(plan.stream)
        exposed[:] = True
        began = time.perf_counter()
        for _ in range(5):
            for part in everything[torch.randperm(len(everything))].split(64):
                learn(images[part], labels[part])
        spent["train"] += time.perf_counter() - began
        evaluate()
        return spent
    for experience in plan.experiences:
        order = torch.from_numpy(experience.indices)
        if job.kind == "sessions":
            order = order[torch.randperm(len(order))]
        for part in order.split(job.batch):
            began = time.perf_counter()
            x, y = images[part], labels[part]
            exposed[y] = True
            learn(x, y)
            spent["train"] += time.perf_counter() - began
            spent["samples"] += len(part)
            if job.eval_every and spent["samples"] % job.eval_every < job.batch:
                evaluate()
        if strategy == "ewc":
            began = time.perf_counter()
            measure_fisher(order)
            spent["boundaries"] += time.perf_counter() - began
        if not job.eval_every:
            evaluate()
    return spent


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    print(run(JOBS["online-mlp"], given.data, given.strategy, given.seed))
