"""Rates move as torch's schedulers move them, in runs as by hand; optimizers are torch's by name."""

from __future__ import annotations

import dataclasses
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from making import broken_off, carry_on, resolved, simulate
from torch import Tensor, nn
from torch.optim import lr_scheduler

from streamlab import plugins
from streamlab.augmentation.pipelines import AugmentConfig
from streamlab.augmentation.protocol import Plain
from streamlab.augmentation.views import view
from streamlab.batch import Batch
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.nets.optimizer import build_optimizer, retune, torch_options
from streamlab.parts.losses import cross_entropy
from streamlab.randomness import Draws
from streamlab.runs.folder import RunFolder
from streamlab.runs.spec import load_strategy
from streamlab.schedules import Moment, rate_factor
from streamlab.strategy import Strategy
from streamlab.training import OptimizerConfig

SESSIONS: dict[str, Any] = {
    "scenario": {"kind": "sessions", "tasks": 3, "class_order": "sorted"},
    "stream": {"batch_size": 16, "epochs": 4},
}


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(3, 40),
    gamma=st.floats(0.05, 0.99),
    every=st.integers(1, 9),
    milestones=st.lists(st.integers(1, 39), min_size=1, max_size=4, unique=True),
    floor=st.floats(0, 0.5),
)
def test_each_schedule_is_torchs(
    length: int, gamma: float, every: int, milestones: list[int], floor: float
) -> None:
    theirs = {
        "step": (lambda o: lr_scheduler.StepLR(o, every, gamma), {"gamma": gamma, "every": every}),
        "multistep": (
            lambda o: lr_scheduler.MultiStepLR(o, sorted(milestones), gamma),
            {"gamma": gamma, "milestones": tuple(milestones)},
        ),
        "exponential": (lambda o: lr_scheduler.ExponentialLR(o, gamma), {"gamma": gamma}),
        "cosine": (lambda o: lr_scheduler.CosineAnnealingLR(o, length, floor), {"floor": floor}),
        "linear": (lambda o: lr_scheduler.LinearLR(o, 1.0, floor, length), {"floor": floor}),
        "one-cycle": (lambda o: lr_scheduler.OneCycleLR(o, 1.0, length, cycle_momentum=False), {}),
    }
    for name, (make, options) in theirs.items():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
        scheduler = make(optimizer)
        config = OptimizerConfig(lr=1.0, schedule=name, **options)
        for position in range(length):
            factor = rate_factor(config, Moment(position, length, position, length))
            assert factor == pytest.approx(scheduler.get_last_lr()[0], rel=1e-6, abs=1e-7), (name, position)
            optimizer.step()
            if position < length - 1:
                scheduler.step()


def test_a_warm_up_rises_in_a_line_and_shares_are_of_the_whole() -> None:
    config = OptimizerConfig(schedule="cosine", warmup=4, unit="step")
    factors = [rate_factor(config, Moment(step, 12, 0, 1)) for step in range(12)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[8] == pytest.approx(0.5)
    config = OptimizerConfig(schedule="multistep", milestones=(0.5, 0.75), unit="share", warmup=0.2)
    factors = [rate_factor(config, Moment(step, 20, 0, 1)) for step in range(20)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, *[1.0] * 6, *[0.1] * 5, *[0.01] * 5])


class Told(Strategy):
    """Notes its rate at each step."""

    backbone: ClassVar[dict[str, Any]] = {"name": "mlp", "widths": "12"}

    def setup(self) -> None:
        self.rates: list[float] = []

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        assert self.optimizer is not None
        self.rates.append(self.optimizer.param_groups[-1]["lr"])
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}


def test_a_run_of_sessions_is_the_plain_loop_with_torchs_optimizer_and_scheduler(tiny: Source) -> None:
    """As PyCIL trains: a new optimizer and scheduler each session, one step of it an epoch, another first."""
    optimizer = {
        "lr": 0.1, "momentum": 0.9, "weight_decay": 2e-4, "restart": True, "schedule": "multistep",
        "milestones": [2, 3],
    }  # fmt: skip
    first = {"epochs": 6, "lr": 0.2, "weight_decay": 5e-4, "milestones": [3]}
    given = {**SESSIONS, "optimizer": optimizer, "first": first}
    ours = simulate(tiny, Told, scenario="class-incremental", settings=given)
    unmoved = {**SESSIONS, "optimizer": {"lr": 1e-30}}
    begun = simulate(tiny, Told, scenario="class-incremental", settings=unmoved)
    net = begun.strategy.net
    net.train()
    for number, experience in enumerate(ours.plan.experiences):
        lr, decay, milestones, epochs = (0.2, 5e-4, [3], 6) if number == 0 else (0.1, 2e-4, [2, 3], 4)
        sgd = torch.optim.SGD(net.parameters(), lr, 0.9, weight_decay=decay)
        scheduler = lr_scheduler.MultiStepLR(sgd, milestones)
        for epoch in range(epochs):
            draws = Draws(0, "order", number, epoch)
            order = experience.indices[draws.permutation(len(experience.indices))]
            for start in range(0, len(order), 16):
                rows = order[start : start + 16]
                images, labels = ours.train.images_at(torch.from_numpy(rows)), tiny.train_labels[rows]
                loss = F.cross_entropy(net(images), torch.from_numpy(labels))
                sgd.zero_grad()
                torch.autograd.backward(loss)
                sgd.step()
            scheduler.step()
    for mine, its in zip(ours.strategy.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_a_schedule_runs_through_an_online_stream_whose_boundaries_are_hidden(tiny: Source) -> None:
    optimizer = {"lr": 0.5, "schedule": "linear", "unit": "step", "over": "stream"}
    given = {"stream": {"batch_size": 7, "updates_per_batch": 2}, "optimizer": optimizer}
    strategy = simulate(tiny, Told, settings=given).strategy
    assert isinstance(strategy, Told)
    count = len(strategy.rates)
    assert strategy.rates == pytest.approx([0.5 * (1 - step / count) for step in range(count)])


def test_killed_anywhere_a_run_with_a_schedule_ends_with_the_same_bits(
    tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first session, whose rate and decay are others', and later."""
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr("streamlab.simulator.simulation.patience", lambda cost=0.0: 0.0)
    optimizer = {"name": "adamw", "lr": 0.01, "restart": True, "schedule": "cosine", "unit": "step"}
    first = {"lr": 0.03, "weight_decay": 0.1, "epochs": 2, "warmup": 3}
    given = {**SESSIONS, "optimizer": {**optimizer, "backbone_lr": 0.5, "decay_norms": False}, "first": first}
    request = {"scenario": "class-incremental", "settings": given, "budget": "20ex"}
    grid = resolved(tiny, "er", **request)
    (cell,) = grid.cells
    assert carry_on(grid, tmp_path / "whole")
    whole = RunFolder(tmp_path / "whole" / cell.folder)
    for after in (2, 8, 9, 10, 25):  # the ninth stands between the first session and the second
        out = tmp_path / str(after)
        broken_off(grid, out, after)
        assert carry_on(grid, out)
        broken = RunFolder(out / cell.folder)
        for path in sorted((whole.path / "evaluations").iterdir()):
            assert path.read_bytes() == (broken.path / "evaluations" / path.name).read_bytes(), (after, path)


def test_optimizers_are_torchs_by_name() -> None:
    needs_more = {"lbfgs", "sparseadam", "muon"}
    there = {
        cls.__name__.lower()
        for cls in vars(torch.optim).values()
        if isinstance(cls, type)
        and issubclass(cls, torch.optim.Optimizer)
        and cls is not torch.optim.Optimizer
    }
    assert set(plugins.names("optimizers")) | needs_more >= there - needs_more
    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    config = OptimizerConfig(
        "adamw", 0.1, weight_decay=0.3, backbone_lr=0.01, decay_norms=False, options={"betas": "0.5,0.75"}
    )
    made = build_optimizer(config, [weight, bias], [weight])
    assert isinstance(made, torch.optim.AdamW)
    assert [(group["lr"], group["weight_decay"]) for group in made.param_groups] == [(0.001, 0.3), (0.1, 0.0)]
    assert made.param_groups[0]["betas"] == (0.5, 0.75)
    retune(made, config, dataclasses.replace(config, lr=0.2, weight_decay=0.0))
    retune(made, dataclasses.replace(config, lr=0.2), dataclasses.replace(config, lr=0.1, weight_decay=0.5))
    assert [(group["lr"], group["weight_decay"]) for group in made.param_groups] == [(0.001, 0.5), (0.1, 0.0)]
    assert torch_options(OptimizerConfig("rmsprop", options={"alpha": 0.0})) == {"alpha": 0.0}
    for name in plugins.names("optimizers"):
        assert type(build_optimizer(OptimizerConfig(name), [weight])).__name__.lower() == name


def test_gradients_are_clipped_to_a_norm(tiny: Source) -> None:
    before = simulate(tiny, Told, settings={"optimizer": {"lr": 1e-30}}, scenario="class-incremental")
    strategy, batch = before.strategy, Batch(before.train.images_at(torch.arange(10)), torch.arange(10) % 6)
    strategy.tune(dataclasses.replace(strategy.setting.optimizer, lr=1.0, clip=0.01))
    begun = [parameter.clone() for parameter in strategy.net.parameters()]
    strategy.observe(batch)
    moved = [
        (one - other).detach().pow(2).sum()
        for one, other in zip(begun, strategy.net.parameters(), strict=True)
    ]
    assert float(torch.stack(moved).sum().sqrt()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("scenario", "given", "sentence"),
    [
        ("si-blurry", {"optimizer": {"schedule": "cosine"}}, "si-blurry hides where experiences begin, and optimizer.over=experience would tell"),
        ("si-blurry", {"optimizer": {"restart": True}}, "and optimizer.restart would tell"),
        ("si-blurry", {"first": {"lr": 0.1}}, "and the section first would tell"),
        ("class-incremental", {"optimizer": {"schedule": "cosine"}}, "so that a schedule cannot count epochs; set optimizer.unit to step or share"),
        ("class-incremental", {"first": {"epochs": 3}}, "first: epochs is 3, and class-incremental is an online stream"),
        ("sessions", {"optimizer": {"schedule": "multistep", "milestones": "2,4"}}, "optimizer: milestone 4 lies past the end: experience 1 has 4 epochs"),
        ("sessions", {"optimizer": {"schedule": "cosine", "warmup": 4}}, "optimizer: warmup 4 lies past the end"),
        ("sessions", {"first": {"milestones": "5"}, "optimizer": {"schedule": "multistep", "milestones": "3"}}, "milestone 5 lies past the end: experience 1 has 4 epochs"),
        ("sessions", {"optimizer": {"schedule": "multistep", "milestones": "0.5,1", "unit": "share"}}, "milestone 1 lies past the end: experience 1 has 1 as a share"),
        ("sessions", {"optimizer": {"schedule": "cosin"}}, "unknown schedule 'cosin'; did you mean 'cosine'?"),
        ("sessions", {"optimizer": {"schedule": "step"}}, "the schedule step needs every, as optimizer.every=30"),
        ("sessions", {"optimizer": {"schedule": "multistep"}}, "the schedule multistep needs milestones, as 60,120"),
        ("sessions", {"optimizer": {"schedule": "one-cycle", "unit": "share"}}, "one-cycle warms up by itself"),
        ("sessions", {"optimizer": {"name": "adm"}}, "unknown optimizer 'adm'; did you mean 'adam'?"),
        ("sessions", {"optimizer": {"name": "adam", "momentum": 0.9}}, "optimizer: adam takes no momentum"),
        ("sessions", {"optimizer": {"options": {"betas": "0.9,0.99"}}}, "optimizer: sgd takes no betas"),
        ("sessions", {"optimizer": {"gamma": 2}}, "optimizer: gamma is 2"),
        ("sessions", {"optimizer": {"milestones": "2"}}, "milestones are of the schedule multistep, not constant"),
        ("sessions", {"first": {"milestones": "2"}}, "milestones are of the schedule multistep, and no strategy has it"),
        ("class-incremental", {"first": {"warmup": 3}}, "so that a schedule cannot count epochs"),
        ("sessions", {"optimizer": {"options": {"lr": 1}}}, "lr is no option of options; set optimizer.lr"),
        ("sessions", {"optimizer": {"name": "rprop", "weight_decay": 0.1}}, "optimizer: rprop takes no weight_decay"),
        ("sessions", {"optimizer": {"name": "adam", "options": {"nonsense": 0}}}, "optimizer: adam takes no nonsense"),
    ],
)  # fmt: skip
def test_what_has_no_room_is_refused(
    tiny: Source, scenario: str, given: dict[str, Any], sentence: str
) -> None:
    if scenario == "sessions":
        scenario, given = "class-incremental", {**SESSIONS, **given}
    with pytest.raises(StreamlabError) as refused:
        resolved(tiny, "finetune", scenario=scenario, settings=given)
    assert sentence in str(refused.value)


def test_fosters_compression_begins_the_schedule_of_experiences_anew(
    tiny: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors: list[float] = []
    monkeypatch.setattr(
        "streamlab.strategies.foster.scale_rate", lambda optimizer, factor: factors.append(factor)
    )
    rates = {"schedule": "linear", "unit": "step"}
    given = {**SESSIONS, "scenario": {**SESSIONS["scenario"], "tasks": 2}, "optimizer": rates}
    for over, expected in (("experience", [1 - step / 10 for step in range(10)]), ("stream", [1 / 64] * 10)):
        factors.clear()
        settings = {**given, "optimizer": {**rates, "over": over}}
        foster = "foster:compression_epochs=2,compression_batch=25"
        simulate(tiny, foster, scenario="class-incremental", settings=settings, budget="30ex")
        assert factors == pytest.approx(expected), over


@pytest.mark.parametrize(
    "given",
    [
        {"optimizer": {"schedule": "cosine", "unit": "step"}},
        {"optimizer": {"clip": 1.0}},
        {"first": {"lr": 0.1}},
        {"augment": {"pipeline": "crop-flip"}},
    ],
)
def test_who_trains_by_a_loop_of_its_own_is_refused_what_it_would_not_do(
    tiny: Source, given: dict[str, Any]
) -> None:
    pytest.importorskip("avalanche")
    settings = {"scenario": SESSIONS["scenario"], **given}
    with pytest.raises(
        StreamlabError, match="avalanche:Naive trains by a loop of its own, at one rate on images"
    ):
        resolved(tiny, "avalanche:Naive", scenario="class-incremental", settings=settings)
    resolved(
        tiny, "avalanche:Naive", scenario="class-incremental", settings={"scenario": SESSIONS["scenario"]}
    )


def test_a_later_session_that_is_too_short_for_a_milestone_is_refused(tiny: Source) -> None:
    settings = {
        "scenario": {"kind": "sessions", "base": 4, "tasks": 2},
        "stream": {"batch_size": 10},
        "optimizer": {"schedule": "multistep", "unit": "step", "milestones": [10]},
    }
    with pytest.raises(StreamlabError, match="milestone 10 lies past the end: experience 2 has 8 steps"):
        resolved(tiny, "finetune", scenario="class-incremental", settings=settings)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_label_smoothing_is_torchs_over_the_classes_that_compete(smoothing: float) -> None:
    logits, labels = torch.randn(9, 6, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, labels, smoothing=smoothing), expected)
    among = torch.tensor([True, True, True, False, True, False])
    expected = F.cross_entropy(logits[:, among], labels, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, labels, among, smoothing), expected)


def test_a_strategy_smooths_its_labels_or_is_refused_to(tiny: Source) -> None:
    smoothed = {"optimizer": {"label_smoothing": 0.3}}
    told, refused = [], []
    for name in plugins.names("strategies"):
        strategy = load_strategy(name)
        if strategy.base or "sessions" not in strategy.needs.kinds:
            assert not strategy.smooths_labels
            continue
        asked: dict[str, Any] = {"scenario": "class-incremental", "budget": "60ex"}
        settings = {"scenario": {"kind": "sessions"}}
        if not strategy.smooths_labels:
            with pytest.raises(StreamlabError, match="without label smoothing; leave out"):
                resolved(tiny, name, settings={**settings, **smoothed}, **asked)
            refused.append(name)
            continue
        if strategy.backbone["name"] != "mlp":  # prompts take long
            continue
        networks = []
        for more in ({}, smoothed):
            learned = simulate(tiny, name, settings={**settings, **more}, **asked).strategy
            networks.append([value.detach().clone() for value in learned.net.parameters()])
        assert not all(torch.equal(*pair) for pair in zip(*networks, strict=True)), name
        told.append(name)
    assert len(told) > 12
    assert {"icarl", "gdumb", "memo", "expandable-der"} <= set(refused)


def test_a_strangers_schedule_and_pipeline_work_as_ours(
    tiny: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By entry point: a schedule that halves at every epoch, and a pipeline of one operation of its own."""
    ours = plugins._entry_points
    strangers = {
        "schedules": EntryPoint("halving", "strangers:halving", "streamlab.schedules"),
        "augmentations": EntryPoint("inverted", "strangers:INVERTED", "streamlab.augmentations"),
    }
    module = ModuleType("strangers")
    vars(module).update(
        halving=lambda config, position, length: 0.5**position,
        INVERTED=(Inverted(),),
    )
    monkeypatch.setitem(sys.modules, "strangers", module)
    monkeypatch.setattr(
        plugins,
        "_entry_points",
        lambda kind: {
            **ours(kind),
            **({strangers[kind].name: [strangers[kind]]} if kind in strangers else {}),
        },
    )
    assert rate_factor(OptimizerConfig(schedule="halving"), Moment(0, 8, 3, 4)) == 0.125
    steps = AugmentConfig("inverted").steps
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    assert bool((view(images, steps, 0, 0) == 255).all())
    ran = simulate(tiny, "er", settings={"augment": {"pipeline": "inverted"}})
    assert ran.progress.samples_seen == ran.total_samples


@dataclasses.dataclass(frozen=True)
class Inverted(Plain):
    """A stranger's operation."""

    draws: ClassVar[int] = 0

    def of(self, images: Tensor, uniforms: Tensor) -> Tensor:
        return 255 - images
