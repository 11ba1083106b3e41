"""Methods on pretrained transformers equal PILOT's code: learning, statistics and scores of whole streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from authors import Experience, close, each, float64, load, make
from torch import Tensor

from streamlab.batch import Batch
from streamlab.nets import adapters
from streamlab.nets.network import Entry
from streamlab.nets.transformer import PromptedTransformer
from streamlab.schedules import Moment, rate_factor
from streamlab.strategies import coda_prompt


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    with float64():
        yield


def on_transformer(name: str, z: dict[str, Any], options: dict[str, Any], optimizer: dict[str, Any]) -> Any:
    """A strategy on the vector's backbone, whose images come as pixels from 0 to 1."""
    classes = 1 + max(int(z[key].max()) for key in z if key.startswith("labels"))
    depth = len({key.split(".")[2] for key in z if key.startswith("base.blocks.")})
    size = {"image_size": 8, "patch_size": 4, "width": 16, "depth": depth, "heads": 2}
    made = make(name, classes, (3, 8, 8), options, optimizer, {"name": "vit", **size})
    state = {key.removeprefix("base."): value for key, value in z.items() if key.startswith("base.")}
    own = made.net.backbone.model.state_dict()
    put_in = ("branch", "old_down", "old_up", "down", "up")  # what the strategy has put into it
    base = {key: key.replace(".inner", "") for key in own if not any(f".{name}" in key for name in put_in)}
    assert {*base.values()} == {*state}
    made.net.backbone.model.load_state_dict({key: state[name] for key, name in base.items()}, strict=False)
    assert isinstance(made.net.backbone, PromptedTransformer)
    made.net.entry = Entry((1 / 255,))
    return made


def fill(table: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        table.copy_(value)


def current(strategy: Any, labels: Tensor) -> None:
    """An experience of these classes begins."""
    strategy.current_classes = torch.zeros_like(strategy.exposed)
    strategy.current_classes[labels] = True


def learn_twice(strategy: Any, view: Experience) -> None:
    """Two epochs in batches of four, the rate where the schedule is."""
    for epoch in range(2):
        strategy.schedule_rate(rate_factor(strategy.setting.optimizer, Moment(0, 6, epoch, 2)))
        for batch in view.batches(1, 4):
            strategy.observe(batch)


@each("coda_prompt_pilot")
def test_coda_prompt_learns_as_pilots(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    z = load(file)
    count = z["prompts.0"].shape[1]
    length = z["prompts.0"].shape[2] // 16
    options = {"components": count, "tasks": 2, "length": length, "ortho": 0.1}
    strategy = on_transformer("coda-prompt", z, options, {"name": "adam", "lr": 0.02})
    fill(strategy.net.head.weight, z["head.weight"])
    fill(strategy.net.head.bias, z["head.bias"])
    given = list(z["draws"].split(z["draw_sizes"].tolist()))
    # Theirs draws block by block, and prompts, keys and attention within; all of a task before the next.
    each_task = count // 2
    drawn = iter(by_table(given, each_task))
    monkeypatch.setattr(coda_prompt.torch, "randn", lambda size, device: checked(next(drawn), size))
    for task in range(2):
        view = Experience(z["images"][task].flatten(0, 1), z["labels"][task].flatten(), task)
        current(strategy, view.labels)
        strategy.begin_experience(view)
        found = []
        for step in range(3):
            losses = strategy.observe(Batch(z["images"][task, step], z["labels"][task, step]))
            found.append(torch.stack([losses["task"], losses["ortho"]]))
        close(torch.stack(found), z[f"losses.{task}"])
        made = strategy.components
        for name in ("prompts", "keys", "attention"):
            close(getattr(made, name), z[f"{name}.{task}"], 1e-8)
        with torch.no_grad():
            scores = strategy.predict(z["test"])
        close(scores[:, : z[f"scores.{task}"].shape[1]], z[f"scores.{task}"], 1e-8)


def checked(drawn: Tensor, size: int) -> Tensor:
    assert drawn.shape == (size,)
    return drawn


def by_table(draws: list[Tensor], each_task: int) -> list[Tensor]:
    """PILOT's draws in our order: of a task, all blocks' prompts, then their keys, then their attention."""
    made: list[Tensor] = []
    first = each_task * 3 * 5
    for task, part in ((0, draws[:first]), (1, draws[first:])):
        kinds = ("prompts", "keys", "attention") if task == 0 else ("keys", "attention", "prompts")
        runs = [part[start : start + each_task] for start in range(0, len(part), each_task)]
        for kind in ("prompts", "keys", "attention"):
            place = kinds.index(kind)
            made += [row for run in runs[place::3] for row in run]
    return made


class Draws:
    """The noise and the orders of an alignment, as the vector has them."""

    def __init__(self, z: dict[str, Any]) -> None:
        self.noise = z["noise"].double()
        self.orders = list(z["orders"].long().split(z["order_sizes"].tolist()))

    def take_the_place_of_torchs(self, patched: pytest.MonkeyPatch) -> None:
        patched.setattr(torch, "randn", self.randn)
        patched.setattr(torch, "randperm", lambda count, device: self.orders.pop(0))

    def randn(self, classes: int, samples: int, size: int, device: Any) -> Tensor:
        count = classes * samples * size
        taken, self.noise = self.noise.split([count, len(self.noise) - count])
        return taken.view(classes, samples, size)

    def check_taken(self) -> None:
        assert not self.orders
        assert not len(self.noise)


@each("slca_pilot")
def test_slca_learns_and_aligns_as_pilots(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    z = load(file)
    optimizer = {"lr": 0.05, "backbone_lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    options = {"alignment_epochs": 2, "samples": 256}
    backbone = {"name": "mlp", "widths": (6,)}
    strategy = make("slca", 6, (3, 4, 4), options, optimizer, backbone)
    layers = strategy.net.backbone.layers
    layers[2] = torch.nn.Tanh()
    strategy.net.entry = Entry((1 / 255,))
    fill(layers[1].weight, z["backbone.weight"])
    fill(layers[1].bias, z["backbone.bias"])
    fill(strategy.net.head.weight, z["initial"])
    draws = Draws(z)
    for task in range(3):
        view = Experience(z[f"images.{task}"], z[f"labels.{task}"], task)
        current(strategy, view.labels)
        strategy.begin_experience(view)
        for batch in view.batches(1, 5):
            strategy.observe(batch)
        with monkeypatch.context() as patched:
            draws.take_the_place_of_torchs(patched)
            strategy.end_experience(view)
        seen = len(z[f"head.{task}"])
        close(strategy.net.head.weight[:seen], z[f"head.{task}"])
        close(layers[1].weight, z[f"backbone.{task}"])
        with torch.no_grad():
            close(strategy.predict(z["test"])[:, :seen], z[f"scores.{task}"], 1e-7)
    close(strategy.gaussians.means, z["means"], 1e-6)
    close(strategy.gaussians.covariances, z["covariances"], 1e-6)
    draws.check_taken()


@each("ease_pilot")
def test_ease_learns_and_completes_as_pilots(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    z = load(file)
    monkeypatch.setattr(adapters.F, "dropout", lambda hidden, *how: hidden)
    optimizer = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    strategy = on_transformer("ease", z, {"width": 4}, optimizer)
    for task in range(3):
        view = Experience(z[f"images.{task}"], z[f"labels.{task}"], task)
        current(strategy, view.labels)
        strategy.begin_experience(view)
        branches = [choice.branches[task] for choice in strategy.subspaces.choices]
        for number, branch in enumerate(branches):
            for ours, theirs in (("down", "down_proj"), ("up", "up_proj")):
                for part in ("weight", "bias"):
                    value = z[f"adapters.{task}.before.{number}.{theirs}.{part}"]
                    fill(getattr(getattr(branch, ours), part), value)
        fill(strategy.net.head.weight[view.classes[0] : view.classes[-1] + 1], z[f"proxies.{task}"])
        newest = {id(p) for branch in branches for p in branch.parameters()}
        learned = newest | {id(p) for p in strategy.net.head.parameters()}
        assert {id(parameter) for parameter in strategy.trained_parameters()} == learned
        for batch in view.batches(1, 4):
            strategy.observe(batch)
        close(strategy.net.head.scale, z[f"sigma.{task}"])
        for number, branch in enumerate(branches):
            close(branch.down.weight, z[f"adapters.{task}.after.{number}.down_proj.weight"])
            close(branch.up.weight, z[f"adapters.{task}.after.{number}.up_proj.weight"])
        strategy.end_experience(view)
        seen = view.classes[-1] + 1
        close(strategy.prototypes[:seen].flatten(1), z[f"prototypes.{task}"], 1e-8)
        with torch.no_grad():
            close(strategy.predict(z["test"])[:, :seen], z[f"scores.{task}"], 1e-8)


@each("inflora")
def test_inflora_learns_where_its_authors_code_does(file: str) -> None:
    z = load(file)
    blocks = len({key.split(".")[2] for key in z if key.startswith("base.blocks.")})
    rank, options = 2, {"rank": 2, "tasks": 3, "least": 0.99995, "most": 1.0}
    optimizer = {"name": "adam", "lr": 0.01, "schedule": "quarter-cosine"}
    strategy = on_transformer("inflora", z, options, optimizer)
    fill(strategy.net.head.weight, z["head.weight"])
    fill(strategy.net.head.bias, z["head.bias"])
    for task in range(3):
        view = Experience(z[f"images.{task}"], z[f"labels.{task}"], task)
        current(strategy, view.labels)
        strategy.begin_experience(view)
        learn_twice(strategy, view)
        strategy.end_experience(view)
        seen = view.classes[-1] + 1
        with torch.no_grad():
            close(strategy.predict(z["test"])[:, :seen], z[f"scores.{task}"], 1e-7)
        for number in range(blocks):
            layer, space = strategy.layers[number], strategy.spaces[number]
            close(layer.up @ layer.down, z[f"terms.{task}.{number}"], 1e-6)
            assert layer.down.shape == (rank, 16)
            close(space.basis @ space.basis.T, z[f"projection.{task}.{number}"], 1e-6)
            assert space.beside == bool(z[f"beside.{task}"][number])
            assert space.basis.shape[1] == int(z[f"ranks.{task}"][number])
        strategy.schedule_rate(1.0)


@each("mos_pilot")
def test_mos_merges_aligns_and_refines_as_pilots(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    z = load(file)
    options = {"width": 4, "alignment_epochs": 2, "samples": 5, "alignment_lr": 0.02}
    optimizer = {
        "lr": 0.005, "backbone_lr": 10.0, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine",
    }  # fmt: skip
    strategy = on_transformer("mos", z, options, optimizer)
    monkeypatch.setattr(adapters.F, "dropout", lambda hidden, *rest: hidden)
    fill(strategy.net.head.weight, z["head.weight"])
    fill(strategy.net.head.bias, z["head.bias"])
    parts = (("down", "down_proj"), ("up", "up_proj"))

    def branch_parts(task: int) -> Iterator[tuple[Tensor, str]]:
        for number, choice in enumerate(strategy.adapters.choices):
            for ours, theirs in parts:
                for part in ("weight", "bias"):
                    yield getattr(getattr(choice.branches[task], ours), part), f"{number}.{theirs}.{part}"

    for table, name in branch_parts(0):
        fill(table, z[f"adapter.{name}"])
    draws = Draws(z)
    for task in range(3):
        view = Experience(z[f"images.{task}"], z[f"labels.{task}"], task)
        current(strategy, view.labels)
        strategy.begin_experience(view)
        learn_twice(strategy, view)
        for table, name in branch_parts(task):
            close(table, z[f"adapters.{task}.{name}"])
        close(strategy.net.head.weight, z[f"learned.{task}"])
        with monkeypatch.context() as patched:
            draws.take_the_place_of_torchs(patched)
            strategy.end_experience(view)
        close(strategy.net.head.weight, z[f"aligned.{task}"], 1e-8)
        with torch.no_grad():
            scores = strategy.predict(z["test"])[:, : 2 * task + 2]
        close(scores, z[f"scores.{task}"], 1e-8)
    close(strategy.first_means, z["prototypes"], 1e-8)
    close(strategy.gaussians.means, z["means"], 1e-8)
    close(strategy.gaussians.covariances, z["covariances"], 1e-8)
    draws.check_taken()
