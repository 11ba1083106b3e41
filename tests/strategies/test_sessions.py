"""Methods of sessions that the survey compares: each one's own idea, and what they hold while they grow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_source, simulate
from torch import nn

from streamlab.batch import Batch
from streamlab.config import Budget
from streamlab.data.source import Source
from streamlab.evaluation.accuracy import a_last
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.parts.expansion import align_weights
from streamlab.parts.rehearsal import Rehearsal
from streamlab.simulator import events
from streamlab.strategies.bic import bias_correction, pixel_hash
from streamlab.strategies.foster import balanced_distillation, class_weights

SESSIONS: dict[str, Any] = {
    "scenario": {"tasks": 3, "kind": "sessions"},
    "stream": {"batch_size": 16, "epochs": 3},
    "backbone": {"name": "convnet", "blocks": 2, "width": 8},
}
CI: dict[str, Any] = {"scenario": "class-incremental", "settings": SESSIONS}
NAMES = ["wa", "bic", "expandable-der", "memo", "foster:compression_batch=16,compression_epochs=10"]


@pytest.fixture(scope="module")
def longer() -> Source:
    return make_source(classes=6, train=60, test=30, contrast=60)


@pytest.fixture(scope="module")
def floor(longer: Source) -> float:
    return a_last(simulate(longer, "finetune", **CI).record())


@pytest.mark.parametrize("name", NAMES)
def test_methods_of_sessions_forget_less_than_finetuning(longer: Source, floor: float, name: str) -> None:
    held: list[int] = []

    def hear(event: events.Event) -> None:
        if isinstance(event, events.Evaluated):
            held.append(sum(event.held.values()))

    simulation = simulate(longer, name, hear, budget="40kB", **CI)
    assert a_last(simulation.record()) > floor + 0.1
    assert max(held) <= 40_000
    counts = torch.bincount(simulation.strategy.buffer.everything().labels, minlength=6)
    assert counts.min() == counts.max() >= 5


@pytest.mark.parametrize("name", ["expandable-der", "memo"])
def test_what_grows_gives_up_exemplars(longer: Source, name: str) -> None:
    seen = []

    def hear(event: events.Event) -> None:
        if isinstance(event, events.Evaluated):
            seen.append((event.held.get("extra models", 0), event.exemplars))

    simulation = simulate(longer, name, hear, budget="16kB", **CI)
    grown, exemplars = zip(*seen, strict=True)
    assert grown[0] == 0 < grown[1] < grown[2] == 2 * grown[1]
    assert exemplars[0] > exemplars[1] > exemplars[2]
    assert simulation.strategy.buffer.images.shape[0] == simulation.strategy.buffer.capacity
    least = simulation.strategy.account.bytes_needed(Budget()) - simulation.strategy.bytes_to_come()
    extractors = simulation.strategy.extractors.backbone
    parameters = sum(p.numel() for p in extractors.parameters())
    assert simulation.strategy.account.ledger().parameters == parameters
    assert (
        least
        == simulation.strategy.account.ledger().total
        - simulation.strategy.account.ledger().bytes_by_kind["exemplars"]
    )


def test_old_extractors_stay_as_they_were_and_the_classifier_inherits(longer: Source) -> None:
    kept: list[tuple[nn.Module, torch.Tensor]] = []

    def hear(event: events.Event) -> None:
        if isinstance(event, events.ExperienceEnded):
            state = torch.cat(
                [t.flatten().clone() for t in simulation.extractors.backbone.newest.state_dict().values()]
            )
            kept.append((simulation.extractors.backbone.newest, state))

    from streamlab.strategies.expandable_der import ExpandableRepresentation

    class Watched(ExpandableRepresentation):
        def setup(self) -> None:
            nonlocal simulation
            simulation = self
            super().setup()

    simulation: Any = None
    simulate(longer, Watched, hear, budget="60kB", **CI)
    for module, state in kept[:-1]:
        now = torch.cat([t.flatten() for t in module.state_dict().values()])
        assert torch.equal(now, state)
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert len(simulation.extractors.backbone.earlier) == 2
    assert simulation.net.head.in_features == 3 * simulation.extractors.backbone.extractor_size


@pytest.mark.parametrize("options", [
    {"name": "convnet", "blocks": 2, "width": 8}, {"name": "resnet10", "width": 4}, {"name": "resnet32", "width": 4},
])  # fmt: skip
def test_a_backbone_is_its_general_and_special_layers(options: dict[str, Any]) -> None:
    network = build_network(options, (1, 16, 16), 4, PixelStatistics(0.5, 0.2)).eval()
    general, special = network.backbone.split()
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(special(general(images)), network.backbone(images))
    own = sum(p.numel() for part in (general, special) for p in part.parameters())
    assert own == sum(p.numel() for p in network.backbone.parameters())


def test_memo_has_one_copy_of_its_general_layers(longer: Source) -> None:
    strategy = simulate(longer, "memo:train_general=false", budget="60kB", **CI).strategy
    general = sum(p.numel() for p in strategy.extractors.backbone.general.parameters())
    special = strategy.extractors.backbone.growth_parameters
    assert strategy.account.ledger().parameters == general + 3 * special
    assert not any(p.requires_grad for p in strategy.extractors.backbone.general.parameters())


def test_weights_are_aligned_to_the_old_length() -> None:
    old, new = (
        torch.tensor([True, True, False, False, False]),
        torch.tensor([False, False, True, True, False]),
    )
    for how, factor in (("shrink", 4.0), ("paper", 4.0), ("paper", 0.25), ("shrink", 0.25), ("none", 4.0)):
        head = nn.Linear(7, 5)
        with torch.no_grad():
            head.weight[new] *= factor
        before = head.weight.detach().clone()
        lengths = before.norm(dim=1)
        ratio = lengths[old].mean() / lengths[new].mean()
        stays = how == "none" or (how == "shrink" and ratio > 1)
        align_weights(head, old, new, how)
        assert torch.equal(head.weight[old], before[old])
        expected = before[new] if stays else before[new] * ratio
        torch.testing.assert_close(head.weight[new].detach(), expected)


def test_the_bias_correction_is_where_the_loss_is_flat_and_least() -> None:
    draws = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(300, 6, generator=draws), torch.randint(6, (300,), generator=draws)
    new = torch.arange(6) >= 3
    logits[:, 3:] += 2.5
    logits[torch.arange(300), labels] += 1.5
    alpha, beta = bias_correction(logits, labels, new)
    pair = torch.tensor([alpha, beta], dtype=torch.float64, requires_grad=True)

    def loss(of: torch.Tensor) -> torch.Tensor:
        corrected = torch.where(new, of[0] * logits.double() + of[1], logits.double())
        ridge = ((of[0] - 1) ** 2 + of[1] ** 2) / (2 * len(labels))
        return F.cross_entropy(corrected, labels) + ridge

    (slope,) = torch.autograd.grad(loss(pair), pair)
    assert slope.abs().max() < 1e-5
    assert loss(pair) < loss(torch.tensor([1.0, 0.0])) - 0.05
    assert beta < 0
    masked = torch.cat([logits, torch.full((300, 1), -torch.inf)], 1)
    assert bias_correction(masked, labels, torch.cat([new, new[:1]])) == pytest.approx(
        (alpha, beta), abs=1e-6
    )


def test_the_bias_correction_of_few_samples_that_can_be_told_apart_stays_small() -> None:
    labels = torch.tensor([0] * 6 + [1] * 6)
    logits = F.one_hot(labels, 2).float() * 3 + torch.tensor([0.0, 1.0])
    alpha, beta = bias_correction(logits, labels, torch.tensor([False, True]))
    assert 0.5 < alpha < 2.0
    assert -2.0 < beta < 0.0


def test_bic_corrects_each_session_but_the_first(longer: Source) -> None:
    images = torch.from_numpy(longer.train_images)
    hashes = pixel_hash(images, 5)
    order = torch.randperm(len(images))
    assert torch.equal(pixel_hash(images[order], 5), hashes[order])
    assert not torch.equal(pixel_hash(images, 6), hashes)
    strategy = simulate(longer, "bic:validation=0.2", budget="120ex", **CI).strategy
    assert (strategy.alpha != 1).sum() == 4  # those of the second and third session


def test_bic_takes_no_step_on_what_is_all_held_out(longer: Source) -> None:
    strategy = simulate(longer, "bic:validation=0.2", budget="120ex", **CI).strategy
    samples = Batch(torch.from_numpy(longer.train_images), torch.from_numpy(longer.train_labels))
    apart = strategy.is_held_out(samples).nonzero().flatten()[:1]
    strategy.rehearsal.begin(range(0), range(1))
    before = strategy.net.head.weight.detach().clone()
    assert strategy.observe(samples.at(apart)) == {}
    assert torch.equal(strategy.net.head.weight, before)


def test_foster_holds_the_boosted_network_and_the_student(longer: Source) -> None:
    simulation = simulate(longer, "foster", budget="120ex", **CI)
    strategy = simulation.strategy
    extractor = sum(tensor.nbytes for tensor in strategy.student.backbone.state_dict().values())
    head = sum(tensor.nbytes for tensor in strategy.student.head.state_dict().values())
    kinds = strategy.account.ledger().bytes_by_kind
    assert kinds["model"] == extractor
    assert (
        kinds["extra models"] == 2 * extractor + 2 * head
    )  # the old network, the student, the old classifier
    assert strategy.account.ledger().parameters == 2 * extractor // 4
    assert simulation.progress.held["extra models"] == kinds["extra models"]
    assert strategy.bytes_to_come(3) == strategy.parameters_to_come(3) == 0


def test_class_weights_are_inverse_effective_numbers() -> None:
    weights = class_weights(torch.tensor([5, 5, 500, 0]), 0.96)
    raw = torch.tensor([0.04 / (1 - 0.96**5)] * 2 + [0.04 / (1 - 0.96**500)])
    torch.testing.assert_close(weights, torch.cat([3 * raw / raw.sum(), torch.ones(1)]))
    logits, teacher = torch.randn(4, 3), torch.randn(4, 3)
    even = balanced_distillation(logits, teacher, torch.ones(3), 2.0)
    torch.testing.assert_close(even, F.cross_entropy(logits / 2, F.softmax(teacher / 2, 1)))


@settings(max_examples=60, deadline=None)
@given(exemplars=st.integers(0, 300), samples=st.integers(1, 300), batch=st.integers(1, 40))
def test_as_many_are_replayed_as_shuffling_would_put_in(exemplars: int, samples: int, batch: int) -> None:
    rehearsal = Rehearsal(0)
    rehearsal.begin(range(exemplars), range(samples))
    sizes = [min(batch, samples - start) for start in range(0, samples, batch)]
    drawn = [rehearsal.beside(range(size)) for size in sizes]
    assert abs(sum(drawn) - exemplars) <= 1
    assert max(drawn) - exemplars / samples * batch <= 1
    assert Rehearsal(7).beside(range(batch)) == 7
