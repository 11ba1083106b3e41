"""What a run costs: seconds against a clock of ours, memory against a known allocation."""

from __future__ import annotations

import pytest
import torch
from making import simulate

from streamlab.batch import Batch
from streamlab.data.source import Source
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.simulator import simulation as module
from streamlab.simulator.resources import flops_of, peak_memory, reset_peak_memory
from streamlab.strategy import Strategy


class Clocked(Strategy):
    """Its clock moves only when it works: 2 s a batch, 3 s a consolidation, 5 s a prediction."""

    now = 0.0

    def observe(self, batch: Batch) -> dict[str, torch.Tensor]:
        type(self).now += 2
        return {}

    def consolidate(self) -> None:
        type(self).now += 3

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        type(self).now += 5
        return self.net(images)


def test_seconds_are_of_training_and_of_evaluation_apart(
    tiny: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clocked.now = 0.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: Clocked.now)
    simulation = simulate(tiny, Clocked, settings={"stream": {"batch_size": 60}, "scenario": {"tasks": 2}})
    evaluations = len(simulation.evaluations)
    lengths = [len(experience.indices) for experience in simulation.plan.experiences]
    steps = sum(-(-length // 60) for length in lengths)  # no batch spans tasks
    assert simulation.progress.train_seconds == steps * 2 + 3 * evaluations
    assert simulation.progress.evaluation_seconds == 5 * evaluations


def test_peak_memory_sees_what_was_held_for_a_moment() -> None:
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory(cpu)
    torch.ones(50_000_000).sum()
    assert 190e6 < peak_memory(cpu) - before < 260e6
    reset_peak_memory(cpu)
    assert peak_memory(cpu) - before < 100e6


def test_flops_are_two_a_multiply_add() -> None:
    left, right = torch.ones(3, 4), torch.ones(4, 5)
    result, flops = flops_of(lambda: left @ right)
    assert result.shape == (3, 5)
    assert flops == 2 * 3 * 4 * 5
    picture, kernel = torch.ones(2, 3, 8, 8), torch.ones(6, 3, 3, 3)
    assert flops_of(lambda: torch.nn.functional.conv2d(picture, kernel))[1] == 2 * 2 * 6 * 6 * 6 * 3 * 9


@pytest.mark.parametrize("backbone", ["mlp", "convnet", "resnet32"])
def test_flops_of_a_step_are_those_that_torch_counts(backbone: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    net = build_network({"name": backbone}, (3, 32, 32), 10, PixelStatistics(0.5, 0.25))
    images, labels = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)

    def step() -> None:
        torch.nn.functional.cross_entropy(net(images), labels).backward()

    with FlopCounterMode(display=False) as reference:
        step()
    assert flops_of(step)[1] == reference.get_total_flops()


def test_flops_of_products_written_in_other_ways() -> None:
    left, right = torch.ones(2, 3, 4), torch.ones(2, 4, 5)
    expected = 2 * 2 * 3 * 4 * 5
    assert flops_of(lambda: torch.bmm(left, right))[1] == expected
    assert flops_of(lambda: torch.einsum("bij,bjk->bik", left, right))[1] == expected
    assert flops_of(lambda: torch.addmm(torch.ones(3, 5), left[0], right[0]))[1] == expected / 2
    query = torch.ones(1, 2, 7, 8)
    attention = flops_of(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))[1]
    assert attention == 2 * 2 * (7 * 8 * 7 + 7 * 7 * 8)


def test_counting_flops_changes_no_bit(tiny: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = simulate(tiny, "er", settings={"backbone": {"name": "convnet", "blocks": 2}})
    monkeypatch.setattr(module, "flops_of", lambda step: (step(), 0.0))
    plain = simulate(tiny, "er", settings={"backbone": {"name": "convnet", "blocks": 2}})
    pairs = zip(counted.strategy.net.parameters(), plain.strategy.net.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)
    assert counted.progress.flops_per_step > 0


def test_operations_of_remember_count_too(tiny: Source) -> None:
    """A method that computes features where it is offered a batch costs what one does that learns from them."""
    settings = {"backbone": {"name": "mlp", "widths": (16,)}, "stream": {"updates_per_batch": 3}}
    run = simulate(
        tiny, "simplecil", scenario="class-incremental", settings={**settings, "scenario": {"tasks": 2}}
    )
    samples = len(tiny.train_labels)
    assert run.progress.flops == pytest.approx(2 * 64 * 16 * samples)
