"""A strategy under examination, and the tiny world that it is examined in."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..augmentation.pipelines import AugmentConfig
from ..config import Budget, ComputeConfig, StreamConfig, configure
from ..data.source import SharedSource
from ..device import chosen_device, device_here
from ..errors import StreamlabError
from ..experiments.rows import parse_row
from ..nets.network import PixelStatistics
from ..plans.episodes import EpisodePlan, Episodes, Phase
from ..plans.stream import Experience, Plan, StreamPlan
from ..preprocess import PreprocessConfig
from ..randomness import Draws, global_randomness
from ..runs.folder import RunFolder
from ..runs.spec import RunSpec, load_strategy
from ..simulator.assembly import assemble, assemble_episodes
from ..simulator.episode_simulation import EpisodeSimulation
from ..simulator.execute import deterministic, drive
from ..simulator.simulation import Served
from ..simulator.stream_simulation import StreamSimulation
from ..strategy import Setting, Strategy
from ..training import BaseConfig, FirstConfig, OptimizerConfig

CLASSES, TRAIN, TEST, SIZE = 6, 8, 4, 28
BATCH = 4
WAY = 2
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"widths": (32,)},
    "convnet": {"width": 8},
    "vit": {"width": 16, "heads": 2},
    "glyph-vit": {"name": "vit", "width": 16, "heads": 2},
}


class Broken(Exception):
    """A promise that is not kept: what was found, and the line to look at."""

    def __init__(self, message: str, line: str = "") -> None:
        super().__init__(message)
        self.message, self.line = message, line


class Killed(Exception):
    """Stands for a kill -9: a simulation that raises it is gone."""


def as_in_a_run() -> AbstractContextManager[None]:
    """Deterministic on the device that checks run on, as a run is."""
    return deterministic(chosen_device("auto"))


@dataclass(frozen=True)
class Subject:
    """A strategy with its options, as `er` or `./mine.py:replay_size=5` names it.

    device: what it runs on (None: the GPU, where there is one).
    """

    strategy: type[Strategy]
    options: Any
    name: str
    device: torch.device | None = None

    @staticmethod
    def named(text: str) -> Subject:
        """An installed strategy or a file, with options; raises StreamlabError for what is none."""
        row = parse_row(text)
        cls = load_strategy(row.strategy)
        return Subject(cls, configure(cls.options_type(), row.options, row.strategy), row.label)

    @property
    def file(self) -> str:
        """The file that defines it."""
        return inspect.getsourcefile(self.strategy) or ""

    @property
    def episodic(self) -> bool:
        """Whether it takes episodes, and no stream."""
        return self.strategy.needs.kinds == {"episodes"}

    def make(
        self,
        seed: int = 0,
        backbone: Mapping[str, Any] | None = None,
        augment: AugmentConfig | None = None,
    ) -> Strategy:
        """A fresh instance for the tiny source, its budget not yet allotted. backbone: not its own."""
        source = tiny_source()
        default = self.strategy.backbone
        small = backbone or {**default, **SMALL.get(str(default.get("name")), {})}
        setting = Setting(
            CLASSES, source.image_shape, seed, self.device or device_here(chosen_device("auto")),
            PixelStatistics(source.mean, source.deviation), small,
            configure(OptimizerConfig, self.strategy.default_optimizer, "optimizer"),
            kind="episodes" if self.episodic else self.stream().kind, shows_boundaries=True,
            base=BaseConfig(epochs=1, batch_size=BATCH, validation=0), way=WAY if self.episodic else 0,
            augment=augment or AugmentConfig(),
        )  # fmt: skip
        return self.strategy(setting, self.options)

    def simulation(
        self,
        plan: Plan | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        folder: RunFolder | None = None,
        watch: type[Watch] | None = None,
        backbone: Mapping[str, Any] | None = None,
        augment: AugmentConfig | None = None,
    ) -> StreamSimulation | EpisodeSimulation:
        """A run of at most 60 steps, ready to be driven. watch: what its steps are mixed with."""
        chosen = plan or self.plan()
        episodic = isinstance(chosen, EpisodePlan)
        served = Served(
            stream=StreamConfig(2 if episodic else BATCH),
            eval_every=4 if episodic else 1000,
            budget=budget or Budget(exemplars=12),
            evaluation_batch=CLASSES * TEST,
        )
        given = (tiny_source(), served, lambda event: None, folder)
        made = self.make(seed, backbone, augment)
        if isinstance(chosen, EpisodePlan):
            kind = EpisodeSimulation if watch is None else type("Watched", (watch, EpisodeSimulation), {})
            return assemble_episodes(made, chosen, *given, kind)
        kind = StreamSimulation if watch is None else type("Watched", (watch, StreamSimulation), {})
        return assemble(made, chosen, *given, kind)

    def spec(self, plan: Plan) -> RunSpec:
        """What a run folder of such a run says of it."""
        return RunSpec(
            scenario="check",
            source="check",
            strategy=self.name,
            label=self.name,
            seed=1,
            plan_seed=0,
            budget=Budget(exemplars=12),
            eval_every=1000,
            device="cpu",
            source_digest="",
            plan_fingerprint=plan.fingerprint,
            ceiling=False,
            record=(),
            data="",
            scenario_options={},
            stream=StreamConfig(BATCH),
            backbone={},
            optimizer=OptimizerConfig(),
            strategy_options={},
            compute=ComputeConfig(),
            base=BaseConfig(),
            first=FirstConfig(),
            augment=AugmentConfig(),
            preprocess=PreprocessConfig(),
        )

    def run(self, **about: Any) -> StreamSimulation | EpisodeSimulation:
        """The same, driven to its end; a crash is Broken, at the plugin's line."""
        try:
            with as_in_a_run(), global_randomness(about.get("seed", 0), "run"):
                simulation = self.simulation(**about)
                drive(simulation)
        except (Broken, Killed):
            raise
        except Exception as error:
            raise Broken(f"{type(error).__name__}: {error}", self.line_of_error(error)) from error
        return simulation

    def plan(self) -> Plan:
        """What it is run on: experiences of two classes each, or episodes."""
        return tiny_episodes() if self.episodic else self.stream()

    def stream(
        self, parts: Sequence[Sequence[int]] | None = None, rows: Sequence[Any] | None = None
    ) -> StreamPlan:
        """Experiences of these classes (three of two each), or of these training rows."""
        kind = "online" if "online" in self.strategy.needs.kinds else "sessions"
        labels, test = tiny_source().train_labels, tiny_source().test_labels
        experiences = []
        for number, classes in enumerate(parts or ((0, 1), (2, 3), (4, 5))):
            candidates = (
                np.flatnonzero(np.isin(labels, classes))
                if rows is None
                else np.asarray(rows[number], np.int64)
            )
            order = candidates[Draws(0, "check", number).permutation(len(candidates))]
            judged = (
                np.flatnonzero(np.isin(test, classes))
                if rows is None or number == 0
                else np.zeros(0, np.int64)
            )
            experiences.append(Experience(order, judged, tuple(classes)))
        plan = StreamPlan("check", kind, CLASSES, True, 0, {}, tuple(experiences))
        return replace(plan, has_base=self.strategy.base is not None)

    def line_of(self, word: str) -> str:
        """`file.py, line 12`: where the word is first given a value, else where it first stands."""
        try:
            lines = Path(self.file).read_text(encoding="utf-8").splitlines()
        except OSError:
            return ""
        escaped = re.escape(word)
        for pattern in (rf"(?<![\w.]){escaped}\s*(:[^=]+)?=[^=]", rf"(?<![\w.]){escaped}"):
            for number, line in enumerate(lines, 1):
                if re.search(pattern, line):
                    return f"{Path(self.file).name}, line {number}"
        return Path(self.file).name

    def line_of_error(self, error: BaseException) -> str:
        """The innermost line of the strategy's own file in a traceback."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == self.file]
        return f"{Path(self.file).name}, line {frames[-1].lineno}" if frames else ""


class Watch:
    """What a check mixes into a simulation, before it in the order of bases: it sees every step."""

    if TYPE_CHECKING:  # the simulation's own, which `super()` finds

        def learn(self, served: Any) -> None: ...

        def end(self, number: int) -> None: ...


def tiny_episodes(query: int = 2, count: int = 8) -> EpisodePlan:
    """2-way 2-shot episodes, two classes a phase."""

    def phase(name: Phase, classes: tuple[int, ...], episodes: int) -> Episodes:
        everything = np.concatenate([tiny_source().train_labels, tiny_source().test_labels])
        members = [np.flatnonzero(everything == label) for label in classes]
        sizes = tuple(len(rows) for rows in members)
        return Episodes(0, name, classes, np.concatenate(members), sizes, (2,) * WAY, query, episodes)

    return EpisodePlan(
        "check", CLASSES, 0, {}, phase("train", (0, 1), count), phase("validation", (2, 3), 2),
        phase("test", (4, 5), 4),
    )  # fmt: skip


@cache
def tiny_source() -> SharedSource:
    """Six classes of 8 + 4 grey images of 28x28: a pattern each, under noise."""
    draws = np.random.Generator(np.random.Philox(key=7))
    patterns = draws.integers(0, 256, (CLASSES, 1, SIZE, SIZE))

    def split(count: int) -> tuple[Any, Any]:
        labels = np.tile(np.arange(CLASSES), count)
        noise = draws.normal(0, 40, (len(labels), 1, SIZE, SIZE))
        return np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8), labels.astype(np.int64)

    train, test = split(TRAIN), split(TEST)
    names = tuple("abcdef"[:CLASSES])
    return SharedSource("check", names, "", 0.5, 0.3, *train, *test)


class NoState(Exception):
    """A state that no checkpoint can hold: one check says so, those that compare are not reached."""


def state_of(strategy: Strategy) -> tuple[Any, dict[str, Tensor]]:
    """Its state in a form that can be compared; raises NoState."""
    try:
        return strategy.account.take_state()
    except StreamlabError as error:
        raise NoState(str(error)) from error


def difference(left: tuple[Any, dict[str, Tensor]], right: tuple[Any, dict[str, Tensor]]) -> str | None:
    """The first attribute in which two states differ, or None."""
    (plain, tensors), (other, others) = left, right
    for name in {**plain, **other}:
        if name not in plain or name not in other:
            return str(name)
        if not _same(plain[name], other[name], tensors, others):
            return str(name)
    return None


def _same(one: Any, two: Any, tensors: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    if isinstance(one, dict) and isinstance(two, dict):
        if "tensor" in one and "tensor" in two:
            a, b = tensors[one["tensor"]], others[two["tensor"]]
            return a.shape == b.shape and a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
        return one.keys() == two.keys() and all(
            _same(one[k], two[k], tensors, others) for k in one if k != "id"
        )
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(
            _same(a, b, tensors, others) for a, b in zip(one, two, strict=True)
        )
    return bool(one == two)
