"""The drivers: their drawing is true, and what is learned depends on nothing but its cause."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_source, simulate

import streamlab
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.simulator import events
from streamlab.strategy import Batch, ExperienceView, Strategy


@dataclass(frozen=True)
class JointOptions:
    epochs: int = 2
    batch_size: int = 16


class Spy(Strategy):
    """Writes down what is called, and learns nothing."""

    calls: list[str]

    def setup(self) -> None:
        type(self).calls = []

    def observe(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.calls.append(f"observe {len(batch)}")
        return {"task": torch.zeros(())}

    def remember(self, batch: Batch) -> None:
        self.calls.append("remember")

    def begin_experience(self, view: ExperienceView) -> None:
        self.calls.append(f"begin {view.number} ({len(view)})")

    def end_experience(self, view: ExperienceView) -> None:
        self.calls.append(f"end {view.number}")

    def consolidate(self) -> None:
        self.calls.append("consolidate")


class JointSpy(Spy):
    options: JointOptions
    learns_jointly = True


@pytest.fixture(scope="module")
def few() -> Source:
    return make_source(classes=4, train=6, test=3)


def trace(source: Source, **request: object) -> list[str]:
    """What a tiny run did, strategy's calls and kernel's events in one order."""
    calls: list[str] = []

    def hear(event: events.Event) -> None:
        calls.extend(Spy.calls)
        Spy.calls.clear()
        match event:
            case events.Progressed():
                return
            case events.ExperienceStarted() | events.ExperienceEnded():
                calls.append(f"{type(event).__name__} {event.experience}")
            case events.ClassesArrived():
                calls.append(f"ClassesArrived {len(event.classes)}")
            case events.Evaluated():
                calls.append(f"Evaluated {event.samples_seen} {event.task_ends}")
            case _:
                calls.append(type(event).__name__)

    simulate(source, Spy, hear, **{"scenario": "i-blurry", **request})
    return calls


def settings(**sections: dict[str, object]) -> dict[str, dict[str, object]]:
    scenario = {"tasks": 2, "disjoint_percent": 100}
    return {**sections, "scenario": {**scenario, **sections.get("scenario", {})}}


def test_the_golden_trace_of_an_online_stream_with_boundaries_shown(few: Source) -> None:
    options = settings(stream={"batch_size": 5, "updates_per_batch": 2}, scenario={"boundaries": "shown"})
    assert trace(few, eval_every=10, settings=options) == [
        "RunStarted",
        "ExperienceStarted 0",
        "begin 0 (12)",
        "ClassesArrived 2",
        "observe 5",
        "observe 5",
        "remember",
        "observe 5",
        "observe 5",
        "remember",
        "consolidate",
        "Evaluated 10 ()",
        "observe 2",
        "observe 2",
        "remember",
        "end 0",
        "consolidate",
        "Evaluated 12 (0,)",
        "ExperienceEnded 0",
        "ExperienceStarted 1",
        "begin 1 (12)",
        "ClassesArrived 2",
        "observe 5",
        "observe 5",
        "remember",
        "observe 5",
        "observe 5",
        "remember",
        "consolidate",
        "Evaluated 22 ()",
        "observe 2",
        "observe 2",
        "remember",
        "end 1",
        "consolidate",
        "Evaluated 24 (1,)",
        "ExperienceEnded 1",
    ]


def test_of_hidden_boundaries_nothing_is_told_and_no_batch_spans_one(few: Source) -> None:
    calls = trace(few, eval_every=10, settings=settings(stream={"batch_size": 5}))
    assert [call for call in calls if call.startswith("observe")] == [
        "observe 5",
        "observe 5",
        "observe 2",
    ] * 2
    assert not any(call.startswith(("begin", "end")) for call in calls)
    assert calls[-6:] == [
        "Evaluated 22 ()",
        "observe 2",
        "remember",
        "consolidate",
        "Evaluated 24 (1,)",
        "ExperienceEnded 1",
    ]


def test_the_golden_trace_of_sessions(few: Source) -> None:
    calls: list[str] = []

    def hear(event: events.Event) -> None:
        calls.extend(JointSpy.calls)
        JointSpy.calls.clear()
        if not isinstance(event, (events.Progressed, events.ClassesArrived)):
            calls.append(type(event).__name__)

    simulate(few, JointSpy, hear, settings=settings())
    assert calls == [
        "RunStarted",
        "ExperienceStarted",
        "begin 0 (24)",
        "observe 16",
        "observe 8",
        "observe 16",
        "remember",
        "observe 8",
        "remember",
        "end 0",
        "consolidate",
        "Evaluated",
        "ExperienceEnded",
    ]


@pytest.mark.parametrize("selection", ["reservoir", "balanced", "herding"])
def test_no_buffer_holds_a_sample_twice_however_many_epochs(few: Source, selection: str) -> None:
    given = {"stream": {"epochs": 3, "batch_size": 4}, "scenario": {"kind": "sessions", "tasks": 2}}
    request = {"scenario": "class-incremental", "settings": given, "budget": "20ex"}
    held = simulate(few, f"er:selection={selection}", **request).strategy.account.buffers[0]
    images = {image.numpy().tobytes() for image in held.everything().images}
    assert len(images) == len(held) == 20


def weights(source: Source, strategy: str, **request: object) -> torch.Tensor:
    simulation = simulate(source, strategy, **request)
    return torch.cat([p.detach().flatten() for p in simulation.strategy.net.parameters()])


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tiny: Source) -> None:
    first = weights(tiny, "er")
    torch.manual_seed(99)
    assert torch.equal(weights(tiny, "er"), first)
    assert not torch.equal(weights(tiny, "er", plan_seed=1), first)


def test_evaluating_more_often_never_changes_what_is_learned(tiny: Source) -> None:
    for strategy in ("er", "slda"):
        often = simulate(tiny, strategy, eval_every=20).strategy
        rarely = simulate(tiny, strategy, eval_every=10_000).strategy
        for left, right in zip(walk_tensors(often), walk_tensors(rarely), strict=True):
            assert torch.equal(left, right)


def walk_tensors(strategy: Strategy) -> list[torch.Tensor]:
    return list(strategy.account.take_state()[1].values())


def test_a_run_leaves_the_callers_global_state_alone(tiny: Source, tmp_path: Path) -> None:
    torch.manual_seed(5), np.random.seed(5)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(5), np.random.seed(5)
    torch.set_num_threads(2)
    streamlab.run(source=tiny, strategies=["er"], seeds=1, workers=0, out=tmp_path / "out", show=False)
    assert torch.equal(torch.rand(2), expected[0])
    np.testing.assert_array_equal(np.random.rand(2), expected[1])
    assert torch.get_num_threads() == 2


def test_what_the_strategy_reports_is_counted(tiny: Source) -> None:
    simulation = simulate(tiny, "er", settings={"stream": {"updates_per_batch": 2}})
    progress = simulation.progress
    assert progress.samples_seen == 240
    lengths = [len(experience.indices) for experience in simulation.plan.experiences]
    assert progress.steps == 2 * sum(-(-length // 10) for length in lengths)  # no batch spans tasks
    # Two Linear layers (64 -> 256 -> 6) on 20 samples: forward, and backward without the input's.
    assert progress.flops_per_step == 2 * 20 * (64 * 256 * 2 + 256 * 6 * 3)
    assert progress.exemplars == 240
    assert progress.held["exemplars"] == 500 * (64 + 8)


class Diverging(Strategy):
    def observe(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"task": torch.tensor(float("nan") if batch.labels.sum() > 20 else 1.0)}


def test_a_loss_that_is_no_number_names_its_step(tiny: Source) -> None:
    with pytest.raises(StreamlabError, match=r"task is nan at step \d+; the run has diverged"):
        simulate(tiny, Diverging)
