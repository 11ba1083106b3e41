"""Online methods against numbers of their authors' code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations, islice, permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from authors import Experience, Given, close, each, fill, float64, layers, load, make, put, total, with_layers
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_source, simulate
from torch import Tensor

from streamlab.batch import Batch
from streamlab.errors import StreamlabError
from streamlab.nets.network import Entry
from streamlab.parts.contrastive import proxy_contrastive_loss, second_views, supervised_contrastive_loss
from streamlab.parts.turning import half_turned, turned_labels
from streamlab.strategies.aser import knn_shapley
from streamlab.strategies.onpro import Mixtures, pair_counts
from streamlab.strategies.x_der import brought_down


@pytest.fixture
def double() -> Iterator[None]:
    with float64():
        yield


@pytest.mark.usefixtures("double")
@each("scr")
def test_the_supervised_contrastive_loss_is_the_authors(file: str) -> None:
    z = load(file)
    views = z["features"].requires_grad_()
    loss = supervised_contrastive_loss(views, z["labels"], z["temperature"])
    close(loss, z["loss"])
    close(torch.autograd.grad(loss, views)[0], z["gradient"])


@pytest.mark.usefixtures("double")
@each("pcr")
def test_the_proxy_loss_is_the_authors(file: str) -> None:
    """They add 1e-6 to lengths, which is as close as it comes."""
    z = load(file)
    features, proxies = z["features"].requires_grad_(), z["proxies"].requires_grad_()
    logits = F.normalize(features) @ F.normalize(proxies).T / z["temperature"]
    loss = proxy_contrastive_loss(logits, z["labels"])
    close(loss, z["loss"], within=1e-5)
    gradients = torch.autograd.grad(loss, [features, proxies])
    close(gradients[0], z["gradient_features"], within=1e-5)
    close(gradients[1], z["gradient_proxies"], within=1e-5)


def test_pcr_and_scr_look_twice_at_new_and_replayed_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of a step, computed again from what the strategies are made of."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8)
    old = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    batch, held = Batch(images, torch.tensor([0, 1, 1, 2])), Batch(old, torch.tensor([3, 1, 3]))
    mlp = {"name": "mlp", "widths": (5,)}
    scr = make("scr", 4, (1, 4, 4), {"projection": 6}, {"lr": 0.1}, mlp)
    scr.buffer = Given([held])
    found = scr.losses(batch)["contrastive"]
    every = torch.cat([old, images])
    second = second_views(0, 1).of(every)
    views = torch.stack([F.normalize(scr.net(every)), F.normalize(scr.net(second))], 1)
    close(found, supervised_contrastive_loss(views, torch.tensor([3, 1, 3, 0, 1, 1, 2]), 0.07), 1e-5)
    pcr = make("pcr", 4, (1, 4, 4), {"temperature": 0.2}, {"lr": 0.1}, mlp)
    pcr.buffer = Given([held])
    found = pcr.losses(batch)["contrastive"]
    again = second_views(0, 1)
    shown = torch.cat([images, again.of(images), old, again.of(old)])
    labels = torch.tensor([0, 1, 1, 2, 0, 1, 1, 2, 3, 1, 3, 3, 1, 3])
    close(found, proxy_contrastive_loss(pcr.net(shown), labels), 1e-5)
    assert float(pcr.net.head.scale) == 5


@pytest.mark.parametrize("name", ["scr", "pcr"])
def test_nothing_is_learned_before_there_are_exemplars(name: str) -> None:
    strategy = make(name, 4, (1, 4, 4), {}, {"lr": 0.1}, {"name": "mlp", "widths": (5,)})
    before = [p.detach().clone() for p in strategy.net.parameters()]
    batch = Batch(torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8), torch.tensor([0, 1, 1, 2]))
    assert strategy.observe(batch) == {}
    for mine, earlier in zip(strategy.net.parameters(), before, strict=True):
        assert torch.equal(mine, earlier)
    strategy.remember(batch)
    assert "contrastive" in strategy.observe(batch)
    assert not torch.equal(next(iter(strategy.net.parameters())), before[0])


def test_scr_classifies_by_the_nearest_mean_of_its_exemplars() -> None:
    strategy = make("scr", 3, (1, 2, 2), {}, {"lr": 0.1}, {"name": "mlp", "widths": (5,)})
    images = torch.randint(0, 256, (6, 1, 2, 2), dtype=torch.uint8)
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    strategy.remember(Batch(images, labels))
    strategy.consolidate()
    features = F.normalize(strategy.features_of(images))
    means = torch.stack([F.normalize(features[labels == label].mean(0), dim=0) for label in (0, 1)])
    scores = strategy.predict(images)
    apart = torch.cdist(features, means)
    close(scores[:, :2], 1 - apart.square() / 2, 1e-5)
    assert bool((scores[:, 2] == -2).all())


@pytest.mark.usefixtures("double")
@each("cls_er")
def test_cls_er_learns_as_its_authors(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    z = load(file)
    strategy: Any = with_layers(
        "cls-er",
        z | {"images": z["images"][0]},
        options={"weight": z["reg_weight"]},
        optimizer={"lr": z["lr"]},
    )
    for average in (strategy.fast, strategy.slow):
        put(average, z)
    none = Batch(z["images"][0][:0], z["labels"][0][:0])
    memory = [Batch(*one) for one in zip(z["memory_images"], z["memory_labels"], strict=True)]
    strategy.buffer = Given([none, *memory])
    queue = iter(z["draws"].flatten().tolist())
    monkeypatch.setattr(torch, "rand", lambda *size: torch.tensor([next(queue)]))
    for number, loss in enumerate(z["losses"]):
        close(total(strategy.observe(Batch(z["images"][number], z["labels"][number]))), loss)
    for prefix, network in (("end", strategy.net), ("plastic", strategy.fast), ("stable", strategy.slow)):
        for name, weights in layers(network).items():
            close(weights, z[f"{prefix}_{name}"])
    images = z["images"][0]
    strategy.train_mode(False)
    found: Tensor = strategy.predict(images)
    close(found, strategy.slow(images))
    assert not torch.equal(found, strategy.net(images))


class Listed:
    """Draws that are given: permutations cut short, and rows of numbers."""

    def __init__(self, permutation: Tensor, *rows: Tensor) -> None:
        self.permutation, self.rows = permutation.tolist(), [row.tolist() for row in rows]

    def choose(self, count: int, among: int) -> list[int]:
        assert sum(place >= 0 for place in self.permutation) == among
        return self.permutation[:count]

    def take(self, count: int) -> list[float]:
        row = self.rows.pop(0)
        assert len(row) == count
        return row


@pytest.mark.usefixtures("double")
@each("gss")
def test_gss_learns_and_chooses_as_the_surveys_code(file: str) -> None:
    """The weights after all steps, and after each the scores and the samples that are held; draws are given."""
    z = load(file)
    strategy: Any = with_layers(
        "gss", z | {"images": z["images"][0]}, options={"groups": z["groups"], "group_size": z["group_size"]},
        optimizer={"lr": z["lr"]},
    )  # fmt: skip
    strategy.buffer.keep([], z["capacity"])
    draw = strategy.buffer.draw
    for number, (images, labels) in enumerate(zip(z["images"], z["labels"], strict=True)):
        batch = Batch(images.view(-1, 1, 1, images.shape[-1]), labels)
        count = len(strategy.buffer)
        strategy.buffer.draw = lambda size, count=count: strategy.buffer.at(range(min(3, count)))
        strategy.observe(batch)
        strategy.buffer.draw = draw
        rows = z["draws"][number], z["events"][number]
        strategy.buffer.write_draws = Listed(z["permutations"][number], *rows)
        strategy.remember(batch)
        close(strategy.buffer.extras["score"], z["scores"][number])
        held = z["held"][number]
        assert strategy.buffer.labels[: len(strategy.buffer)].tolist() == held[held >= 0].tolist()
        expected = z["held_images"][number][held >= 0]
        assert torch.equal(strategy.buffer.everything().images.flatten(1), expected)
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])


@pytest.mark.usefixtures("double")
@each("aser")
def test_aser_replays_and_keeps_as_its_authors(file: str) -> None:
    """Each step's loss and what is held after it; which exemplars are candidates and judges is given."""
    z = load(file)
    options = {name: z[name] for name in ("value", "neighbours", "per_class", "replay_size")}
    strategy: Any = with_layers(
        "aser", z | {"images": z["images"][0]}, options=options, optimizer={"lr": z["lr"]}
    )
    buffer = strategy.buffer
    buffer.keep([], z["capacity"])
    buffer.draw = lambda size: buffer.at(range(min(size, len(buffer))))
    queue: list[list[int]] = []
    buffer.of_each_class = buffer.others = lambda *given, **without: queue.pop(0)
    for number, (images, labels) in enumerate(zip(z["images"], z["labels"], strict=True)):
        batch = Batch(images.view(-1, 1, 1, images.shape[-1]), labels)
        first, second, *later = ([slot for slot in row if slot >= 0] for row in z["drawn"][number].tolist())
        queue[:] = [first, second] if second else [first]
        close(total(strategy.observe(batch)), z["losses"][number])
        queue[:] = later
        buffer.write_draws = Listed(torch.tensor([]), z["thresholds"][number][None])
        strategy.remember(batch)
        held = z["held"][number]
        assert buffer.labels[: len(buffer)].tolist() == held[held >= 0].tolist()
        expected = z["held_images"][number][held >= 0]
        assert torch.equal(buffer.everything().images.flatten(1), expected)
        slots = sorted(slot for slots in buffer.slots_of.values() for slot in slots)
        assert slots == list(range(len(buffer)))
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])


def _x_der(net: Any, z: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    """Our state by the vector's names."""
    linear, norm = net.backbone.layers[1], net.backbone.layers[2]
    ours = {"l": linear, "bn": norm, "h": net.head}
    return {
        f"{prefix}.{part}.{name}": value
        for part, module in ours.items() for name, value in module.state_dict().items() if "tracked" not in name
    }  # fmt: skip


@pytest.mark.usefixtures("double")
@each("x-der")
def test_x_der_learns_keeps_and_renews_as_its_authors(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three experiences: losses, parameters, running statistics, exemplars and their logits; draws are given."""
    z = load(file)
    backbone = {"name": "mlp", "widths": (5,), "norm": "batch"}
    strategy = make("x-der", 6, (1, 1, 6), json.loads(z["options"]), {"lr": z["lr"]}, backbone)
    net, buffer = strategy.net, strategy.buffer
    buffer.shrink(10)
    net.entry = Entry((z["scale"],), (z["shift"],))
    for name, value in _x_der(net, z, "init").items():
        fill(value, z[name])
    shown = iter([z[f"shown{number}"] for number in range(8)])
    asked = iter([z[f"asked{number}"] for number in range(8)])

    def of(images: Tensor) -> Tensor:
        assert torch.equal(images, next(asked))
        return next(shown)

    monkeypatch.setattr(strategy, "second", SimpleNamespace(of=of))
    chances, orders = iter([z[f"chances{number}"] for number in range(8)]), iter(z["orders"])
    monkeypatch.setattr(torch, "rand", lambda count: next(chances))
    monkeypatch.setattr(torch, "randperm", lambda count: next(orders))
    drawn = iter([slots for step in json.loads(z["draws"]) for slots in step])
    monkeypatch.setattr(buffer.read_draws, "choose", lambda size, among: next(drawn))
    steps = zip(z["images"], z["labels"], z["losses"], strict=True)
    for number, last in enumerate(json.loads(z["end_draws"])):
        view = Experience(z["data"][number], z["data_labels"][number], number)
        strategy.begin_experience(view)
        for images, labels, expected in islice(steps, 4):
            close(total(strategy.observe(Batch(images, labels))), expected)
        monkeypatch.setattr(buffer.read_draws, "choose", lambda size, among, last=last: last[0])
        strategy.end_experience(view)
        monkeypatch.setattr(buffer.read_draws, "choose", lambda size, among: next(drawn))
        held = buffer.everything()
        assert torch.equal(held.images, z[f"held{number}.images"])
        assert torch.equal(held.labels, z[f"held{number}.labels"])
        close(held.extras["logits"], z[f"held{number}.logits"])
    for name, value in _x_der(net, z, "end").items():
        close(value, z[name])


@pytest.mark.parametrize("name", ["x-der", "ocm:replay_size=8", "onpro:replay_size=8"])
@pytest.mark.parametrize("scenario", ["si-blurry", "i-blurry"])
def test_experiences_may_have_samples_of_other_experiences(name: str, scenario: str) -> None:
    """Blurry streams that show their boundaries: nothing is infinite, and exemplars are taken."""
    source = make_source(classes=6, train=12, test=3, size=8)
    settings = {"scenario": {"tasks": 3, "boundaries": "shown"}, "backbone": {"name": "mlp", "widths": "8"}}
    run = simulate(source, name, scenario=scenario, budget="20ex", settings=settings)
    assert 15 < len(run.strategy.buffer) <= 20


def test_ocm_goes_on_from_an_experience_without_samples() -> None:
    strategy = make("ocm", 4, (1, 4, 4), backbone={"name": "mlp", "widths": (9,)})
    images, labels = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8), torch.arange(4) % 2
    strategy.buffer.add(Batch(images, labels))
    strategy.end_experience(Experience(images[:0], labels[:0]))
    assert all(bool(loss.isfinite()) for loss in strategy.losses(Batch(images, labels)).values())


def test_x_der_moves_statistics_where_there_is_nothing_to_replay() -> None:
    """Later experiences' passes of exemplars do it otherwise."""
    backbone = {"name": "mlp", "widths": (5,), "norm": "batch"}
    strategy = make("x-der", 4, (1, 2, 2), backbone=backbone)
    images = torch.randint(0, 256, (4, 1, 2, 2), dtype=torch.uint8)
    for number in range(2):
        strategy.begin_experience(Experience(images, torch.arange(4) % 2 + 2 * number, number))
    norm = strategy.net.backbone.layers[2]
    before = norm.running_mean.clone()
    strategy.observe(Batch(images, torch.tensor([2, 3, 2, 3])))
    assert not torch.equal(norm.running_mean, before)
    with pytest.raises(StreamlabError, match="batch_size is 1, and must be at least 2"):
        make("x-der", 4, (1, 2, 2), {"batch_size": 1})


def test_logits_are_brought_down_by_the_authors_rule() -> None:
    """All of a sample's, where the largest is above its own; nothing is infinite where that is 0."""
    logits = torch.tensor([[4.0, 1.0], [1.0, 0.5], [0.0, -3.0]])
    made = brought_down(logits, torch.tensor([2.0, 2.0, -1.0]), 0.5)
    assert made[:2].tolist() == [[1.0, 0.25], [1.0, 0.5]]
    assert bool(made.isfinite().all())


def test_x_der_gives_outputs_to_classes_as_they_come() -> None:
    """Whatever their numbers are; what it says of a class is what its output says. A class may come again."""
    torch.manual_seed(0)
    strategy = make("x-der", 6, (1, 2, 2), {"batch_size": 3}, backbone={"name": "mlp", "widths": (5,)})
    images = torch.randint(0, 256, (12, 1, 2, 2), dtype=torch.uint8)
    for number, classes in enumerate([(4, 1), (5,), (4, 0)]):
        labels = torch.tensor([classes[row % len(classes)] for row in range(12)])
        view = Experience(images, labels, number)
        strategy.begin_experience(view)
        strategy.observe(Batch(images[:4], labels[:4]))
        strategy.end_experience(view)
    assert strategy.column[[1, 4, 5, 0]].tolist() == [0, 1, 2, 3]
    assert sorted(strategy.column.tolist()) == list(range(6))
    assert strategy.block.tolist() == [0, 0, 1, 2, -1, -1]
    embedding = strategy.features_of(images)
    outputs = strategy.net.head(embedding)
    assert torch.equal(strategy.score(embedding, images)[:, 5], outputs[:, 2])
    held = strategy.buffer.everything()
    assert sorted(set(held.labels.tolist())) == [0, 1, 4, 5]


def _turning(
    name: str,
    z: dict[str, Any],
    options: dict[str, Any],
    draws: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Any, dict[str, Any]]:
    """A strategy of turned images in the vector's state, its draws given and second views mirrored; its parts."""
    optimizer = {"name": "adam", "lr": z["lr"], "weight_decay": 1e-4, "options": {"betas": (0.9, 0.99)}}
    backbone = {"name": "mlp", "widths": (9,), "norm": "batch"}
    classes, shape = len(z["init.linear.weight"]), z["images"].shape[2:]
    strategy = make(name, classes, shape, {"projection": 4, **options}, optimizer, backbone)
    net = strategy.net
    net.entry = Entry((z["scale"],), (z["shift"],))
    parts = {
        "l": net.backbone.layers[1], "bn": net.backbone.layers[2],
        "linear": net.head.classes, "simclr": net.head.projection,
    }  # fmt: skip
    for key in [key for key in z if key.startswith("init.")]:
        part, number = key.split(".")[1:]
        fill(getattr(parts[part], number), z[key])
    starts, drawn = iter(z["starts"]), iter(draws)
    monkeypatch.setattr(strategy, "second", SimpleNamespace(of=lambda images: images.flip(3)))
    monkeypatch.setattr(torch, "randint", lambda high, size: next(starts))
    monkeypatch.setattr(strategy.buffer.read_draws, "choose", lambda size, among: next(drawn))
    return strategy, parts


def _close_parts(parts: dict[str, Any], z: dict[str, Any], within: float) -> None:
    for key in [key for key in z if key.startswith("end.")]:
        part, number = key.split(".")[1:]
        close(getattr(parts[part], number), z[key], within=within)


@pytest.mark.usefixtures("double")
@each("ocm")
def test_ocm_learns_as_its_authors(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their whole script, on pictures of blocks: losses, parameters, statistics. Second views are mirrored."""
    z = load(file)
    strategy, parts = _turning("ocm", z, {}, json.loads(z["draws"]), monkeypatch)
    steps = zip(z["images"], z["labels"], z["losses"], strict=True)
    for classes in ([0, 1], [2, 3]):
        for images, labels, expected in islice(steps, 3):
            batch = Batch(images, labels)
            close(total(strategy.observe(batch)), expected, within=1e-7)  # they add 1e-8 to lengths
            strategy.remember(batch)
        strategy.end_experience(Experience(z["images"][:1].flatten(0, 1), torch.tensor(classes)))
    _close_parts(parts, z, within=1e-5)


@pytest.mark.usefixtures("double")
@each("onpro")
def test_onpro_learns_as_its_authors(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two experiences: losses, parameters, statistics, prototypes, pairs; second views are mirrored, mixtures given."""
    z = load(file)
    draws = [[0, 1, 2], *json.loads(z["draws"])]
    strategy, parts = _turning("onpro", z, {"replay_size": 5}, draws, monkeypatch)
    mixtures = iter([(z[f"mixed{number}"], z[f"mixlabels{number}"]) for number in range(2)])
    met = iter([z[f"prototypes{number}"] for number in range(2)])

    def mixed_as_theirs(held: Batch) -> Mixtures:
        images, labels = next(mixtures)
        expected = next(met)
        close(strategy.prototypes[: len(expected)], expected)
        return Mixtures(images, labels[:, 0].long(), labels[:, 1].long(), labels[:, 2])

    monkeypatch.setattr(strategy, "mixtures", mixed_as_theirs)
    steps = zip(z["images"], z["labels"], z["losses"], strict=True)
    for number in range(2):
        strategy.begin_experience(Experience(z["images"][0], torch.arange(3) + 3 * number, number))
        for images, labels, expected in islice(steps, 3):
            batch = Batch(images, labels)
            close(total(strategy.observe(batch)), expected)
            strategy.remember(batch)
    _close_parts(parts, z, within=1e-8)
    for number in range(2):
        kept = [row for row in z[f"prototypes{number}"] if row.any()]
        classes = [label for label, row in enumerate(z[f"prototypes{number}"]) if row.any()]
        monkeypatch.setattr(torch, "randperm", lambda count, order=z[f"perm{number}"]: order)
        counts = pair_counts(kept, z["count"])
        pairs = [pair for pair, had in zip(combinations(classes, 2), counts, strict=True) for _ in range(had)]
        assert pairs == [tuple(pair) for pair in z[f"pairs{number}"].tolist()]


def test_onpro_mixes_exemplars_and_pairs_of_classes() -> None:
    """As many as were drawn; shares within their bounds; images between both; a class that is gone gives way."""
    torch.manual_seed(1)
    strategy = make("onpro", 4, (1, 4, 4), {"projection": 3, "mixing": 1.0}, backbone={"name": "mlp"})
    labels = torch.arange(12) % 3
    images = (40 * labels)[:, None, None, None].expand(-1, 1, 4, 4).to(torch.uint8)
    strategy.buffer.add(Batch(images, labels))
    strategy.prototypes = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0, 1.0, 0], [0, 0, 1.0]])
    learned = strategy.mixtures(strategy.buffer.at(list(range(12))))
    assert len(learned.images) == 12
    assert learned.images.dtype == torch.uint8
    plain = 9
    assert bool((learned.shares[:plain] <= 0.6).all())
    assert bool((learned.shares[:plain] > 0).all())
    assert sorted(learned.labels[:plain].tolist()) == sorted(learned.others[:plain].tolist())
    expected = 40 * torch.lerp(learned.labels.float(), learned.others.float(), learned.shares)
    assert float((learned.images[:, 0, 0, 0].float() - expected).abs().max()) <= 0.5
    torch.testing.assert_close(learned.between, expected / 40)
    assert 3 not in {*learned.labels.tolist(), *learned.others.tolist()}
    counts = pair_counts(list(strategy.prototypes), 30)
    assert sum(counts) == 30
    assert counts[0] == max(counts)  # the closest pair
    strategy.prototypes = torch.zeros(4, 3)
    assert strategy.pairs(5) == []


def test_images_are_turned_in_sixteen_ways() -> None:
    """Halves and wholes, each another picture; of an odd number of columns the middle one is right."""
    images = torch.arange(24, dtype=torch.uint8).view(1, 1, 4, 6)[..., :4]
    turned = half_turned(images)
    assert torch.equal(turned[0], images[0])
    assert turned[1, 0].tolist() == [[19, 18, 2, 3], [13, 12, 8, 9], [7, 6, 14, 15], [1, 0, 20, 21]]
    assert turned[3, 0].tolist() == [[0, 1, 21, 20], [6, 7, 15, 14], [12, 13, 9, 8], [18, 19, 3, 2]]
    assert torch.equal(turned[8:12], turned[:4].rot90(1, (2, 3)))
    assert len({tuple(picture.flatten().tolist()) for picture in turned}) == 16
    assert turned_labels(torch.tensor([1, 2]), 5).tolist()[:4] == [1, 2, 6, 7]
    assert half_turned(torch.zeros(2, 3, 5, 5, dtype=torch.uint8)).shape == (32, 3, 5, 5)


def test_ocm_replays_no_more_than_its_classes_are_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three classes have come, of two exemplars each at most."""
    torch.manual_seed(0)
    images, labels = torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8), torch.arange(12) % 2
    strategy = make("ocm", 4, (1, 4, 4), {"per_class": 2}, backbone={"name": "mlp", "widths": (9,)})
    strategy.observe(Batch(images, labels))
    strategy.remember(Batch(images, labels))
    strategy.end_experience(Experience(images, labels))
    sizes: list[int] = []
    draw = strategy.buffer.draw
    monkeypatch.setattr(strategy.buffer, "draw", lambda size: draw(sizes.append(size) or size))
    strategy.observe(Batch(images[:2], torch.tensor([2, 0])))
    assert sizes == [6]


def test_ocm_refuses_pictures_that_are_not_square() -> None:
    with pytest.raises(StreamlabError, match="ocm turns images, and these are 2x4; they must be square"):
        make("ocm", 3, (1, 2, 4), backbone={"name": "mlp"})


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_worths_share_out_what_a_nearest_neighbour_classifier_gets_right(n: int, k: int, seed: int) -> None:
    """Shapley values by their definition: over all orders, the mean of what a sample adds."""
    draw = torch.Generator().manual_seed(seed)
    k = min(k, n)
    features, judge = torch.rand(n, 2, generator=draw), torch.rand(1, 2, generator=draw)
    labels = torch.randint(0, 2, (n,), generator=draw)
    near = (features - judge).square().sum(1)

    def right(coalition: tuple[int, ...]) -> float:
        nearest = sorted(coalition, key=lambda one: float(near[one]))[:k]
        return sum(int(labels[one]) for one in nearest) / k

    expected = torch.zeros(n)
    orders = list(permutations(range(n)))
    for order in orders:
        for place, one in enumerate(order):
            expected[one] += (right(order[: place + 1]) - right(order[:place])) / len(orders)
    close(knn_shapley(features, labels, judge, torch.tensor([1]), k)[0], expected, 1e-5)


@each("clib")
def test_clib_keeps_credits_and_turns_as_its_authors(file: str) -> None:
    """Which slot a sample takes, the importance of all, and the rate, step by step; losses and draws are
    given.
    """
    z = load(file)
    strategy: Any = make(
        "clib", 5, (1, 2, 2), {}, {"name": "adam", "lr": z["lr"]}, {"name": "mlp", "widths": (3,)}
    )
    buffer = strategy.buffer
    buffer.keep([], z["capacity"])
    image = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    for number, label in enumerate(z["labels"].tolist()):
        buffer.add(Batch(image, torch.tensor([label])))
        assert buffer.fresh == [z["slots"][number]]
        strategy.learned = [slot for slot in z["drawn"][number].tolist() if slot >= 0]
        losses = z["losses"][number]
        strategy.measure(losses[~losses.isnan()].tolist())
        held = z["held"][number]
        assert buffer.labels[: len(buffer)].tolist() == held[held >= 0].tolist()
        close(
            torch.tensor(buffer.importance[: len(buffer)]).double(),
            z["importance"][number][: len(buffer)],
            1e-6,
        )
        close(strategy.optimizer.param_groups[0]["lr"], z["rates"][number], 1e-6)
    assert len(set(z["rates"].tolist())) == 4  # rates were raised or lowered, and tried by turns


def test_welchs_test_is_scipys() -> None:
    from scipy.stats import ttest_ind

    from streamlab.strategies.clib import chance_of_no_gain

    draws = np.random.default_rng(0)
    for _ in range(40):
        low, high = (
            draws.normal(draws.normal(), draws.uniform(0.1, 3), draws.integers(2, 12)) for _ in range(2)
        )
        expected = ttest_ind(low, high, equal_var=False, alternative="greater").pvalue
        assert chance_of_no_gain(low.tolist(), high.tolist()) == pytest.approx(expected, abs=1e-6)


def test_clib_puts_a_batch_into_its_memory_once_and_learns_from_that_alone() -> None:
    options = {"draw_size": 3, "importance_every": 2}
    strategy: Any = make("clib", 4, (1, 2, 2), options, {"lr": 0.1}, {"name": "mlp", "widths": (3,)})
    batch = Batch(torch.randint(0, 256, (4, 1, 2, 2), dtype=torch.uint8), torch.tensor([0, 1, 1, 2]))
    for update in range(2):
        strategy.observe(batch)
        assert len(strategy.buffer) == 4
        assert bool(strategy.held_losses) == (update == 1)
    strategy.remember(batch)
    strategy.observe(batch)
    assert len(strategy.buffer) == 8
    assert len(strategy.learned) == 3
    at_rest = strategy.losses_of_all()
    strategy.train_mode(False)
    held = strategy.buffer.everything()
    expected = F.cross_entropy(strategy.net(held.images), held.labels, reduction="none")
    close(torch.tensor(at_rest), expected, 1e-5)


def test_a_slot_that_was_filled_in_a_turn_tells_nothing_of_its_rate() -> None:
    from streamlab.strategies.clib import AdaptiveRate, Options

    rates = AdaptiveRate(Options(turn=2, length=5))
    rates.measured = 20
    for losses, fresh in (([1.0, 1.0], []), ([1.0, 1.0], []), ([9.0, 1.0], [0]), ([9.0, 0.25], [])):
        rates.measure(losses, fresh)
    assert rates.falls == {True: [], False: [0.75]}


def test_clibs_share_of_the_rate_stands_beside_a_schedules() -> None:
    strategy: Any = make("clib", 4, (1, 2, 2), {}, {"lr": 0.1}, {"name": "mlp", "widths": (3,)})
    strategy.rates.is_high = False
    strategy.schedule_rate(0.5)
    assert strategy.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5 * 0.95)
    strategy.schedule_rate(0.5)
    assert strategy.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5 * 0.95)
