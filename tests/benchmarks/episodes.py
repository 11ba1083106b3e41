"""Episodes: drawing them, testing on features, and what a step costs beside a plain loop and learn2learn by hand."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jobs import cells_of

from streamlab.data.load import load_source
from streamlab.data.source import Source, open_shared, share
from streamlab.interop.learn2learn import library
from streamlab.nets.network import Network
from streamlab.planning import make_plan
from streamlab.plans.episodes import EpisodePlan
from streamlab.simulator.assembly import build
from streamlab.simulator.episode_simulation import EpisodeSimulation
from streamlab.simulator.execute import deterministic

_STEPS = 30


def drawing(source: Source) -> tuple[float, float]:
    """5-way 1-shot 15-query episodes a second, images included: ours (64 at a time), learn2learn's sampler."""
    plan = make_plan(
        "episodes", source.labels, 0, {"test_classes": 10, "episodes": 0, "validation_episodes": 0}
    )
    assert isinstance(plan, EpisodePlan)
    images = torch.from_numpy(np.concatenate([source.train_images, source.test_images]))
    drawn, began = 0, time.perf_counter()
    while time.perf_counter() - began < 2:
        rows = plan.test.draw(torch.arange(drawn, drawn + 64))
        images[rows.flatten()].view(*rows.shape, *images.shape[1:])
        drawn += 64
    ours = drawn / (time.perf_counter() - began)

    l2l = library()
    data = torch.utils.data.TensorDataset(
        torch.from_numpy(source.train_images), torch.from_numpy(source.train_labels)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = l2l.data.MetaDataset(data)
        steps = [
            l2l.data.transforms.NWays(meta, 5),
            l2l.data.transforms.KShots(meta, 16),
            l2l.data.transforms.LoadData(meta),
            l2l.data.transforms.RemapLabels(meta),
        ]
        tasks = l2l.data.TaskDataset(meta, steps, num_tasks=-1)
        tasks.sample()
        began = time.perf_counter()
        for _ in range(20):
            tasks.sample()
    return ours, 20 / (time.perf_counter() - began)


def testing() -> tuple[float, float]:
    """Seconds of 10,000 test episodes of a frozen backbone, its features kept; and of the first time."""
    source = load_source("glyphs-100")
    settings = {
        "scenario": {"episodes": 0, "test_episodes": 10_000, "validation_episodes": 0},
        "backbone": {"name": "glyph-vit"},
    }
    simulation = _simulation("simpleshot", source, settings)
    with deterministic():
        simulation.start()
        simulation.begin()
        simulation.evaluator.forget()
        began = time.perf_counter()
        simulation.evaluator.evaluate(simulation.strategy, "test", 0)
        first = time.perf_counter() - began
        began = time.perf_counter()
        simulation.evaluator.evaluate(simulation.strategy, "test", 0)
        kept = time.perf_counter() - began
    return kept, first


def _simulation(strategy: str, source: Source, settings: dict[str, Any]) -> EpisodeSimulation:
    (cell,) = cells_of(source, "episodes", strategy, settings=settings)
    shared = open_shared(share(source))
    made = build(cell.spec, cell.plan, shared, lambda event: None, None)
    assert isinstance(made, EpisodeSimulation)
    return made


def step_of(strategy: str, plain: Callable[[EpisodeSimulation, Network], Callable[[int], None]]) -> float:
    """Seconds of a training step over those of a hand-written loop: the median of turns taken in one process."""
    source = load_source("glyphs-100")
    settings = {"scenario": {"episodes": 10_000}, "optimizer": {"name": "adam", "lr": 0.001}}
    ours, theirs = (_simulation(strategy, source, settings) for _ in range(2))
    by_hand = plain(theirs, theirs.strategy.net)
    ratios = []
    with deterministic():
        ours.start()
        ours.begin()
        for turn in range(7):
            taken = []
            for step in (ours.learn, by_hand):
                began = time.perf_counter()
                for number in range(turn * _STEPS, (turn + 1) * _STEPS):
                    step(number)
                taken.append(time.perf_counter() - began)
            if turn:
                ratios.append(taken[0] / taken[1])
    return statistics.median(ratios)


def plain_protonet(simulation: EpisodeSimulation, net: Network) -> Callable[[int], None]:
    """A prototypical network as one would write it: the same episodes, ready drawn by index."""
    episodes = simulation.plan.train
    images = simulation.images.images
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    answers = torch.arange(5).repeat_interleave(15)

    def step(number: int) -> None:
        rows = episodes.draw(torch.tensor([number]))[0]
        pixels = torch.cat([images[rows[:, :1].flatten()], images[rows[:, 1:].flatten()]])
        features = net.features(pixels)
        means, query = features[:5].view(5, 1, -1).mean(1), features[5:]
        loss = F.cross_entropy(-torch.cdist(query, means).square(), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def maml_by_hand(simulation: EpisodeSimulation, net: Network) -> Callable[[int], None]:
    """learn2learn's MAML as its examples use it: the same episodes, three inner steps."""
    learner = library().algorithms.MAML(net, 0.1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)

    def step(number: int) -> None:
        batch = simulation.batch(number, 1)
        own = learner.clone()
        for _ in range(3):
            own.adapt(F.cross_entropy(own(batch.support[0]), batch.support_labels[0]))
        loss = F.cross_entropy(own(batch.query[0]), batch.query_labels[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def section(data: str) -> list[str]:
    """The page's section."""
    with deterministic():
        ours, theirs = drawing(load_source("fashion-mnist", data))
    kept, first = testing()
    protonet = step_of("protonet", plain_protonet)
    maml = step_of("maml", maml_by_hand)
    return [
        "## Episodes",
        "",
        "One CPU thread. Drawing: 5-way 1-shot 15-query episodes of Fashion-MNIST with their images, 64 at a time, and",
        "learn2learn's task sampler over the same 60,000 images. Testing: 10,000 5-way 1-shot episodes of 20 glyph classes by",
        "`simpleshot` on the frozen glyph-vit. Steps: ConvNet-4 of 32 channels, one 5-way 1-shot episode a step, medians of 6",
        "turns beside a plain loop, and beside learn2learn used by hand (3 inner steps, second order).",
        "",
        "| | | |",
        "| --- | ---: | --- |",
        f"| episodes drawn a second | {ours:,.0f} | learn2learn {theirs:,.1f}: {ours / theirs:,.0f} times |",
        f"| 10,000 test episodes, features kept | {kept:.1f} s | with the one pass of features {first:.1f} s |",
        f"| a `protonet` step / a plain loop's | {protonet:.2f} | |",
        f"| a `maml` step / learn2learn by hand | {maml:.2f} | |",
        "",
    ]  # fmt: skip


if __name__ == "__main__":
    import sys

    print("\n".join(section(sys.argv[1])))
