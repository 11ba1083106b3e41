"""The parts that strategies share, each computed once more in another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from streamlab.batch import Batch
from streamlab.errors import StreamlabError
from streamlab.evaluation.features import FeatureCache
from streamlab.memory.policies import GreedyBuffer, HerdedBuffer, equal_shares, herding
from streamlab.parts.gradients import after_a_step, flat_gradient, set_gradient
from streamlab.parts.losses import cross_entropy, distillation
from streamlab.parts.prototypes import Prototypes
from streamlab.parts.regulariser import Regulariser, mean_over_samples
from streamlab.strategies import agem, gdumb, gem


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
    )
    return layers.double()


def batch(count: int, seed: int = 0) -> Batch:
    draws = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 3, 4, generator=draws, dtype=torch.float64)
    return Batch(images, torch.randint(3, (count,), generator=draws))


def test_the_penalty_is_a_sum_of_squares_with_its_gradient() -> None:
    net = network()
    parameters = list(net.parameters())
    penalty = Regulariser(parameters)
    assert not penalty
    importance = [torch.rand_like(p) for p in parameters]
    anchors = [p.detach().clone() for p in parameters]
    penalty.anchor(importance)
    assert penalty
    assert penalty.penalty().item() == 0
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter))
    triples = list(zip(importance, parameters, anchors, strict=True))
    plain = sum((weight * (p - a) ** 2).sum() for weight, p, a in triples)
    value = penalty.penalty()
    torch.testing.assert_close(value, plain, rtol=1e-12, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(3 * value, parameters), torch.autograd.grad(3 * plain, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    penalty.anchor(importance, decay=0.5)
    torch.testing.assert_close(penalty.importance[0], 1.5 * importance[0])
    torch.testing.assert_close(penalty.anchors[0], parameters[0].detach())


@pytest.mark.parametrize("of", [torch.square, torch.abs])
def test_importance_is_the_mean_over_single_samples(of) -> None:
    net, data = network(), batch(40)
    parameters = list(net.parameters())
    found = mean_over_samples(net, parameters, [data], F.cross_entropy, of, 40)
    expected = [torch.zeros_like(p) for p in parameters]
    for row in range(40):
        loss = F.cross_entropy(net(data.images[row : row + 1]), data.labels[row : row + 1])
        for total, gradient in zip(expected, torch.autograd.grad(loss, parameters), strict=True):
            total += of(gradient) / 40
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)
    fewer = mean_over_samples(net, parameters, [batch(3), batch(9, 1)], F.cross_entropy, of, 7)
    joined = batch(3).joined(Batch(batch(9, 1).images[:4], batch(9, 1).labels[:4]))
    again = mean_over_samples(net, parameters, [joined], F.cross_entropy, of, 100)
    torch.testing.assert_close(fewer, again)
    assert all(not total.any() for total in mean_over_samples(net, parameters, [], F.cross_entropy, of, 5))


def test_gems_projection_solves_its_quadratic_program() -> None:
    """Against SciPy's non-negative least squares on the same program."""
    draws = torch.Generator().manual_seed(3)
    for tasks in (1, 2, 5, 12):
        references = torch.randn(tasks, 40, generator=draws, dtype=torch.float64)
        gradient = -references.mean(0) + 0.1 * torch.randn(40, generator=draws, dtype=torch.float64)
        projected = gem.project(gradient, references, margin=0.0)
        assert (references @ projected).min() > -1e-2  # the authors' 1e-3 on the diagonal leaves a trace
        gram = (references @ references.T + 1e-3 * torch.eye(tasks, dtype=torch.float64)).numpy()
        factor = np.linalg.cholesky(gram)
        dual, _ = nnls(factor.T, -np.linalg.solve(factor, (references @ gradient).numpy()))
        expected = gradient + references.T @ torch.from_numpy(dual)
        torch.testing.assert_close(projected, expected, rtol=1e-6, atol=1e-6)


def test_agem_takes_out_what_points_against_the_memory() -> None:
    gradient, reference = torch.tensor([1.0, -2.0]), torch.tensor([0.0, 1.0])
    assert agem.project(gradient, reference).tolist() == [1.0, 0.0]
    assert agem.project(gradient, -reference).tolist() == [1.0, -2.0]
    assert agem.project(gradient, torch.zeros(2)).tolist() == [1.0, -2.0]


def test_gradients_travel_flat_and_a_rehearsed_step_is_taken_back() -> None:
    net, data = network(), batch(8)
    parameters = list(net.parameters())
    loss = F.cross_entropy(net(data.images), data.labels)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    flat = flat_gradient(loss, parameters)
    assert torch.equal(flat, torch.cat([gradient.flatten() for gradient in gradients]))
    set_gradient(parameters, flat)
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(parameters, gradients, strict=True))
    before = [p.detach().clone() for p in parameters]
    with after_a_step(parameters, gradients, 0.1):
        moved = F.cross_entropy(net(data.images), data.labels)
    assert moved < loss
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))


def test_cross_entropy_among_some_classes_is_that_of_their_columns() -> None:
    logits, labels = torch.randn(6, 5), torch.tensor([1, 3, 1, 1, 3, 3])
    among = torch.tensor([False, True, False, True, False])
    alone = F.cross_entropy(logits[:, [1, 3]], (labels == 3).long())
    torch.testing.assert_close(cross_entropy(logits, labels, among), alone)
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits, labels))


def test_distillation_is_least_at_the_teacher() -> None:
    teacher, student = torch.randn(4, 5), torch.randn(4, 5)
    target = F.softmax(teacher / 2, 1)
    by_hand = F.cross_entropy(student / 2, target) - F.cross_entropy(teacher / 2, target)
    torch.testing.assert_close(distillation(student, teacher, 2.0), by_hand)
    assert distillation(teacher, teacher, 2.0).item() == pytest.approx(0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_prototypes_are_exact_whatever_the_batches(sizes: list[int], seed: int) -> None:
    draws = np.random.default_rng(seed)
    prototypes = Prototypes(4, 3, torch.device("cpu"))
    prototypes.means, prototypes.counts, prototypes.spreads = (
        tensor.double() for tensor in (prototypes.means, prototypes.counts, prototypes.spreads)
    )
    seen_features, seen_labels = [], []
    for size in sizes:
        features, labels = draws.normal(2, 3, (size, 3)), draws.integers(0, 4, size)
        prototypes.update(torch.from_numpy(features), torch.from_numpy(labels))
        seen_features.append(features)
        seen_labels.append(labels)
    features, labels = np.concatenate(seen_features), np.concatenate(seen_labels)
    for label in range(4):
        own = features[labels == label]
        assert prototypes.counts[label] == len(own)
        assert bool(prototypes.known[label]) == (len(own) > 0)
        if len(own):
            np.testing.assert_allclose(prototypes.means[label], own.mean(0), atol=1e-9)
            np.testing.assert_allclose(prototypes.spreads[label], own.var(0).mean(), atol=1e-9)


def test_fading_prototypes_follow_features_that_move() -> None:
    prototypes = Prototypes(2, 1, torch.device("cpu"), decay=0.5)
    for value in (0.0, 0.0, 1.0, 1.0, 1.0, 1.0):
        prototypes.update(torch.tensor([[value]]), torch.tensor([1]))
    assert prototypes.means[1].item() == pytest.approx(1 - (0.5**4 + 0.5**5) / sum(0.5**n for n in range(6)))
    scores = prototypes.nearest(torch.tensor([[1.0]]))
    assert scores[0, 0] == float("-inf")
    assert scores[0, 1].item() == pytest.approx(-((1 - prototypes.means[1].item()) ** 2), abs=1e-6)


def test_herding_chooses_what_keeps_the_mean() -> None:
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    unit = F.normalize(features.double())
    chosen: list[int] = []
    for number in range(1, 11):
        distances = {
            row: float((unit.mean(0) - unit[[*chosen, row]].sum(0) / number).norm())
            for row in range(30)
            if row not in chosen
        }
        chosen.append(min(distances, key=distances.get))
    assert herding(features, 10) == chosen
    assert sorted(herding(features, 99)) == list(range(30))
    assert herding(features[:0], 5) == []


class Stretch:
    """What a herded buffer needs of an experience."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def of_class(self, label: int) -> Batch:
        own = self.labels == label
        return Batch(self.images[own], self.labels[own])


@settings(max_examples=60, deadline=None)
@given(capacity=st.integers(0, 60), sizes=st.lists(st.integers(0, 20), min_size=1, max_size=8))
def test_equal_shares_use_all_the_room_and_differ_where_a_class_has_no_more(
    capacity: int, sizes: list[int]
) -> None:
    shares = equal_shares(capacity, dict(enumerate(sizes)))
    assert sum(shares.values()) == min(capacity, sum(sizes))
    most = max(shares.values())
    assert all(sizes[label] >= share >= min(sizes[label], most - 1) for label, share in shares.items())
    full = [label for label in shares if shares[label] == most < sizes[label]]
    short = [label for label in shares if shares[label] == most - 1 < sizes[label]]
    assert not full or not short or max(full) < min(short)  # what is left over goes to the first


def test_a_herded_buffer_shares_its_capacity_and_keeps_the_best_of_each_class() -> None:
    draws = torch.Generator().manual_seed(2)
    buffer = HerdedBuffer((1, 2, 2), torch.device("cpu"), 0)
    buffer.allocate(11)
    held_first: list[bytes] = []
    shares = [[9], [6, 5], [4, 4, 3], [3, 3, 3, 2], [3, 2, 2, 2, 2]]
    for number in range(5):
        images = torch.randint(256, (9, 1, 2, 2), generator=draws, dtype=torch.uint8)
        buffer.herd(Stretch(images, torch.full((9,), number)), lambda images: images.flatten(1).float())
        everything = buffer.everything()
        counts = torch.bincount(everything.labels, minlength=5)[: number + 1]
        assert counts.tolist() == shares[number]
        first = [image.numpy().tobytes() for image in everything.images[everything.labels == 0]]
        assert not held_first or first == held_first[: len(first)]
        held_first = first
    images = torch.randint(256, (2, 1, 2, 2), generator=draws, dtype=torch.uint8)
    buffer.herd(Stretch(images, torch.zeros(2, dtype=torch.int64)), lambda images: images.flatten(1).float())
    counts = torch.bincount(buffer.everything().labels).tolist()
    assert counts == [3, 2, 2, 2, 2]  # a class that comes again is chosen anew, among what is held of it too
    drawn = buffer.draw(5)
    stored = {image.numpy().tobytes() for image in buffer.everything().images}
    assert {image.numpy().tobytes() for image in drawn.images} <= stored
    with pytest.raises(StreamlabError, match="filled by herd"):
        buffer.add(drawn)


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=120), capacity=st.integers(1, 20))
def test_a_greedy_buffer_balances_what_it_can(labels: list[int], capacity: int) -> None:
    buffer = GreedyBuffer((1, 1, 1), torch.device("cpu"), 0)
    buffer.allocate(capacity)
    for start in range(0, len(labels), 7):
        part = torch.tensor(labels[start : start + 7])
        buffer.add(Batch(part.view(-1, 1, 1, 1).to(torch.uint8), part))
    held = buffer.everything()
    assert torch.equal(held.images.flatten().long(), held.labels)
    counts, seen = np.bincount(held.labels, minlength=5), np.bincount(labels, minlength=5)
    share = capacity / (seen > 0).sum()
    assert (counts <= seen).all()
    assert len(held) <= capacity
    for number in range(5):
        assert counts[number] >= min(seen[number], int(share)) or counts[number] >= counts.max() - 1


def test_gdumbs_rate_restarts_in_cycles_that_double() -> None:
    options = gdumb.Options()
    rates = [gdumb.learning_rate(epoch, options) for epoch in range(16)]
    assert rates[0] == pytest.approx(0.005)
    assert [epoch for epoch, rate in enumerate(rates) if rate == options.max_lr] == [1, 2, 4, 8]
    assert rates[5] == pytest.approx(0.0005 + 0.0495 * (1 + np.cos(np.pi / 4)) / 2)


def test_a_feature_cache_computes_each_image_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def compute(numbers: np.ndarray) -> torch.Tensor:
        assert len(numbers) == 4
        asked.extend(numbers.tolist())
        return torch.from_numpy(numbers)[:, None].repeat(1, 3).float()

    cache = FeatureCache(10, 4, compute, 1 << 20)
    assert cache.at(np.array([7, 1, 7, 2]))[:, 0].tolist() == [7, 1, 7, 2]
    assert cache.at(np.array([2, 9, 1, 7]))[:, 0].tolist() == [2, 9, 1, 7]
    assert asked.count(9) == 4, "a short batch is filled up"
    assert set(asked) == {1, 2, 7, 9}
    file = tmp_path / "kept/features.safetensors"
    first = FeatureCache(10, 4, compute, 1 << 20, file)
    first.at(np.array([2, 5]))
    first.keep()
    asked.clear()
    second = FeatureCache(10, 4, compute, 1 << 20, file)
    assert second.at(np.array([5, 2, 5]))[:, 0].tolist() == [5, 2, 5]
    assert not asked, "another run reads what was kept"
    assert second.at(np.array([5, 3]))[:, 0].tolist() == [5, 3]
    second.keep()
    assert FeatureCache(10, 4, compute, 1 << 20, file).at(np.array([3]))[:, 0].tolist() == [3]
    assert asked == [3, 3, 3, 3]
    file.write_bytes(b"torn")
    assert FeatureCache(10, 4, compute, 1 << 20, file).at(np.array([3]))[:, 0].tolist() == [3]
    small = FeatureCache(10, 4, compute, 8)
    assert small.at(np.array([3, 4, 5, 6, 8]))[:, 1].tolist() == [3, 4, 5, 6, 8]
