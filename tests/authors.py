"""Makers for tests against the authors' numbers: a strategy in float64, in a known state."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from making import VECTORS
from torch import Tensor

from streamlab.batch import Batch
from streamlab.config import Budget, configure
from streamlab.nets.network import Entry, PixelStatistics
from streamlab.runs.spec import load_strategy
from streamlab.strategy import Setting
from streamlab.training import OptimizerConfig


def cases(name: str) -> list[str]:
    """The files of vectors of this name, whatever case they are."""
    pattern = re.compile(rf"(method_)?{name}_[a-z0-9]+\.npz")
    return sorted(path.name for path in VECTORS.glob("*.npz") if pattern.fullmatch(path.name))


def each(name: str) -> pytest.MarkDecorator:
    """A test of every such file."""
    return pytest.mark.parametrize("file", cases(name))


def load(file: str) -> dict[str, Any]:
    """Arrays as tensors (float64, int64, uint8), scalars as numbers, text as text."""
    found = {}
    with np.load(VECTORS / file) as arrays:
        for name in arrays.files:
            array = arrays[name]
            if array.dtype.kind in "US":
                found[name] = str(array)
            else:
                found[name] = array.item() if array.ndim == 0 else torch.from_numpy(array.copy())
    return found


@contextmanager
def float64() -> Iterator[None]:
    """Everything that is made within is made in double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def close(found: Any, expected: Any, within: float = 1e-9) -> None:
    """max |found - expected| <= within · max |expected|, infinities at equal places."""
    left = torch.as_tensor(found).detach().double()
    right = torch.as_tensor(expected).double()
    assert left.shape == right.shape, (left.shape, right.shape)
    assert torch.equal(left.isinf(), right.isinf())
    finite = right.isfinite()
    gap = (left[finite] - right[finite]).abs().max().item() if finite.any() else 0.0
    assert gap <= within * max(right[finite].abs().max().item(), 1e-300) if finite.any() else True, gap


def make(
    name: str,
    classes: int,
    shape: Sequence[int],
    options: dict[str, Any] | None = None,
    optimizer: dict[str, Any] | None = None,
    backbone: dict[str, Any] | None = None,
    **setting: Any,
) -> Any:
    """A strategy, allotted 100 exemplars, whose classes are all exposed."""
    cls = load_strategy(name)
    config = configure(OptimizerConfig, optimizer or {"lr": 0.1}, "optimizer")
    told = {"kind": "sessions", "shows_boundaries": True, **setting}
    channels, height, width = shape
    made = cls(
        Setting(
            classes, (channels, height, width), 0, torch.device("cpu"), PixelStatistics(0.5, 0.5),
            backbone or {}, config, **told,
        ),
        configure(cls.options_type(), options or {}, name),
    )  # fmt: skip
    made.account.allot(Budget(exemplars=100))
    made.exposed.fill_(True)
    made.train_mode(True)
    return made


def with_layers(name: str, z: dict[str, Any], classes: int | None = None, **given: Any) -> Any:
    """A strategy on one hidden layer with the vector's weights: f = relu(x w1ᵀ + b1), logits f w2ᵀ + b2."""
    width, total = len(z["w1"]), classes or len(z["w2"])
    images = z["images"]
    shape = images.shape[-3:] if images.dim() > 3 else (1, 1, images.shape[-1])
    made = make(name, total, shape, backbone={"name": "mlp", "widths": (width,)}, **given)
    put(made.net, z)
    return made


def put(net: Any, z: dict[str, Any], prefix: str = "") -> None:
    """Give a network the vector's weights, and how it scales pixels."""
    net.entry = Entry((float(z["scale"]),), (float(z["shift"]),))
    with torch.no_grad():
        net.backbone.layers[1].weight.copy_(z[f"{prefix}w1"])
        net.backbone.layers[1].bias.copy_(z[f"{prefix}b1"])
        rows = slice(0, len(z[f"{prefix}w2"]))
        net.head.weight[rows] = z[f"{prefix}w2"]
        net.head.bias[rows] = z[f"{prefix}b2"]


def fill(parameter: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)


def one_hidden_layer(net: Any, z: dict[str, Any], start: str = "init.backbone.layers.") -> None:
    """Give an mlp the vector's weights, and how it scales pixels."""
    config = json.loads(z["config"]) if "config" in z else z
    net.entry = Entry((config["pixel_scale"],), (config["pixel_shift"],))
    names = sorted(name for name in z if name.startswith(start))
    hidden = net.backbone.layers[1]
    for name in names:
        fill(getattr(hidden, name.rsplit(".", 1)[1]), z[name])


def layers(net: Any) -> dict[str, Tensor]:
    """The weights of such a network, by the vectors' names."""
    hidden = net.backbone.layers[1]
    return {"w1": hidden.weight, "b1": hidden.bias, "w2": net.head.weight, "b2": net.head.bias}


def total(losses: dict[str, Tensor]) -> Tensor:
    return sum(losses.values(), torch.zeros(()))


class Given:
    """A buffer whose draws are given, one after another; what is added is kept to be looked at."""

    def __init__(self, draws: Sequence[Batch]) -> None:
        self.draws, self.added = list(draws), list[Batch]()

    def __len__(self) -> int:
        return sum(map(len, self.draws))

    def draw(self, size: int) -> Batch:
        return self.draws.pop(0)

    def add(self, batch: Batch) -> None:
        self.added.append(batch)


class Experience:
    """An experience's samples, as a strategy may see them."""

    def __init__(self, images: Tensor, labels: Tensor, number: int = 0) -> None:
        self.images, self.labels, self.number = images, labels, number
        self.classes = tuple(labels.unique().tolist())

    def __len__(self) -> int:
        return len(self.labels)

    def of_class(self, label: int) -> Batch:
        rows = self.labels == label
        return Batch(self.images[rows], self.labels[rows])

    def batches(self, epochs: int, size: int) -> Iterator[Batch]:
        for _ in range(epochs):
            for rows in torch.arange(len(self)).split(size):
                yield Batch(self.images[rows], self.labels[rows])

    def embeddings(self, strategy: Any) -> Tensor:
        with torch.no_grad():
            embedded: Tensor = strategy.embeddings_of(self.images)
            return embedded
