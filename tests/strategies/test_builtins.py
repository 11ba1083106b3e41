"""The built-in strategies: equal to their definitions, and in the order that theory gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from making import make_source, simulate

from streamlab.batch import Batch
from streamlab.data.source import Source
from streamlab.evaluation.accuracy import a_last
from streamlab.simulator import events

HARD = {"scenario": {"tasks": 3, "disjoint_percent": 100}, "stream": {"batch_size": 5}}


@pytest.fixture(scope="module")
def longer() -> Source:
    return make_source(classes=6, train=150, test=40, contrast=40)


def last(source: Source, strategy: str, **settings: object) -> float:
    record = simulate(source, strategy, settings={**HARD, **settings}).record()
    value = a_last(record)
    assert isinstance(value, float)
    return value


def test_replay_forgets_less_than_finetuning_and_joint_is_the_ceiling(longer: Source) -> None:
    finetune, replay, joint = (last(longer, name) for name in ("finetune", "er", "joint"))
    assert finetune < 0.5 < 0.8 < replay < joint


@pytest.mark.parametrize("selection", ["reservoir", "balanced"])
def test_er_steps_on_new_and_replayed_samples_together(tiny: Source, selection: str) -> None:
    strategy = simulate(tiny, f"er:selection={selection},replay_size=4").strategy
    buffer = strategy.buffer
    position = buffer.read_draws.position  # the same exemplars are drawn again below
    images, labels = torch.from_numpy(tiny.train_images[:3]), torch.from_numpy(tiny.train_labels[:3])
    drawn = buffer.draw(4)
    buffer.read_draws.position = position
    (loss,) = strategy.losses(Batch(images, labels)).values()
    logits = strategy.net(torch.cat([images, drawn.images]))
    assert torch.equal(loss, F.cross_entropy(logits, torch.cat([labels, drawn.labels])))
    assert len(drawn) == 4


def slda_sample_by_sample(images: np.ndarray, labels: np.ndarray, shrinkage: float) -> tuple[np.ndarray, ...]:
    """The authors' loop: one sample at a time (Hayes and Kanan 2020, eq. 1 to 3)."""
    features = images.reshape(len(images), -1) / 255.0
    size, classes = features.shape[1], int(labels.max()) + 1
    means, counts, sigma = np.zeros((classes, size)), np.zeros(classes), np.zeros((size, size))
    for t, (z, y) in enumerate(zip(features, labels, strict=True)):
        deviation = z - means[y]
        sigma = (t * sigma + t / (t + 1) * np.outer(deviation, deviation)) / (t + 1)
        means[y] += deviation / (counts[y] + 1)
        counts[y] += 1
    precision = np.linalg.inv((1 - shrinkage) * sigma + shrinkage * np.eye(size))
    weights = means @ precision
    return weights, -0.5 * (weights * means).sum(1)


def test_slda_in_batches_equals_the_authors_loop(tiny: Source) -> None:
    simulation = simulate(tiny, "slda", settings={"stream": {"batch_size": 7}})
    order = simulation.plan.stream
    weights, biases = slda_sample_by_sample(tiny.train_images[order], tiny.train_labels[order], 1e-2)
    strategy = simulation.strategy
    np.testing.assert_allclose(strategy.weights.numpy(), weights, rtol=0, atol=2e-4 * np.abs(weights).max())
    np.testing.assert_allclose(strategy.biases.numpy(), biases, rtol=0, atol=2e-4 * np.abs(biases).max())


def test_slda_takes_a_network_as_frozen_features(tiny: Source) -> None:
    strategy = simulate(tiny, "slda", settings={"backbone": {"name": "mlp"}}).strategy
    kinds = strategy.account.ledger().bytes_by_kind
    assert set(kinds) == {"frozen backbone", "statistics"}
    assert kinds["frozen backbone"] == 4 * (64 * 256 + 256)


@pytest.mark.parametrize("among", ["old", "seen"])
def test_lwf_distils_what_its_teacher_knew(longer: Source, among: str) -> None:
    shown = {**HARD, "scenario": {**HARD["scenario"], "boundaries": "shown"}}
    strategy = simulate(longer, f"lwf:among={among}", settings=shown).strategy
    assert strategy.teacher.classes.all()
    kinds = strategy.account.ledger().bytes_by_kind
    assert (
        kinds["extra models"] == kinds["model"] + kinds["head"] + 6
    )  # the network, and which classes it knows
    strategy.teacher.classes[3:] = False
    batch = Batch(torch.from_numpy(longer.train_images[:9]), torch.from_numpy(longer.train_labels[:9]))
    with torch.no_grad():
        strategy.net.head.bias += torch.randn(6)
    target = F.softmax(strategy.teacher.logits(batch.images)[:, :3] / 2, 1)
    student = strategy.net(batch.images) / 2
    log_outputs = F.log_softmax(student[:, :3] if among == "old" else student, 1)[:, :3]
    expected = (target * (target.log() - log_outputs)).sum(1).mean() * 3  # the weight; there is no T²
    torch.testing.assert_close(strategy.losses(batch)["distillation"], expected)


def test_lwf_distils_from_the_second_task_on(longer: Source) -> None:
    shown = {**HARD, "scenario": {**HARD["scenario"], "boundaries": "shown"}}
    terms = []

    def hear(event: events.Event) -> None:
        if isinstance(event, events.Evaluated) and event.task_ends:
            terms.append(event.losses.get("distillation", 0.0))

    simulate(longer, "lwf", hear, settings=shown)
    assert terms[0] == 0
    assert min(terms[1:]) > 0
