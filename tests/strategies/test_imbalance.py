"""Answers to imbalance: priors taken out, classifiers trained anew, resampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from authors import Given, close, each, fill, float64, load, make
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamlab.batch import Batch
from streamlab.parts.resampling import oversampled, smote, undersampled, wanted

MLP = {"name": "mlp", "widths": (5,)}
counts = st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any)


@pytest.fixture
def double() -> Iterator[None]:
    with float64():
        yield


def some(labels: list[int]) -> Batch:
    return Batch(torch.randint(0, 256, (len(labels), 1, 4, 4), dtype=torch.uint8), torch.tensor(labels))


def adjusted(**options: Any) -> Any:
    return make("logit-adjustment", 4, (1, 4, 4), {"replay_size": 0, **options}, {"lr": 0.1}, MLP)


def test_balanced_softmax_is_its_equation() -> None:
    """Ren et al., eq. 3: - log n_y e^z_y / sum_j n_j e^z_j, n of all that was learned from."""
    strategy = adjusted()
    first, second = some([0, 0, 0, 1]), some([0, 1, 1, 2])
    strategy.observe(first)
    logits = strategy.net(second.images)
    found = strategy.losses(second)["task"]
    n = torch.tensor([4.0, 3.0, 1.0, 0.0])
    share = n * logits.exp() / (n * logits.exp()).sum(1, keepdim=True)
    close(found, -share.gather(1, second.labels[:, None]).log().mean(), 1e-5)
    assert torch.equal(strategy.predict(second.images), logits)


def test_the_strength_is_the_power_of_the_priors() -> None:
    strategy, batch = adjusted(strength=0.5), some([0, 0, 0, 1])
    logits = strategy.net(batch.images)
    weights = torch.tensor([3.0, 1.0]).sqrt() * logits[:, :2].exp()
    expected = -(weights / weights.sum(1, keepdim=True)).gather(1, batch.labels[:, None]).log().mean()
    close(strategy.losses(batch)["task"], expected, 1e-5)


def test_thresholding_divides_outputs_by_priors() -> None:
    """Buda et al. 2018: y_i(x) / p(i) ranks as the scores do; what is learned is plain cross-entropy."""
    strategy, batch = adjusted(where="scores"), some([0, 0, 0, 0, 1, 1, 2, 3])
    before = strategy.net(batch.images)
    close(strategy.losses(batch)["task"], F.cross_entropy(before, batch.labels), 1e-6)
    priors = torch.tensor([4, 2, 1, 1]) / 8
    close(
        F.softmax(strategy.predict(batch.images), 1), F.normalize(F.softmax(before, 1) / priors, 1, 1), 1e-5
    )


def test_priors_of_a_window_forget() -> None:
    strategy = adjusted(window=2)
    for labels in ([0, 0], [1, 2], [2, 2]):
        strategy.losses(some(labels))
    assert strategy.counts.tolist() == [0, 1, 3, 0]
    everything = adjusted()
    for labels in ([0, 0], [1, 2], [2, 2]):
        everything.losses(some(labels))
    assert everything.counts.tolist() == [2, 1, 3, 0]


def test_what_is_replayed_counts_too() -> None:
    strategy = adjusted(replay_size=3)
    strategy.buffer = Given([some([3, 3, 1])])
    strategy.losses(some([0, 1]))
    assert strategy.counts.tolist() == [1, 2, 0, 2]


@pytest.mark.usefixtures("double")
@each("smote")
def test_smote_is_imbalanced_learns(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    z = load(file)
    pairs, steps = z["pairs"].tolist(), z["steps"].tolist()

    def taken(row: list[Any], count: int) -> Tensor:
        head = torch.tensor(row[:count])
        del row[:count]
        return head

    monkeypatch.setattr(torch, "randint", lambda below, size: taken(pairs, size[0]))
    monkeypatch.setattr(torch, "rand", lambda count, one: taken(steps, count)[:, None])
    features, labels = smote(z["features"], z["labels"], 4, neighbours=z["neighbours"])
    close(features, torch.cat([z["features"], z["made"]]))
    assert torch.equal(labels, torch.cat([z["labels"], z["made_labels"]]))
    assert not pairs
    assert not steps


@given(counts, st.floats(1, 8), st.integers(1, 6))
def test_resampling_reaches_its_ratio(sizes: list[int], ratio: float, neighbours: int) -> None:
    """Over and smote bring the rare up, under the frequent down; nothing that there is not is asked for."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(sizes)])
    given, held = torch.tensor(sizes), torch.tensor(sizes) > 0
    least = math.ceil(max(sizes) / ratio)
    over = torch.bincount(labels[oversampled(labels, len(sizes), ratio)], minlength=len(sizes))
    assert torch.equal(over, torch.where(held, given.clamp(min=least), given))
    assert torch.equal(over, wanted(given, ratio))
    most = math.floor(min(count for count in sizes if count) * ratio)
    rows = undersampled(labels, len(sizes), ratio)
    assert len(torch.unique(rows)) == len(rows)
    assert torch.equal(torch.bincount(labels[rows], minlength=len(sizes)), given.clamp(max=most))
    features = torch.rand(len(labels), 3) + 10 * labels[:, None]
    made, of = smote(features, labels, len(sizes), ratio, neighbours)
    assert torch.equal(torch.bincount(of, minlength=len(sizes)), over)
    assert torch.equal(made[: len(labels)], features)
    for label in torch.nonzero(held).flatten().tolist():  # between two of its class: within their box
        own, new = features[labels == label], made[len(labels) :][of[len(labels) :] == label]
        assert bool((new >= own.amin(0) - 1e-4).all() and (new <= own.amax(0) + 1e-4).all())


def test_oversampling_uses_each_sample_as_often_as_another() -> None:
    labels = torch.tensor([0] * 10 + [1] * 3)
    often = torch.bincount(oversampled(labels, 2), minlength=13)
    assert often[:10].tolist() == [1] * 10
    assert sorted(often[10:].tolist()) == [3, 3, 4]


@pytest.mark.parametrize("balance", ["none", "over", "under", "smote"])
def test_the_classifier_is_learned_anew_and_the_network_is_not(balance: str) -> None:
    """It starts from the head; predictions are its own, and the network's weights stay as they were."""
    options = {"balance": balance, "epochs": 3, "batch_size": 4}
    strategy = make("head-retraining", 3, (1, 4, 4), options, {"lr": 0.1}, MLP)
    strategy.remember(some([0] * 9 + [1] * 3 + [2]))
    before = {name: value.clone() for name, value in strategy.net.state_dict().items()}
    strategy.consolidate()
    assert all(torch.equal(value, before[name]) for name, value in strategy.net.state_dict().items())
    assert not torch.equal(strategy.classifier.weight, strategy.net.head.weight)
    images = some([0]).images
    assert torch.equal(strategy.predict(images), strategy.classifier(strategy.net.features(images)))
    fill(strategy.classifier.weight, torch.zeros(3, 5))
    torch.manual_seed(0)
    strategy.consolidate()
    once = strategy.classifier.weight.clone()
    torch.manual_seed(0)
    strategy.consolidate()
    assert torch.equal(strategy.classifier.weight, once)


@pytest.mark.parametrize(("balance", "shares"), [("none", [9, 3, 1]), ("over", [9, 9, 9]), ("under", [1, 1, 1]), ("smote", [9, 9, 9])])  # fmt: skip
def test_the_classifier_sees_balanced_classes(balance: str, shares: list[int]) -> None:
    strategy = make("head-retraining", 3, (1, 4, 4), {"balance": balance}, {"lr": 0.1}, MLP)
    labels = torch.tensor([0] * 9 + [1] * 3 + [2])
    _, of = strategy.balanced(torch.rand(13, 5), labels)
    assert torch.bincount(of, minlength=3).tolist() == shares
