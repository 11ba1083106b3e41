"""Methods of episodes equal their authors' code: losses, steps and scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from authors import Experience, cases, close, each, fill, float64, load, make, one_hidden_layer, total
from torch import Tensor

from streamlab.batch import EpisodeBatch
from streamlab.parts.svm import crammer_singer
from streamlab.strategies import baseline_plus_plus
from streamlab.strategy import Strategy


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    with float64():
        yield


@each("simpleshot_cl2n")
def test_simpleshot_predicts_as_its_authors(file: str) -> None:
    z = load(file)
    strategy = make("simpleshot", 10, (1, 1, 96), backbone={"name": "pixels"}, kind="episodes")
    strategy.mean = z["base_mean"]
    for number in range(sum(name.endswith(".support") for name in z)):
        support, query = z[f"ep{number}.support"], z[f"ep{number}.query"]
        labels = z[f"ep{number}.support_labels"]
        scores = strategy.classify_episodes(support[None], labels[None], query[None])[0]
        assert scores.argmax(1).tolist() == z[f"ep{number}.predicted"].tolist()
    images = torch.randn(7, 96)
    strategy.begin_experience(Experience(images, torch.arange(7)))
    close(strategy.mean, images.mean(0) / 255)


@each("laplacianshot")
def test_laplacianshot_predicts_as_its_authors(file: str) -> None:
    """Alone and beside other episodes, which end their updates at other times."""
    z = load(file)
    found: dict[tuple[float, bool, int], list[int]] = {}
    for number in range(sum(name.endswith(".support") for name in z)):
        made = (
            float(z[f"ep{number}.strength"]),
            bool(z[f"ep{number}.rectify"]),
            len(z[f"ep{number}.support"]),
        )
        found.setdefault(made, []).append(number)
    for (strength, rectify, _), numbers in found.items():
        options = {"strength": strength, "rectify": rectify}
        strategy = make(
            "laplacianshot", 10, (1, 1, 24), options, backbone={"name": "pixels"}, kind="episodes"
        )
        strategy.mean = z["mean"]
        parts = ("support", "support_labels", "query")
        beside = [torch.stack([z[f"ep{number}.{part}"] for number in numbers]) for part in parts]
        together = strategy.classify_episodes(*beside)
        for row, number in enumerate(numbers):
            assert together[row].argmax(1).tolist() == z[f"ep{number}.predicted"].tolist()
            alone = strategy.classify_episodes(*(part[row : row + 1] for part in beside))[0]
            close(alone, together[row])


@each("pt_map")
def test_pt_map_transports_as_its_authors(file: str) -> None:
    z = load(file)
    for number in range(sum(name.endswith(".support") for name in z)):
        support, query = z[f"ep{number}.support"], z[f"ep{number}.query"]
        size = support.shape[1]
        strategy = make("pt-map", 10, (1, 1, size), backbone={"name": "pixels"}, kind="episodes")
        labels = z[f"ep{number}.support_labels"]
        scores = strategy.classify_episodes(support[None], labels[None], query[None])[0]
        close(scores, z[f"ep{number}.scores"], 1e-5)
        assert scores.argmax(1).tolist() == z[f"ep{number}.scores"].argmax(1).tolist()


@each("baselinepp_fit")
def test_baseline_plus_plus_fits_a_support_as_its_authors(file: str) -> None:
    z = load(file)
    labels = torch.arange(z["way"]).repeat_interleave(z["shot"])[None]
    lengths, directions = z["init.L.weight_g"][None], z["init.L.weight_v"][None]
    options = baseline_plus_plus.Options()
    fitted = baseline_plus_plus.fit(
        z["support"][None], labels, lengths, directions, z["orders"][None], options
    )
    close(baseline_plus_plus.cosine_logits(z["query"][None], *fitted, float(z["scale"]))[0], z["scores"])


def episodes_of(
    z: dict[str, Any], start: str, support: Tensor, query: Tensor, config: dict[str, Any]
) -> EpisodeBatch:
    """A vector's episodes: class by class, `shot` supports and `queries` queries of each."""
    way = config["way"]
    count = support.shape[0]
    labels = z.get(
        f"{start}support_labels", torch.arange(way).repeat_interleave(config["shot"]).expand(count, -1)
    )
    answers = z.get(
        f"{start}query_labels", torch.arange(way).repeat_interleave(config["queries"]).expand(count, -1)
    )
    return EpisodeBatch(support, labels, query, answers, way)


def follow(strategy: Strategy, z: dict[str, Any], within: float = 1e-9) -> Tensor:
    """Serve the vector's steps, and compare every loss; the scores of its test afterwards."""
    config = json.loads(z["config"])
    for step, expected in enumerate(z["losses"]):
        start = f"step{step}."
        episodes = episodes_of(z, start, z[f"{start}support"][None], z[f"{start}query"][None], config)
        close(total(strategy.observe_episodes(episodes)), expected, within)
    tested = episodes_of(z, "test.", z["test.support"][None], z["test.query"][None], config)
    strategy.train_mode(False)
    with torch.no_grad():
        scores: Tensor = strategy.predict_episodes(tested.support, tested.support_labels, tested.query)[0]
    return scores


@pytest.mark.parametrize("kind", ["maml", "anil", "metasgd"])
def test_maml_and_its_kin_learn_as_learn2learn(kind: str) -> None:
    pytest.importorskip("learn2learn")
    for file in cases(kind):
        z = load(file)
        config = json.loads(z["config"])
        options = {name: config[name] for name in ("inner_lr", "inner_steps", "test_steps", "first_order")}
        strategy = make(
            {"metasgd": "meta-sgd"}.get(kind, kind), 10, (1, 8, 8), options,
            {"name": "adam", "lr": float(config["meta"].split()[1])}, {"name": "mlp", "widths": (16,)},
            way=config["way"], kind="episodes",
        )  # fmt: skip
        one_hidden_layer(strategy.net, z)
        fill(strategy.net.head.weight, z["init.head.weight"])
        fill(strategy.net.head.bias, z["init.head.bias"])
        for step, expected in enumerate(z["losses"]):
            episodes = episodes_of(
                z, f"step{step}.", z[f"step{step}.support"], z[f"step{step}.query"], config
            )
            close(total(strategy.observe_episodes(episodes)), expected)
        close(strategy.net.head.weight, z["end.head.weight"])
        (theirs,) = (n for n in z if n.startswith("end.backbone.layers.") and n.endswith("weight"))
        close(strategy.net.backbone.layers[1].weight, z[theirs])
        tested = episodes_of(z, "test.", z["test.support"], z["test.query"], config)
        logits = strategy.predict_episodes(tested.support, tested.support_labels, tested.query)
        close(logits, z["test.logits"])


VARIANTS = {"fullicnn": "icnn-all", "suppicnn": "icnn-support", "queryicnn": "icnn-query-support",
            "protoicnn": "icnn-query-prototypes", "cross": "cross-entropy", "prototriplet": "proto-triplet"}  # fmt: skip


@each("protonet_(cross|all|query_support)")
def test_protonet_learns_as_its_authors(file: str) -> None:
    z = load(file)
    config = json.loads(z["config"])
    losses = "+".join(VARIANTS[name] for name in config["losses"].split(","))
    strategy = make(
        "protonet", 10, (1, 8, 8), {"loss": losses}, {"name": "adam", "lr": config["adam"]},
        {"name": "mlp", "widths": (16,)}, way=config["way"], kind="episodes",
    )  # fmt: skip
    one_hidden_layer(strategy.net, z)
    scores = follow(strategy, z)
    (theirs,) = (n for n in z if n.startswith("end.backbone.layers.") and n.endswith("weight"))
    close(strategy.net.backbone.layers[1].weight, z[theirs])
    close(scores.log_softmax(1), z["test.logits"].log_softmax(1))


def of_hidden_layer(name: str, z: dict[str, Any], start: str, optimizer: dict[str, Any]) -> Strategy:
    """A strategy with its options of the vector, and its network's weights."""
    config = json.loads(z["config"])
    shared = ("way", "shot", "queries", "pixel_scale", "pixel_shift")
    options = {key: value for key, value in config.items() if key not in shared}
    made: Strategy = make(
        name, 10, (1, 8, 8), options, optimizer, {"name": "mlp", "widths": (16,)}, way=config["way"],
        kind="episodes",
    )  # fmt: skip
    one_hidden_layer(made.net, z, start)
    return made


def given(module: torch.nn.Module, z: dict[str, Any], names: dict[str, str]) -> None:
    """Give a module the vector's tensors; names: ours and theirs."""
    state = module.state_dict()
    for ours, theirs in names.items():
        fill(state[ours], z[theirs])


ADAM = {"name": "adam", "lr": 0.01}


@each("matchingnet")
def test_matching_networks_learn_as_chen_et_al(file: str) -> None:
    z = load(file)
    strategy = of_hidden_layer("matchingnet", z, "init.feature.l.", ADAM)
    cell = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for way, end in (("forth", ""), ("back", "_reverse")):
        given(getattr(strategy.contexts, way), z, {name: f"init.G_encoder.{name}_l0{end}" for name in cell})
    given(strategy.contexts.query, z, {name: f"init.FCE.lstmcell.{name}" for name in cell})
    close(follow(strategy, z), z["test.logits"])
    close(strategy.contexts.query.weight_ih, z["end.FCE.lstmcell.weight_ih"])
    close(strategy.net.backbone.layers[1].weight, z["end.feature.l.weight"])


@each("relationnet")
def test_relation_networks_learn_as_chen_et_al(file: str) -> None:
    z = load(file)
    config = json.loads(z["config"])
    strategy = make(
        "relationnet", 10, (1, 8, 8), {"loss": config["loss"]}, ADAM,
        {"name": "convnet", "blocks": 1, "width": 4}, way=config["way"], kind="episodes",
    )  # fmt: skip
    names = {"0.weight": "conv.weight", "1.weight": "norm.weight", "1.bias": "norm.bias"}
    given(strategy.net.backbone.layers, z, {ours: f"init.feature.{theirs}" for ours, theirs in names.items()})
    ends = {"C": ("weight", "bias"), "BN": ("weight", "bias", "running_mean", "running_var")}
    places = {"0": "layer1.C", "1": "layer1.BN", "4": "layer2.C", "5": "layer2.BN", "9": "fc1", "11": "fc2"}
    module = {
        f"{ours}.{end}": f"{theirs}.{end}"
        for ours, theirs in places.items()
        for end in ends.get(theirs.rpartition(".")[2], ("weight", "bias"))
    }
    given(strategy.relation, z, {ours: f"init.relation_module.{theirs}" for ours, theirs in module.items()})
    scores = follow(strategy, z)
    state = strategy.relation.state_dict()
    for ours, theirs in module.items():
        close(state[ours], z[f"end.relation_module.{theirs}"])
    close(scores.sigmoid() if config["loss"] == "mse" else scores, z["test.logits"])


@each("feat")
def test_feat_learns_as_its_authors(file: str) -> None:
    z = load(file)
    strategy = of_hidden_layer("feat", z, "init.encoder.l.", ADAM)
    names = {"asked.weight": "w_qs.weight", "keyed.weight": "w_ks.weight", "valued.weight": "w_vs.weight",
             "normed.weight": "layer_norm.weight", "normed.bias": "layer_norm.bias", "mixed.weight": "fc.weight",
             "mixed.bias": "fc.bias"}  # fmt: skip
    given(strategy.attention, z, {ours: f"init.slf_attn.{theirs}" for ours, theirs in names.items()})
    close(follow(strategy, z), z["test.logits"])
    for ours, theirs in names.items():
        close(strategy.attention.state_dict()[ours], z[f"end.slf_attn.{theirs}"])


@each("metaoptnet")
def test_metaoptnet_learns_as_its_authors(file: str) -> None:
    """To what 40 iterations of their solver leave; ours is exact."""
    z = load(file)
    optimizer = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    strategy = of_hidden_layer("metaoptnet", z, "init.l.", optimizer)
    close(follow(strategy, z, 1e-6), z["test.logits"], 1e-6)
    close(strategy.net.backbone.layers[1].weight, z["end.l.weight"], 1e-6)
    close(strategy.scale, z["end.scale"][0], 1e-6)


@pytest.mark.parametrize(
    ("way", "shot", "cost", "size"),
    [(3, 1, 0.1, 6), (5, 5, 0.1, 6), (2, 4, 10.0, 6), (4, 3, 0.01, 6), (5, 15, 0.1, 1600), (5, 5, 0.1, 1600)],
)
def test_the_support_vector_machine_is_at_its_optimum(way: int, shot: int, cost: float, size: int) -> None:
    """Feasible, and no feasible direction leads lower (optimality to first order)."""
    points = torch.randn(2, way * shot, size, generator=torch.Generator().manual_seed(way)).relu()
    members = F.one_hot(torch.arange(way).repeat_interleave(shot), way).double().expand(2, -1, -1)
    found = crammer_singer(points @ points.mT, members, cost)
    assert found.sum(-1).abs().max() < 1e-9
    assert (found <= cost * members + 1e-9).all()
    kernel = points @ points.mT + torch.eye(way * shot)
    slope = kernel @ found - members
    corner = cost * members - cost * F.one_hot(
        slope.argmax(-1), way
    )  # the least of <slope, a> over what is feasible
    assert ((slope * (found - corner)).sum((1, 2)) < 1e-7 * cost * way * shot).all()


def test_gradients_through_the_machine_are_those_of_finite_differences() -> None:
    points = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    members = F.one_hot(torch.arange(3).repeat_interleave(2), 3).double()[None]
    assert torch.autograd.gradcheck(lambda given: crammer_singer(given @ given.mT, members, 0.1), (points,))
