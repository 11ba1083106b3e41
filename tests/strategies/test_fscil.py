"""Few-shot sessions: TEEN equals its authors' numbers; the base is trained once and shared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from authors import Experience, close, each, fill, float64, load, make
from making import VECTORS, make_source, simulate, write_cifar
from torch import Tensor

from streamlab.data.load import load_source
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.files import cache_folder
from streamlab.nets.network import CosineHead, Entry
from streamlab.nets.optimizer import build_optimizer
from streamlab.parts.equiangular import equiangular_frame
from streamlab.parts.mixing import Mixed
from streamlab.simulator import events
from streamlab.strategies import alice, cec, closer, nc_fscil
from streamlab.strategies.teen import calibrate_prototypes
from streamlab.training import BaseConfig, OptimizerConfig

SESSIONS = {"base_classes": 6, "sessions": 2, "way": 2, "shot": 3}
BASE = {"epochs": 3, "batch_size": 32}


def settings(**more: object) -> dict[str, object]:
    return {"scenario": SESSIONS, "base": BASE, "backbone": {"name": "mlp", "widths": "16"}, **more}


@pytest.fixture
def double() -> Iterator[None]:
    with float64():
        yield


@pytest.fixture(scope="module")
def source() -> Source:
    return make_source(classes=10, train=40, test=10, size=8, seed=4)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("teen_*.npz")), ids=lambda path: path.stem)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_teen_equals_its_authors_code(path: object, dtype: torch.dtype, tolerance: float) -> None:
    z = np.load(str(path))
    raw = torch.from_numpy(z["raw_prototypes"]).to(dtype)
    known, way = int(z["base_classes"]), int(z["way"])
    head = CosineHead(raw.shape[1], len(raw), float(z["temperature"])).to(dtype)
    rows = [raw[:known]]
    for session in range(int(z["sessions"])):
        new = raw[known + session * way : known + (session + 1) * way]
        rows.append(calibrate_prototypes(new, raw[:known], float(z["softmax_t"]), float(z["shift_weight"])))
    head.weight.data.copy_(torch.cat(rows))
    with torch.no_grad():
        logits = head(torch.from_numpy(z["features"]).to(dtype))
    for found, name in ((head.weight.detach(), "calibrated_prototypes"), (logits, "logits")):
        assert np.abs(found.double().numpy() - z[name]).max() <= tolerance * np.abs(z[name]).max()


def test_prototypes_are_means_and_only_the_sessions_own_move(source: Source) -> None:
    plain = simulate(source, "proto-cosine", scenario="fscil", settings=settings()).strategy
    run = simulate(source, "teen:shift=0.5", scenario="fscil", settings=settings())
    teen = run.strategy
    images, labels = torch.from_numpy(source.train_images), torch.from_numpy(source.train_labels)
    base, first, _ = run.plan.experiences
    features = plain.features_of(images)
    for label in base.classes:
        mean = features[labels == label].mean(0)
        torch.testing.assert_close(plain.net.head.weight[label], mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(teen.net.head.weight[label], mean, rtol=1e-4, atol=1e-5)
    shots = torch.from_numpy(first.indices)
    for label in first.classes:
        mean = features[shots[labels[shots] == label]].mean(0)
        torch.testing.assert_close(plain.net.head.weight[label], mean, rtol=1e-4, atol=1e-5)
        expected = calibrate_prototypes(mean[None], plain.net.head.weight[list(base.classes)], 16, 0.5)[0]
        torch.testing.assert_close(teen.net.head.weight[label], expected, rtol=1e-4, atol=1e-5)


def test_the_base_is_trained_once_and_shared(source: Source) -> None:
    def trained_steps(name: str, seed: int = 0, precision: str = "float32", **base: object) -> int:
        heard: list[events.Event] = []
        own = settings(base={**BASE, "lr": 0.07, **base}, compute={"precision": precision})
        simulate(source, name, heard.append, scenario="fscil", settings=own, plan_seed=seed)
        return max((e.step for e in heard if isinstance(e, events.BaseTrained)), default=0)

    assert trained_steps("teen") > 0
    assert trained_steps("proto-cosine") == 0, "it is the same network"
    assert trained_steps("fscil-finetune") == 0
    assert trained_steps("teen", epochs=2) > 0, "another recipe"
    assert trained_steps("teen", seed=1) > 0, "another plan"
    assert trained_steps("teen", precision="bfloat16") > 0, "another precision"
    assert list((cache_folder() / "base").glob("*/base.safetensors"))


def test_a_base_that_was_cut_goes_on_to_the_same_bits(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path) + "/one")
    whole = simulate(source, "teen", scenario="fscil", settings=settings()).strategy

    def stop(event: events.Event) -> None:
        if isinstance(event, events.BaseTrained) and event.step >= 6:
            raise KeyboardInterrupt

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path) + "/two")
    with pytest.raises(KeyboardInterrupt):
        simulate(source, "teen", stop, scenario="fscil", settings=settings())
    steps: list[int] = []

    def hear(event: events.Event) -> None:
        if isinstance(event, events.BaseTrained):
            steps.append(event.step)

    again = simulate(source, "teen", hear, scenario="fscil", settings=settings()).strategy
    assert steps[0] >= 6
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(tensor, again.net.state_dict()[name]), name


def test_the_epoch_is_chosen_on_test_images_in_the_papers_way_alone(source: Source) -> None:
    """With other test pixels the network is the same, unless paper_compat is on."""
    other = make_source(classes=10, train=40, test=10, size=8, seed=4, contrast=128)
    noise = np.random.default_rng(0).integers(0, 256, other.test_images.shape)
    changed = Source(
        "tiny", other.class_names, source.train_images, source.train_labels,
        noise.astype(np.uint8), source.test_labels,
    )  # fmt: skip
    for compat, same in ((False, True), (True, False)):
        own = settings(base={"epochs": 8, "batch_size": 32, "lr": 0.4, "paper_compat": compat})
        nets = [simulate(s, "teen", scenario="fscil", settings=own).strategy.net for s in (source, changed)]
        weights = [net.backbone.state_dict() for net in nets]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]) == same


def test_a_backbone_that_is_frozen_needs_no_base_training(source: Source) -> None:
    heard: list[events.Event] = []
    vit = {"name": "vit", "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
    run = simulate(source, "teen", heard.append, scenario="fscil", settings=settings(backbone=vit))
    assert not any(isinstance(event, events.BaseTrained) for event in heard)
    assert run.evaluations[-1].accuracy > 0.2  # twice chance
    assert [len(e.exposed.nonzero()[0]) for e in run.evaluations] == [6, 8, 10]


def test_a_strategy_that_needs_a_base_is_refused_elsewhere(source: Source) -> None:
    with pytest.raises(
        StreamlabError, match=r"teen needs a base session, as fscil has, and class-incr.* has none"
    ):
        simulate(source, "teen", scenario="class-incremental", settings={"scenario": {"kind": "sessions"}})
    with pytest.raises(StreamlabError, match="base: epochs is 0, and must be at least 1"):
        simulate(source, "teen", scenario="fscil", settings=settings(base={"epochs": 0}))


def test_nesterov_is_torchs() -> None:
    start = torch.randn(7)
    own, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    mine = build_optimizer(OptimizerConfig("sgd", 0.1, 0.9, 0.01, nesterov=True), [own])
    reference = torch.optim.SGD([theirs], 0.1, 0.9, weight_decay=0.01, nesterov=True)
    for step in range(5):
        for parameter, optimizer in ((own, mine), (theirs, reference)):
            optimizer.zero_grad()
            (parameter.square().sum() + step * parameter.sum()).backward()
            optimizer.step()
    assert torch.equal(own, theirs)


def test_fact_keeps_room_for_classes_to_come(source: Source) -> None:
    """Mixtures of two base classes lie nearer to its virtual rows than where the method's losses weigh nothing."""
    nearness = {}
    for balance in (1.0, 0.0):
        rows = settings(base={**BASE, "epochs": 15})
        made = simulate(source, f"fact:balance={balance}", scenario="fscil", settings=rows).strategy
        assert len(made.virtual) == 4
        general, special = made.net.backbone.split()
        early = general(made.net.scaled(torch.from_numpy(source.train_images)))
        mixed = special((early + early.roll(7, 0)) / 2)
        cosines = torch.nn.functional.normalize(mixed) @ torch.nn.functional.normalize(made.virtual).T
        nearness[balance] = cosines.amax(1).mean()
    assert nearness[1.0] > nearness[0.0] + 0.1


@pytest.mark.parametrize("other", ["ncm", "slda", "prototype-replay", "joint", "finetune"])
def test_other_strategies_learn_in_few_shot_sessions_too(source: Source, other: str) -> None:
    run = simulate(source, other, scenario="fscil", settings=settings(stream={"epochs": 2, "batch_size": 16}))
    base = next(e for e in run.evaluations if e.task_ends)
    chance = 1 / int(base.exposed.sum())
    assert base.accuracy > 2 * chance


def test_the_papers_path_runs_on_an_archive_in_cifar_100s_format(tmp_path: Path) -> None:
    """The one command of the docs, on 100 classes of a few noisy images, with official lists."""
    write_cifar(tmp_path / "data/cifar-100", {"train.bin": 600, "test.bin": 100}, 2, 100)
    lists = tmp_path / "lists"
    lists.mkdir()
    for session in range(8):
        classes = range(60 + 5 * session, 65 + 5 * session)
        rows = [label + 100 * shot for label in classes for shot in range(5)]
        (lists / f"session_{session + 2}.txt").write_text("\n".join(map(str, rows)))
    options = {"preset": "cifar100", "class_order": "sorted", "index_lists": str(lists)}
    run = simulate(
        load_source("cifar-100", str(tmp_path / "data")), "teen", scenario="fscil",
        settings={
            "scenario": options, "backbone": {"name": "resnet32", "width": 4},
            "base": {"epochs": 1, "batch_size": 256, "mirror": True, "paper_compat": True},
        },
    )  # fmt: skip
    assert [len(e.labels) for e in run.evaluations] == list(range(60, 101, 5))
    assert run.plan.experiences[3].indices.tolist()[:6] == [70, 170, 270, 370, 470, 71]
    assert run.progress.base is not None
    assert run.progress.base["chosen_on"] == "test images (paper_compat)"


def _alice(head: Any, z: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    """Our parameters and buffers beside theirs, whose mixtures come right after the base classes."""
    base, classes = z["base"], z["classes"]
    pairs = base * (base - 1) // 2
    rows = z[f"{prefix}.w.weight"]
    ordered = torch.cat([rows[:base], rows[base + pairs : pairs + classes], rows[base : base + pairs]])
    ours = {"weight": torch.cat([ordered, rows[pairs + classes :]])}
    layers = (("0", "layer1.0"), ("1", "layer1.1"), ("3", "layer3.0"), ("4", "layer3.1"))
    for mine, theirs in layers:
        for name in ("weight", "bias", "running_mean", "running_var"):
            if f"{prefix}.proj.{theirs}.{name}" in z:
                ours[f"projection.{mine}.{name}"] = z[f"{prefix}.proj.{theirs}.{name}"]
    return ours


@pytest.mark.usefixtures("double")
@each("alice")
def test_alice_learns_its_base_as_its_authors(file: str) -> None:
    """Losses, parameters and running statistics over five steps of Nesterov's; mixtures are given."""
    z = load(file)
    among = torch.arange(z["classes"]) < z["base"]
    strategy = make("alice", z["classes"], (1, 1, 6), backbone={"name": "mlp", "widths": (5,)})
    training = alice.AngularBase(30.0, 0.4, z["projection"], 4, z["spare"])
    net = strategy.net
    net.entry = Entry((z["scale"],), (z["shift"],))
    net.head = head = training.head(5, among, BaseConfig())
    hidden = net.backbone.layers[1]
    fill(hidden.weight, z["init.body.l.weight"])
    fill(hidden.bias, z["init.body.l.bias"])
    head.load_state_dict({**head.state_dict(), **_alice(head, z, "init")})
    given = OptimizerConfig(lr=z["lr"], momentum=0.9, nesterov=True, weight_decay=5e-4)
    optimizer = build_optimizer(given, [*net.backbone.parameters(), *head.parameters()])
    for images, labels, orders, shares, loss in zip(
        z["images"], z["labels"], z["orders"], z["shares"], z["losses"], strict=True
    ):
        found = training.loss_of(net, images.flatten(0, 1), labels, list(orders), list(shares))
        close(found, loss)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    close(hidden.weight, z["end.body.l.weight"])
    state = head.state_dict()
    for name, value in _alice(head, z, "end").items():
        close(state[name], value)


def test_alices_mixtures_have_a_row_each() -> None:
    """Of base classes that are not the first ones: all pairs, both ways, after the classes."""
    among = torch.tensor([False, True, True, False, True, True])
    head = alice.AngularHead(3, among, 30.0, 4, 2)
    base = among.nonzero().flatten().tolist()
    rows = {
        frozenset((a, b)): int(head.of_pairs(torch.tensor([a]), torch.tensor([b])))
        for a in base for b in base if a != b
    }  # fmt: skip
    assert sorted(rows.values()) == list(range(6, 12))
    assert len(head.weight) == 6 + 6 + 2


def test_alices_means_are_of_the_nearest_samples() -> None:
    torch.manual_seed(0)
    features = torch.rand(9, 4)
    mean = F.normalize(features.mean(0), dim=0)
    nearest = sorted(range(9), key=lambda row: -float(F.normalize(features[row], dim=0) @ mean))[:3]
    assert alice.nearest_to_mean(features, 3).tolist() == nearest
    assert len(alice.nearest_to_mean(features, 20)) == 9


def test_a_base_training_may_ask_for_two_views(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each image of a batch comes twice, in views that differ where there is augmentation."""
    seen: list[Tensor] = []
    loss_of = alice.AngularBase.loss_of

    def look(self: Any, network: Any, images: Tensor, labels: Tensor, *rest: Any) -> Tensor:
        seen.append(images)
        assert len(images) == 2 * len(labels)
        return loss_of(self, network, images, labels, *rest)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(alice.AngularBase, "loss_of", look)
    simulation = simulate(
        make_source(classes=10, train=12, test=4, size=8), "alice", scenario="fscil", settings=settings()
    )
    first, second = seen[0].chunk(2)
    assert not torch.equal(first, second)
    assert simulation.record().at_task_ends[0].accuracy > 0.3


def _equiangular(head: Any, z: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    """Our projection's state by their names."""
    layers = {"0": "ln1.linear", "1": "ln1.ln", "3": "ln2.linear", "4": "ln2.ln", "6": "ln3.linear"}
    ours = {"direct.weight": z[f"{prefix}.neck.ffn.proj.weight"], "rows": z["init.head.etf_vec"].T}
    for mine, theirs in layers.items():
        for name in ("weight", "bias"):
            if f"{prefix}.neck.{theirs}.{name}" in z:
                ours[f"deep.{mine}.{name}"] = z[f"{prefix}.neck.{theirs}.{name}"]
    assert set(ours) == set(head.state_dict())
    return ours


@pytest.mark.usefixtures("double")
@each("nc-fscil")
def test_nc_fscil_learns_base_and_sessions_as_its_authors(file: str) -> None:
    """Losses and parameters: base steps on plain and mixed batches, a session's 20 steps with their rates, mixed
    projections, scores.
    """
    z = load(file)
    strategy = make("nc-fscil", z["classes"], (1, 1, 6), {"width": 7, "steps": (20,), "mixing": 0.0},
                    backbone={"name": "mlp", "widths": (5,)})  # fmt: skip
    training, net = strategy.base_training(), strategy.net
    net.entry = Entry((z["scale"],), (z["shift"],))
    head = training.head(5, torch.arange(z["classes"]) < 4, BaseConfig())
    head.load_state_dict(_equiangular(head, z, "init"))
    strategy.replace_head(head)
    hidden = net.backbone.layers[1]
    fill(hidden.weight, z["init.backbone.l.weight"])
    fill(hidden.bias, z["init.backbone.l.bias"])
    given = OptimizerConfig(lr=z["lr"], momentum=0.9, weight_decay=z["weight_decay"])
    optimizer = build_optimizer(given, [*net.backbone.parameters(), *head.parameters()])
    for images, labels, others, share, loss in zip(
        z["images"], z["labels"], z["others"], z["shares"].tolist(), z["losses"], strict=True
    ):
        plain = share < 0
        mixed = Mixed(images, labels, labels if plain else others, 0.0 if plain else share)
        found = training.loss_of(net, mixed, again=0.0 if plain else 1.0)
        close(found, loss)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    close(hidden.weight, z["base.backbone.l.weight"])
    for name, value in _equiangular(head, z, "base").items():
        close(head.state_dict()[name], value)

    features, labels = z["features"], z["feature_labels"]
    net.backbone.requires_grad_(False)
    close(torch.tensor([nc_fscil.rate_factor(step, 20) for step in range(1, 21)]) * 0.25, z["rates"])
    close(strategy.session_loss(features, labels, None), z["session_losses"][0])
    strategy.learn(features, labels, 1)
    for name, value in _equiangular(head, z, "session").items():
        close(head.state_dict()[name], value)
    close(strategy.session_loss(features, labels, z["orders"][0]), z["mixed_losses"][0])
    head.load_state_dict(_equiangular(head, z, "mixed"))
    close(strategy.score(features, features), z["scores"])


def test_an_equiangular_frame_is_one() -> None:
    torch.manual_seed(0)
    rows = equiangular_frame(6, 9).double()
    products = rows @ rows.T
    torch.testing.assert_close(products.diagonal(), torch.ones(6).double(), rtol=0, atol=1e-6)
    apart = products[~torch.eye(6, dtype=torch.bool)]
    torch.testing.assert_close(apart, torch.full_like(apart, -1 / 5), rtol=0, atol=1e-6)
    assert not torch.equal(rows, equiangular_frame(6, 9).double())
    for classes in (1, 10):
        with pytest.raises(StreamlabError, match=f"frame of {classes} classes does not fit in 9"):
            equiangular_frame(classes, 9)


def test_nc_fscil_keeps_means_and_trains_on_them_and_the_shots(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base means once, means of earlier novel classes as often as `copies` says, the session's shots; a frozen
    backbone, and a projection that moves.
    """
    seen: list[tuple[Tensor, Tensor, int]] = []
    learn = nc_fscil.EquiangularSessions.learn

    def look(self: Any, features: Tensor, labels: Tensor, number: int) -> None:
        before = [parameter.clone() for parameter in self.net.parameters()]
        learn(self, features, labels, number)
        after = list(self.net.parameters())
        moved = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        assert not any(moved[: len(list(self.net.backbone.parameters()))])
        assert all(moved[-7:])
        seen.append((features, labels, number))

    monkeypatch.setattr(nc_fscil.EquiangularSessions, "learn", look)
    options = {"nc-fscil": {"width": 16, "steps": [3], "copies": [2, 3], "batch_size": 8}}
    run = simulate(source, "nc-fscil", scenario="fscil", settings=settings(**options))
    base, first, second = run.plan.experiences
    assert [number for _, _, number in seen] == [1, 2]
    assert seen[0][1].tolist()[6:] == sorted(base.classes)
    counts = torch.bincount(seen[1][1], minlength=10)
    assert [int(counts[label]) for label in first.classes] == [3, 3]
    assert [int(counts[label]) for label in second.classes] == [3, 3]  # its shots
    assert all(int(counts[label]) == 1 for label in base.classes)
    rows = run.strategy.features_of(torch.from_numpy(source.train_images[first.indices]))
    labels = torch.from_numpy(source.train_labels[first.indices])
    mean = rows[labels == first.classes[0]].mean(0)
    copies = seen[1][0][seen[1][1] == first.classes[0]]
    torch.testing.assert_close(copies, mean.expand(3, -1), rtol=1e-4, atol=1e-5)


def test_nc_fscil_refuses_what_it_cannot_be(source: Source) -> None:
    with pytest.raises(StreamlabError, match="width is 4, and must be at least the number of classes"):
        simulate(source, "nc-fscil:width=4", scenario="fscil", settings=settings())
    with pytest.raises(StreamlabError, match="steps needs numbers above 0, one for each session"):
        nc_fscil.Options(steps=(5, 0))


def _evolved(strategy: Any, z: dict[str, Any], prefix: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Our state beside theirs."""
    linear, norm = strategy.net.backbone.layers[1], strategy.net.backbone.layers[2]
    parts = {
        "encoder.l": linear, "encoder.bn": norm, "slf_attn.w_qs": strategy.graph.query,
        "slf_attn.w_ks": strategy.graph.key, "slf_attn.w_vs": strategy.graph.value,
        "slf_attn.fc": strategy.graph.out, "slf_attn.layer_norm": strategy.graph.norm,
    }  # fmt: skip
    pairs = {}
    for name in [name for name in z if name.startswith(f"{prefix}.")]:
        part, number = name.removeprefix(f"{prefix}.").rsplit(".", 1)
        pairs[name] = (getattr(parts[part], number), z[name])
    return pairs


@pytest.mark.usefixtures("double")
@each("cec")
def test_cec_plays_sessions_as_its_authors(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of two episodes, the rates halved between: losses, parameters, statistics that stay, scores."""
    z = load(file)
    options = {
        "epochs": 2,
        "episodes": 2,
        "step": 1,
        "shot": 2,
        "query": 4,
        "rate": z["rate"],
        "graph_rate": z["graph_rate"],
    }
    backbone = {"name": "mlp", "widths": (7,), "norm": "batch"}
    strategy = make("cec", 5, (1, 4, 4), options, backbone=backbone)
    strategy.net.entry = Entry((z["scale"],), (z["shift"],))
    for ours, theirs in _evolved(strategy, z, "init").values():
        fill(ours, theirs)
    episodes = iter(zip(z["images"], z["quarters"], strict=True))

    def drawn(own: Any, query: int) -> tuple[Tensor, Tensor, Tensor]:
        assert query == 4
        images, quarters = next(episodes)
        return images[:2], images[2:], quarters

    losses: list[Tensor] = []
    loss_of = strategy.episode_loss

    def noted(*given: Tensor) -> Tensor:
        losses.append(loss_of(*given))
        return losses[-1]

    monkeypatch.setattr(strategy, "drawn", drawn)
    monkeypatch.setattr(strategy, "episode_loss", noted)
    images = torch.zeros(18, 1, 4, 4, dtype=torch.uint8)
    strategy.play(Experience(images, torch.arange(3).repeat(6)))
    close(torch.stack(losses), z["losses"])
    for ours, theirs in _evolved(strategy, z, "end").values():
        close(ours, theirs)
    with torch.no_grad():
        fill(strategy.net.head.weight, z["prototypes"])
        close(strategy.score(z["queries"], images), z["scores"])


def test_cec_draws_classes_and_turns_and_means_are_of_what_it_became(source: Source) -> None:
    """Classes and turns are drawn; the backbone learns in episodes, and means are of what it became."""
    strategy = make("cec", 4, (1, 4, 4), {"way": 3, "shot": 2}, backbone={"name": "mlp", "widths": (6,)})
    own = [torch.full((5, 1, 4, 4), label, dtype=torch.uint8) for label in range(4)]
    support, queries, quarters = strategy.drawn(own, 3)
    assert support.shape == (2, 3, 1, 4, 4)
    assert queries.shape == (3, 3, 1, 4, 4)
    assert torch.equal(support[0, :, 0, 0, 0], queries[2, :, 0, 0, 0])
    assert len(set(support[0, :, 0, 0, 0].tolist())) == 3
    assert len(quarters) == 3
    picture = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    again = cec.turned(picture.repeat(3, 1, 1, 1), torch.tensor([1, 2, 3]))
    assert all(torch.equal(again[quarter - 1], picture[0].rot90(quarter, (1, 2))) for quarter in (1, 2, 3))
    options = {"cec": {"epochs": 2, "episodes": 3, "step": 1, "rate": 0.1, "graph_rate": 0.1}}
    run = simulate(source, "cec", scenario="fscil", settings=settings(**options))
    still = simulate(source, "cec:epochs=0", scenario="fscil", settings=settings())
    moved = run.strategy.net.backbone.state_dict()
    begun = still.strategy.net.backbone.state_dict()
    assert any(not torch.equal(moved[name], begun[name]) for name in moved)
    labels = torch.from_numpy(source.train_labels)
    base = run.plan.experiences[0]
    mean = run.strategy.features_of(torch.from_numpy(source.train_images)[labels == base.classes[0]]).mean(0)
    torch.testing.assert_close(run.strategy.net.head.weight[base.classes[0]], mean, rtol=1e-4, atol=1e-5)


def test_cec_refuses_pictures_that_are_not_square() -> None:
    with pytest.raises(StreamlabError, match="cec turns images, and these are 2x4; they must be square"):
        make("cec", 3, (1, 2, 4), backbone={"name": "mlp"})


@pytest.mark.usefixtures("double")
@each("closer")
def test_closer_learns_its_base_as_its_authors(file: str) -> None:
    """Losses, parameters and running statistics of four steps on three views of each image."""
    z = load(file)
    options = {"between": z["between"], "contrastive": z["contrastive"]}
    backbone = {"name": "mlp", "widths": (6,), "norm": "batch"}
    strategy = make("closer", 5, (1, 3, 3), options, backbone=backbone)
    training, net, among = strategy.base_training(), strategy.net, torch.arange(5) < z["base"]
    assert training.views == 3
    net.entry = Entry((z["scale"],), (z["shift"],))
    net.head = training.head(6, among, BaseConfig(temperature=32.0))
    parts = {
        "encoder.l": net.backbone.layers[1],
        "encoder.bn": net.backbone.layers[2],
        "classifier": net.head,
    }
    for name in [name for name in z if name.startswith("init.")]:
        part, number = name.removeprefix("init.").rsplit(".", 1)
        fill(getattr(parts[part], number), z[name])
    given = OptimizerConfig(lr=z["lr"], momentum=0.9, nesterov=True, weight_decay=5e-4)
    optimizer = build_optimizer(given, [*net.backbone.parameters(), *net.head.parameters()])
    for images, labels, loss in zip(z["images"], z["labels"], z["losses"], strict=True):
        found = training.loss(net, images.flatten(0, 1), labels, among)
        close(found, loss)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    for name in [name for name in z if name.startswith("end.")]:
        part, number = name.removeprefix("end.").rsplit(".", 1)
        close(getattr(parts[part], number), z[name])


def test_closers_base_is_of_one_class_too() -> None:
    """No pair is of unlike classes then."""
    points = F.normalize(torch.rand(4, 3))
    assert float(closer.mean_cosine_between(points, torch.zeros(4))) == 0
    found = closer.mean_cosine_between(points, torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(found, (points[:2] @ points[2:].T).mean())


def test_cec_leaves_out_classes_of_too_few_images() -> None:
    """Of those that are left sessions are played; where there is none, classes are told by plain cosines."""
    torch.manual_seed(0)
    options = {"epochs": 1, "episodes": 2}
    strategy = make("cec", 3, (1, 4, 4), options, backbone={"name": "mlp", "widths": (6,)})
    images = torch.randint(0, 256, (9, 1, 4, 4), dtype=torch.uint8)
    embedding = strategy.features_of(images)
    plain = strategy.score(embedding, images)
    rows = strategy.net.head.weight
    torch.testing.assert_close(plain, 16 * F.normalize(embedding) @ F.normalize(rows).T)
    strategy.play(Experience(images[:2], torch.tensor([0, 1])))
    assert not strategy.played
    strategy.play(Experience(images, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2])))
    assert strategy.played
    assert not torch.equal(strategy.score(embedding, images), plain)


def test_cec_shares_the_base_of_plain_cosines(source: Source) -> None:
    runs = [
        simulate(source, name, scenario="fscil", settings=settings()) for name in ("cec:epochs=0", "teen")
    ]
    folders = {run.progress.base["folder"] for run in runs}
    assert len(folders) == 1


def test_nc_fscil_needs_a_backbone_that_learns(source: Source) -> None:
    frozen = {"name": "vit", "patch_size": 4, "width": 16, "depth": 1, "heads": 2}
    with pytest.raises(
        StreamlabError, match="nc-fscil learns a whole network, and the backbone vit is frozen"
    ):
        simulate(source, "nc-fscil", scenario="fscil", settings=settings(backbone=frozen))
