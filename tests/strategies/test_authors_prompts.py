"""Prompts, probes and few-shot methods equal their authors' code over whole trajectories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from authors import Experience, close, each, fill, float64, load, make, one_hidden_layer, total
from torch import Tensor, nn

from streamlab.batch import Batch
from streamlab.nets.network import Backbone, CosineHead, Entry, Network
from streamlab.nets.transformer import Prefixed, PromptedTransformer, PromptRows, cosine_distances
from streamlab.schedules import Moment, rate_factor
from streamlab.simulator.fit import FitConfig, FitData, Samples, fit
from streamlab.strategies import fact
from streamlab.strategy import Strategy
from streamlab.training import BaseConfig


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    with float64():
        yield


def transformer(z: dict[str, Any], config: dict[str, Any]) -> PromptedTransformer:
    """The vector's backbone, under timm's names."""
    from timm.models.vision_transformer import VisionTransformer

    names = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")
    start = "init.backbone." if any(name.startswith("init.backbone.") for name in z) else "init."
    state = {name.removeprefix(start): value for name, value in z.items() if name.startswith(start)}
    state = {name: value for name, value in state.items() if name.startswith(names)}
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    patches = (16 // 4) ** 2
    table = state["pos_embed"]  # the port's table has rows for prompts between class token and patches
    state["pos_embed"] = torch.cat([table[:, :1], table[:, -patches:]], 1)
    model = VisionTransformer(
        img_size=16, patch_size=4, in_chans=3, embed_dim=32, depth=depth, num_classes=0,
        num_heads=config.get("num_heads", config.get("heads", 4)),
    )  # fmt: skip
    model.load_state_dict(state)
    return PromptedTransformer(model.eval().requires_grad_(False))


def prompting(name: str, z: dict[str, Any], options: dict[str, Any], **setting: Any) -> Strategy:
    """A strategy of prompts on the vector's backbone, its images as they come (pixels are not scaled)."""
    tiny = {"name": "vit", "patch_size": 4, "width": 32, "depth": 6, "heads": 4}
    clip = {"positions_g": (0, 1), "positions_e": (2, 3, 4)} if name == "dualprompt" else {}
    adam = {"name": "adam", "lr": z["lr"]}
    made = make(name, 10, (3, 16, 16), {**clip, **options}, adam, tiny, **setting)
    made.net.backbone = transformer(z, json.loads(z["config"]))
    made.net.entry = Entry((1.0,))
    made.transformer = made.net.backbone
    made.exposed.fill_(False)
    prefix = "init.backbone.head" if "init.backbone.head.weight" in z else "init.head"
    fill(made.net.head.weight, z[f"{prefix}.weight"][by_class(z)])
    fill(made.net.head.bias, z[f"{prefix}.bias"][by_class(z)])
    return made


def by_class(z: dict[str, Any]) -> Tensor:
    """(classes,) which of the authors' rows is a class's: theirs are in the order of first appearance."""
    return z["class_of_row"].argsort()


def follow(strategy: Strategy, z: dict[str, Any], updates: int, offset: float = 0.0) -> None:
    """Serve the vector's batches, and compare every update's loss."""
    losses = iter(z["losses"])
    for number in range(sum(name.endswith(".images") and name.startswith("batch") for name in z)):
        batch = Batch(z[f"batch{number}.images"], z[f"batch{number}.labels"])
        strategy.exposed[batch.labels] = True
        for _ in range(updates):
            close(total(strategy.observe(batch)) - offset, next(losses))
        strategy.remember(batch)
    assert next(losses, None) is None


def judged(strategy: Strategy, z: dict[str, Any]) -> None:
    """What is predicted equals theirs, of the classes that were seen, and the head too."""
    rows = by_class(z)
    close(strategy.net.head.weight, z["end.head_weight"][rows])
    close(strategy.net.head.bias, z["end.head_bias"][rows])
    with torch.no_grad():
        found = strategy.predict(z["predict.images"])
    seen = strategy.exposed
    close(found[:, seen], z["predict.logits"][:, rows][:, seen])


@each("mvp_trajectory_(script|append|prefix)(_all)?")
def test_mvp_learns_as_its_authors(file: str) -> None:
    z = load(file)
    how = "projected-prefix" if z["prompt_func"] == "prefix_tuning" else "append"
    query = "after-all" if z.get("use_last") else "before-last"
    strategy = prompting("mvp", z, {"prompting": how, "query": query}, shows_boundaries=False)
    assert torch.equal(strategy.masks, z["init.mask"])  # they begin at -1, as ours
    fill(strategy.keys, z["init.key"])
    fill(strategy.general.rows, z["init.g_prompts"])
    fill(strategy.expert.rows, z["init.e_prompts"])
    follow(strategy, z, z["updates_per_batch"])
    close(strategy.keys, z["end.key"])
    close(strategy.masks, z["end.mask"][:, by_class(z)])
    close(strategy.general.rows, z["end.g_prompts"])
    close(strategy.expert.rows, z["end.e_prompts"])
    close(strategy.counts, z["end.count"])
    judged(strategy, z)


@each("linear_probe")
def test_the_linear_probe_learns_as_si_blurrys(file: str) -> None:
    z = load(file)
    strategy = prompting("linear-probe", z, {}, shows_boundaries=False)
    follow(strategy, z, z["updates_per_batch"])
    judged(strategy, z)


@each("l2p_siblurry_trajectory")
def test_l2p_learns_as_si_blurrys(file: str) -> None:
    z = load(file)
    strategy = prompting("l2p", z, {}, shows_boundaries=False)  # the preset of hidden boundaries
    fill(strategy.prompts, z["init.prompt.prompts"])
    fill(strategy.keys, z["init.prompt.key"])
    follow(strategy, z, z["updates_per_batch"])
    close(strategy.prompts, z["end.prompts"])
    close(strategy.keys, z["end.keys"])
    assert torch.equal(strategy.keys, z["init.prompt.key"])  # their keys never move
    judged(strategy, z)


@each("dualprompt_siblurry_(append|prefix)")
def test_dualprompt_learns_as_si_blurrys(file: str) -> None:
    z = load(file)
    how = "append" if "append" in file else "projected-prefix"
    strategy = prompting("dualprompt", z, {"prompting": how}, shows_boundaries=False)
    fill(strategy.general.rows, z["init.g_prompt.prompts"])
    fill(strategy.expert.rows, z["init.e_prompt.prompts"])
    fill(strategy.keys, z["init.e_prompt.key"])
    follow(strategy, z, z["updates_per_batch"])
    close(strategy.general.rows, z["end.g_prompts"])
    close(strategy.expert.rows, z["end.e_prompts"])
    close(strategy.keys, z["end.keys"])
    judged(strategy, z)


def in_tasks(strategy: Strategy, z: dict[str, Any], updates: int = 1) -> None:
    """Serve the port's batches, task after task, as its engine does."""
    config = json.loads(z["config"])
    losses, masks = iter(z["losses"]), config["class_masks"]
    numbers = sorted(int(n.removeprefix("batch").split(".")[0]) for n in z if n.endswith(".labels"))
    task = -1
    for number in numbers:
        images, labels = z[f"batch{number}.images"], z[f"batch{number}.labels"]
        if task + 1 < len(masks) and set(labels.tolist()) <= set(masks[task + 1]):
            task += 1
            strategy.current_classes.zero_()[masks[task]] = True
            strategy.begin_experience(Experience(images, labels, task))
        strategy.exposed[masks[task]] = True
        batch = Batch(images, labels)
        for _ in range(updates):
            close(total(strategy.observe(batch)), next(losses))
        strategy.remember(batch)
    assert next(losses, None) is None


@each("l2p_jhlee_(persample|two_tasks|script)")
def test_l2p_learns_as_the_pytorch_port(file: str) -> None:
    z = load(file)
    config = json.loads(z["config"])
    options = {"preset": "l2p-pytorch", "clip": min(config["clip"], 1e9), "begins_anew": config["tasks"] > 1}
    options["batchwise"] = "always" if config["batchwise"] else "never"
    strategy = prompting("l2p", z, options)
    fill(strategy.prompts, z["init.prompt.prompt"])
    fill(strategy.keys, z["init.prompt.prompt_key"])
    in_tasks(strategy, z)
    close(strategy.prompts, z["end.prompts"])
    close(strategy.keys, z["end.keys"])
    judged(strategy, z)


class AsThePort(PromptRows):
    """Its rows as the port hands them out: reshaped without a transposition, which mixes samples."""

    def at(self, entries: Tensor, position: Tensor | float = 0.0) -> dict[int, Any]:
        count, blocks = len(entries), len(self.positions)
        rows = self.rows[entries].view(count, blocks, 2, self.length, -1).permute(1, 2, 0, 3, 4)
        rows = rows.reshape(blocks, count, 2, self.length, -1)
        return {b: Prefixed(rows[i, :, 0], rows[i, :, 1], False) for i, b in enumerate(self.positions)}


@each("dualprompt_jhlee_(persample|script)")
def test_dualprompt_learns_as_the_pytorch_port_but_for_its_reshape(file: str) -> None:
    z = load(file)
    config = json.loads(z["config"])
    # Their engine was driven without its copying of a task's expert, which has a test of its own.
    options = {"preset": "dualprompt-pytorch", "clip": min(config["clip"], 1e9), "starts_as_before": False}
    strategy = prompting("dualprompt", z, options)
    strategy.expert.__class__ = AsThePort
    general, expert = z["init.g_prompt"], z["init.e_prompt.prompt"]
    fill(strategy.general.rows, general.reshape(1, -1, 32))
    fill(strategy.expert.rows, expert.permute(2, 0, 1, 3, 4, 5).reshape(10, -1, 32))
    fill(strategy.keys, z["init.e_prompt.prompt_key"])
    in_tasks(strategy, z)
    close(strategy.general.rows, z["end.g_prompt"].reshape(1, -1, 32))
    close(strategy.expert.rows, z["end.e_prompt"].permute(2, 0, 1, 3, 4, 5).reshape(10, -1, 32))
    close(strategy.keys, z["end.keys"])
    close(strategy.net.head.weight, z["end.head_weight"][by_class(z)])
    images = z["predict.images"]
    with torch.no_grad():
        nearest = cosine_distances(strategy.embed(images), strategy.keys).argmin(1)
        if config["batchwise"]:  # in testing they give a batch its most frequent expert
            nearest = torch.full_like(nearest, int(nearest.bincount().argmax()))
        close(strategy.logits(images, nearest), z["predict.logits"][:, by_class(z)])


def test_a_tasks_expert_begins_as_the_tasks_before() -> None:
    tiny = {"name": "vit", "patch_size": 4, "width": 16, "depth": 5, "heads": 2}
    for preset, expected in (("dualprompt-pytorch", True), ("si-blurry", False)):
        options = {"preset": preset, "selection": "task"}
        strategy = make("dualprompt", 4, (1, 8, 8), options, {"name": "adam", "lr": 0.1}, tiny)
        images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        strategy.begin_experience(Experience(images, torch.tensor([0, 1]), 0))
        strategy.observe(Batch(images, torch.tensor([0, 1])))
        optimizer = strategy.optimizer
        strategy.begin_experience(Experience(images, torch.tensor([2, 3]), 1))
        assert torch.equal(strategy.expert.rows[1], strategy.expert.rows[0]) is expected
        assert not torch.equal(strategy.keys[1], strategy.keys[0])
        assert (strategy.optimizer is optimizer) is not expected  # whose state begins anew


@each("(teen_base_and_sessions|proto_cosine)")
def test_a_base_session_and_those_after_it_are_the_authors(file: str) -> None:
    name = "teen" if "teen" in file else "proto-cosine"
    z = load(file)
    classes = len(z["init.fc"])
    strategy = make(name, classes, (1, 8, 8), backbone={"name": "mlp", "widths": (16,)})
    net = strategy.net
    one_hidden_layer(net, z, "init.layers.")
    net.head = CosineHead(16, classes, float(z["temperature"]))
    fill(net.head.weight, z["init.fc"])
    among = torch.arange(classes) < z["base_classes"]
    orders, losses = iter(z["orders"]), []

    def loss(network: Network, images: Tensor, labels: Tensor) -> Tensor:
        rows = next(batches)
        found = strategy.base_training().loss(network, z["images"][rows], z["labels"][rows], among)
        losses.append(found.detach())
        return found

    batches = iter(rows for order in orders for rows in order.split(z["batch"]))
    rate_by = "step" if z["rate_by_step"] else "epoch"
    recipe = BaseConfig(epochs=len(z["orders"]), batch_size=z["batch"], rate_by=rate_by)
    settled = FitConfig(recipe.epochs, recipe.batch_size, smoothing=0, average=0)
    data = FitData(Samples.of(z["images"], z["labels"]), loss_of=loss)
    fit(net, data, settled, recipe.optimizer, 0)
    close(torch.stack(losses), z["losses"])
    for part in ("weight", "bias"):
        (theirs,) = (n for n in z if n.startswith("end.layers.") and n.endswith(part))
        close(getattr(net.backbone.layers[1], part), z[theirs])
    strategy.exposed.copy_(among)
    strategy.end_experience(Experience(z["images"], z["labels"], 0))
    sessions = sorted(n.split(".")[0] for n in z if n.startswith("session") and n.endswith(".images"))
    for number, session in enumerate(sessions, 1):
        images, labels = z[f"{session}.images"], z[f"{session}.labels"]
        strategy.exposed[labels] = True
        strategy.end_experience(Experience(images, labels, number))
        with torch.no_grad():
            logits = strategy.predict(z["test_images"])
        close(logits[:, : z[f"{session}.logits"].shape[1]], z[f"{session}.logits"])
    found, theirs = net.head.weight[strategy.exposed], z["end_prototypes"][strategy.exposed]
    base = z["base_classes"]
    close(found[:base], theirs[:base])  # base rows stay raw means
    if name == "proto-cosine":  # theirs is TEEN's rule without a shift, which brings novel ones to length 1
        found = F.normalize(found)
    close(found[base:], theirs[base:])


def test_a_base_sessions_rate_falls_once_an_epoch() -> None:
    by_epoch, by_step = BaseConfig().optimizer, BaseConfig(rate_by="step").optimizer
    moments = [Moment(step, 8, step // 2, 4) for step in (0, 4, 5)]
    assert [rate_factor(by_epoch, moment) for moment in moments] == pytest.approx([1.0, 0.5, 0.5])
    assert rate_factor(by_step, moments[2]) < 0.5


class Staged(Backbone):
    """The vector's encoder: three convolutional stages, cut before the last."""

    feature_size = 16

    def __init__(self, z: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict()
        for name, stride in (("conv1", 1), ("layer1.0", 1), ("layer2.0", 2), ("layer3.0", 2)):
            weight = z[f"init.encoder.{name}.weight"]
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, stride, 1)
            fill(layer.weight, weight)
            assert layer.bias is not None
            fill(layer.bias, z[f"init.encoder.{name}.bias"])
            self.encoder[name.replace(".", "_")] = layer
        *early, last = self.encoder.values()
        self.early = nn.Sequential(*(part for layer in early for part in (layer, nn.ReLU())))
        self.last = nn.Sequential(last, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def split(self) -> tuple[nn.Module, nn.Module]:
        return self.early, self.last

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.last(self.early(images))
        return features


@each("fact_base_loss")
def test_facts_base_loss_is_its_authors(file: str) -> None:
    z = load(file)
    base, classes = z["base_classes"], len(z["init.fc.weight"])
    among = torch.arange(classes) < base
    net = Network(Staged(z), classes, Entry((1.0,)))
    head = fact.ReservingHead(16, among, z["temperature"])
    assert (head.is_open[:base, base:].sum(0) == fact.OPEN_TO).all()
    assert not head.is_open[:, :base].any()
    close(head.weight @ head.weight.T, torch.eye(classes))  # orthogonal at first
    assert torch.equal(head.reserved, head.weight)
    fill(head.weight, z["init.fc.weight"])
    head.reserved[base:] = z["init.dummy_orthogonal_classifier.weight"]
    head.is_open[:base] = z["mask"].bool()
    net.head = head
    training = fact.ForwardCompatibleBase(z["balance"], 2.0)
    loss = training.loss_of(net, z["images"], z["labels"], among, z["order"], z["beta"])
    close(loss, z["whole.loss"])
    for name, layer in net.backbone.encoder.items():
        theirs = name.replace("_0", ".0")
        close(
            torch.autograd.grad(loss, layer.weight, retain_graph=True)[0],
            z[f"whole.grad.encoder.{theirs}.weight"],
        )
    close(torch.autograd.grad(loss, head.weight, retain_graph=True)[0], z["whole.grad.fc.weight"])
    options = fact.Options(balance=0.001, mixing=0.5)
    strategy = make(
        "fact",
        6,
        (1, 8, 8),
        {"balance": 0.001, "mixing": 0.5},
        backbone={"name": "convnet", "blocks": 2, "width": 8},
    )
    assert strategy.options == options
    assert strategy.base_training() == fact.ForwardCompatibleBase(0.001, 0.5)


@each("fact_prediction")
def test_facts_prediction_is_its_authors(file: str) -> None:
    z = load(file)
    found = fact.blended(z["features"], z["prototypes"], z["virtual"], z["temperature"], z["eta"])
    close(found, z["probabilities"])
    strategy = make("fact", 70, (1, 1, 96), {"eta": z["eta"]}, backbone={"name": "pixels"})
    strategy.net.head = CosineHead(96, 70, z["temperature"])
    seen = len(z["prototypes"])
    fill(strategy.net.head.weight[:seen], z["prototypes"])
    strategy.exposed[seen:] = False
    strategy.virtual, strategy.session = z["virtual"], 1
    with torch.no_grad():
        close(strategy.score(z["features"], z["features"])[:, :seen], z["probabilities"])
        strategy.session = 0  # the base session is judged by cosine alone
        cosine = (z["temperature"] * F.normalize(z["features"]) @ F.normalize(z["prototypes"]).T).softmax(1)
        close(strategy.score(z["features"], z["features"])[:, :seen], cosine)
