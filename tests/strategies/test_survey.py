"""PODNet and Coil against the numbers of the class-incremental survey's code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from authors import close, each, float64, load, make, total
from making import simulate
from torch import Tensor, nn

from streamlab.batch import Batch
from streamlab.data.source import Source
from streamlab.nets.network import Backbone, Entry, frozen_copy
from streamlab.strategies import coil, podnet

SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with float64():
        yield


class TwoMaps(Backbone):
    """relu of a convolution, and another without relu; features are the mean of its map."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(first.clone()), nn.Parameter(second.clone())
        self.feature_size = len(second)

    def staged(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        one = torch.relu(nn.functional.conv2d(images, self.first, padding=1))
        two = nn.functional.conv2d(one, self.second, padding=1)
        return two.mean((2, 3)), [one, two]

    def forward(self, images: Tensor) -> Tensor:
        return self.staged(images)[0]


def begun(z: dict[str, Any]) -> Any:
    """PODNet at the first step of the vector's session."""
    known, classes = z["known"], z["total"]
    strategy = make(
        "podnet",
        classes,
        z["images"].shape[-3:],
        {"proxies": z["proxies"]},
        SGD,
        {"name": "convnet", "blocks": 1},
    )
    strategy.net.entry = Entry((1.0,), (0.0,))
    strategy.net.backbone = TwoMaps(z["old_k1"], z["old_k2"])
    strategy.teacher = frozen_copy(strategy.net)
    strategy.net.backbone = TwoMaps(z["k1"], z["k2"])
    strategy.head = podnet.ProxyHead(len(z["k2"]), classes, z["proxies"])
    strategy.replace_head(strategy.head)
    strategy.head.begin(range(known, classes))
    with torch.no_grad():
        strategy.head.held[:known] = z["proxies_old"].view(known, z["proxies"], -1)
        strategy.head.learned.copy_(z["proxies_new"].view(classes - known, z["proxies"], -1))
        strategy.head.scale.copy_(z["sigma"])
    strategy.old[:known] = True
    strategy.optimizer = strategy.make_optimizer(strategy.trained_parameters())
    return strategy


@each("podnet")
def test_podnet_learns_as_the_survey(file: str) -> None:
    z = load(file)
    strategy, known = begun(z), z["known"]
    first = Batch(z["images"][0], z["labels"][0])
    features, _ = strategy.net.staged(first.images)
    close(strategy.net.head(features), z["first_logits"])
    losses = strategy.losses_of(first)
    close(losses["task"], z["first_lsc"])
    close(losses["flat"] / z["factor"], z["first_flat"])
    close(losses["spatial"] / (5 * z["factor"]), z["first_spatial"])
    for number, loss in enumerate(z["losses"]):
        close(total(strategy.observe(Batch(z["images"][number], z["labels"][number]))), loss)
    close(strategy.net.backbone.first, z["end_k1"])
    close(strategy.net.backbone.second, z["end_k2"])
    close(strategy.head.held[:known].flatten(0, 1), z["end_proxies_old"])
    close(strategy.head.learned.flatten(0, 1), z["end_proxies_new"])
    close(strategy.head.scale, z["end_sigma"])


def test_new_proxies_leave_the_old_ones_as_they_were_learned() -> None:
    head = podnet.ProxyHead(5, 6, 3)
    head.begin([4, 1])
    with torch.no_grad():
        head.learned.copy_(torch.arange(30.0).view(2, 3, 5))
    head.begin([0])
    close(head.held[4], torch.arange(15.0).view(3, 5))
    close(head.held[1], torch.arange(15.0, 30.0).view(3, 5))
    assert head.learned.shape == (1, 3, 5)
    assert head.learned.abs().max() <= 5**-0.5


@each("coil")
def test_coil_carries_rows_as_its_authors(file: str) -> None:
    z = load(file)
    old = z["old"]
    cost = coil.transport_cost(z["means"][:old], z["means"][old:])
    close(cost, z["cost"])
    plan = coil.transport_plan(cost, 0.464)
    close(plan, z["plan"], within=1e-7)
    rows, gamma = coil.carried_forward(z["w_old"], plan)
    close(gamma, z["gamma"], within=1e-7)
    close(rows, z["w_transported"], within=1e-7)
    back = coil.transport_cost(z["means_back"][old:], z["means_back"][:old]) + 1e-8
    carried = coil.carried_back(z["w_new_back"], coil.transport_plan(back, 0.464))
    unit = nn.functional.normalize
    close(unit(carried), unit(z["w_back"]), within=1e-7)


@each("coil")
def test_coil_learns_as_its_authors(file: str) -> None:
    z = load(file)
    old, classes, width = z["old"], z["old"] + z["new"], len(z["ext_w"])
    backbone = {"name": "mlp", "widths": (width,)}
    strategy = make("coil", classes, (1, 1, z["images"].shape[-1]), {}, SGD, backbone)
    strategy.net.entry = Entry((1.0,), (0.0,))

    def put(prefix: str) -> None:
        layer, head = strategy.net.backbone.layers[1], strategy.net.head
        with torch.no_grad():
            layer.weight.copy_(z[f"{prefix}ext_w"]), layer.bias.copy_(z[f"{prefix}ext_b"])
            head.weight[: len(z[f"{prefix}cls_w"])] = z[f"{prefix}cls_w"]
            head.scale.copy_(z[f"{prefix}sigma"])

    put("old_")
    strategy.teacher.take(strategy.net, torch.arange(classes) < old)
    put("")
    strategy.carried[old:] = z["w_transported"]
    strategy.samples = z["images"].shape[0] * z["images"].shape[1]
    images = z["images"][:, :, None, None]
    for number, loss in enumerate(z["losses_epoch0"]):
        close(total(strategy.observe(Batch(images[number], z["labels"][number]))), loss)
    close(strategy.net.backbone.layers[1].weight, z["end_ext_w"])
    close(strategy.net.head.weight, z["end_cls_w"])
    close(strategy.net.head.scale, z["end_sigma"])
    put("later_")
    strategy.epoch, strategy.epochs = 1, 2
    strategy.back[:old] = z["later_w_back"]
    features = strategy.net.features(images[0])
    said = strategy.teacher.logits(images[0])
    close(total(strategy.losses_of(features, z["labels"][0], said)), z["later_loss"])


def test_coil_counts_epochs_of_batches_that_are_learned_several_times(tiny: Source) -> None:
    """80 samples a session, 3 epochs, 2 updates a batch: rows are carried back in its last two epochs alone."""
    learned = simulate(
        tiny, "coil", scenario="class-incremental", budget="60ex",
        settings={"scenario": {"kind": "sessions", "tasks": 3}, "stream": {"epochs": 3, "updates_per_batch": 2, "batch_size": 20}},
    ).strategy  # fmt: skip
    assert (learned.epoch, learned.epochs) == (2, 3)
    assert learned.samples == learned.served == 160
    assert bool(learned.back.any())


def test_coil_carries_back_once_an_epoch() -> None:
    strategy = make("coil", 4, (1, 2, 2), {}, SGD, {"name": "mlp", "widths": (3,)})
    images = torch.randint(0, 256, (8, 1, 2, 2), dtype=torch.uint8)
    strategy.buffer.write(Batch(images[:2], torch.tensor([0, 1])), {0: 0, 1: 1})
    strategy.buffer.slots_of, strategy.buffer.count = {0: [0], 1: [1]}, 2
    strategy.teacher.take(strategy.net, torch.arange(4) < 2)
    strategy.samples, strategy.epochs = 4, 3
    made = []
    for _ in range(3):
        for part in torch.split(images[4:], 2):
            strategy.observe(Batch(part, torch.tensor([2, 3])))
            made.append(strategy.back.clone())
    assert [bool(back.any()) for back in made] == [False, False, True, True, True, True]
    close(made[2], made[3])
    assert not torch.equal(made[3], made[4])
    assert strategy.epoch == 2
