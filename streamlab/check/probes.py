"""What the promises look at a strategy with: its scores, what it holds elsewhere, and watched simulations."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, cast

import numpy as np
import torch

from ..batch import Batch, EpisodeBatch
from ..errors import StreamlabError
from ..memory.ledger import check_budget, measure
from ..memory.state import StateWriter
from ..simulator.episode_simulation import EpisodeSimulation
from ..simulator.simulation import Simulation
from ..simulator.stream_simulation import StreamSimulation
from .subject import BATCH, WAY, Killed, Subject, Watch, tiny_source


def scores_of(strategy: Any) -> Any:
    """Its scores of the tiny test images; of one episode among them, for a strategy of episodes."""
    source, device = tiny_source(), strategy.setting.device
    images = torch.from_numpy(source.test_images).to(device)
    strategy.train_mode(False)
    with torch.no_grad():
        if strategy.needs.kinds == {"episodes"}:
            shown = images[None, : 2 * WAY]
            scores = strategy.predict_episodes(
                shown, torch.arange(2 * WAY, device=device)[None] % WAY, images[None]
            )
        else:
            scores = strategy.predict(images)
    strategy.train_mode(True)
    return scores


def answer(strategy: Any, episodes: EpisodeBatch) -> Any:
    """Its scores of the episodes' queries."""
    return strategy.predict_episodes(episodes.support, episodes.support_labels, episodes.query)


def held_outside(subject: Subject) -> dict[str, str]:
    """What the class and its module hold beside functions and constants, as text by name."""
    found: dict[str, Any] = {
        name: value for name, value in vars(subject.strategy).items() if name[:2] != "__"
    }
    module = sys.modules.get(subject.strategy.__module__)
    found |= {name: value for name, value in vars(module).items() if name[:2] != "__"} if module else {}
    shown = {}
    for name, value in found.items():
        if isinstance(value, (int, float, str, list, dict, set, torch.Tensor, np.ndarray)):
            with contextlib.suppress(StreamlabError, TypeError):
                writer = StateWriter()
                plain = writer.plain(value, name)
                shown[name] = repr([plain, [tensor.tolist() for tensor in writer.tensors.values()]])
    return shown


def other_bytes(subject: Subject, strategy: Any, name: str) -> int:
    """The bytes under one attribute that no kind claims."""
    if name in ("setting", "options", "account", "exposed", "current_classes", "net", "optimizer"):
        return 0
    claims = {"net": "model", **subject.strategy.ledger_kinds}
    alone = measure({"net": strategy.net, name: vars(strategy)[name]}, claims)
    return alone.bytes_by_kind.get("other", 0)


def serve_by_hand(simulation: StreamSimulation | EpisodeSimulation) -> None:
    """Its methods called on the tiny stream or episodes, without the kernel's own draws."""
    strategy = simulation.strategy
    if isinstance(simulation, EpisodeSimulation):
        if strategy.base is None:
            strategy.observe_episodes(simulation.batch(0, 2))
        else:
            strategy.begin_experience(simulation.view())
        scores_of(strategy)
        return
    for number in range(len(simulation.plan.experiences)):
        view = simulation.view(number)
        strategy.exposed[view.labels] = True
        strategy.begin_experience(view)
        order = simulation.order(simulation.plan.experiences[number].indices)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH].device
            batch = Batch(simulation.train.images_at(rows), simulation.train.labels_at(rows))
            strategy.observe(batch)
            strategy.remember(batch)
        strategy.end_experience(view)
    strategy.consolidate()
    scores_of(strategy)


class KilledHalfWay(Watch):
    """Writes a checkpoint after its seventh batch (third, of episodes), and is gone one later."""

    calls = 0

    def checkpoint_if_due(self) -> None:
        running = cast(Simulation, self)
        self.calls += 1
        last = 3 if isinstance(self, EpisodeSimulation) else 7
        if self.calls == last:
            running.write_checkpoint()
        elif self.calls == last + 1:
            raise Killed


class Weighed(Watch):
    """Held to its budget after every batch, not only where the kernel looks."""

    def learn(self, *served: Any) -> None:
        super().learn(*served)
        running = cast(Simulation, self)
        check_budget(running.strategy.account.ledger(), running.budget)


def weighing(sizes: list[int]) -> type[Watch]:
    """Appends what is held at every experience's end (after every batch of episodes)."""

    class Weighing(Watch):
        def end(self, number: int) -> None:
            super().end(number)
            sizes.append(cast(Simulation, self).strategy.account.ledger().total)

        def learn(self, *served: Any) -> None:
            super().learn(*served)
            if isinstance(self, EpisodeSimulation):
                sizes.append(self.strategy.account.ledger().total)

    return Weighing


def with_opposite_base(subject: Subject) -> Subject:
    """The subject with a base training of the same name and numbers, whose loss has the other sign."""
    training: Any = subject.make().base_training()

    def loss(self: Any, *given: Any) -> torch.Tensor:
        turned: torch.Tensor = -type(training).loss(self, *given)
        return turned

    opposite: Any = object.__new__(type("Opposite", (type(training),), {"loss": loss}))
    opposite.__dict__.update(vars(training))
    other = type("Other", (subject.strategy,), {"base_training": lambda self: opposite})
    return Subject(other, subject.options, subject.name)
