"""A base session: its network is trained once, kept under its fingerprint, and shared.

By what is trained, on which samples, from which backbone, with which config and seed. Kept in the
user's cache; another run that needs it waits for whoever trains it, and goes on where that one died.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..augmentation.protocol import Operation
from ..base_training import BaseTraining
from ..batch import images_at_once
from ..cached import touch
from ..errors import StreamlabError
from ..files import cache_folder, locked, write_bytes
from ..nets.network import Network
from ..nets.weights import as_weights, load_weights
from ..randomness import Draws
from ..runs.checkpoints import remove_checkpoints
from ..training import BaseConfig
from .fit import FitConfig, FitData, Fitted, Samples, fit

if TYPE_CHECKING:
    from ..strategy import Strategy
    from .view import View


_WEIGHTS = "base.safetensors"


def establish_base(
    strategy: Strategy, view: View, judged: Samples | None, hear: Callable[[Fitted], None]
) -> dict[str, Any] | None:
    """Train a strategy's network as its `base` says, or take it from where it was kept.

    view: the samples to train on; judged: the test images of its classes, if it has any. The network
    is frozen where the strategy says that its features never change. Returns what a result says of it;
    None for a backbone that is not learned, which only gets the head.
    """
    network, config, training = strategy.net, strategy.setting.base, strategy.base_training()
    assert training is not None
    about = None
    if any(parameter.requires_grad for parameter in network.backbone.parameters()):
        backbone = dict(strategy.setting.backbone or strategy.backbone)
        seed = strategy.setting.seed
        about = train_base(training, network, backbone, view, judged, config, seed, hear)
    else:
        among = torch.bincount(view.labels, minlength=network.num_classes) > 0
        network.head = training.head(network.backbone.feature_size, among, config).to(among.device)
    if strategy.frozen:
        network.requires_grad_(False)
    strategy.replace_head(network.head)
    return about


def train_base(
    training: BaseTraining,
    network: Network,
    backbone: dict[str, Any],
    view: View,
    test: Samples | None,
    config: BaseConfig,
    seed: int,
    hear: Callable[[Fitted], None],
) -> dict[str, Any]:
    """Fill the network with what the base session teaches it: trained now, or before, by anyone.

    view: the base session's training data; test: the test images of its classes, which are looked at
    where the config says `paper_compat`, and never otherwise. Returns what a result says of it: by
    which images the epoch was chosen, which one it was, its accuracy on them in percent, and the folder.
    """
    if config.paper_compat and test is None:
        raise StreamlabError("base.paper_compat is of few-shot sessions: these classes have no test images")
    kept, held_out = _split(Samples(view.split, view.indices), config, seed)
    judged = test if config.paper_compat else held_out
    operations = (*(view.views.operations if view.views else ()), *config.moves.operations)
    learned = (config, operations, [kept, *([judged] if judged else [])])
    place = cache_folder() / "base" / _fingerprint(training, network, backbone, *learned, seed)[:24]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StreamlabError(
            f"cannot keep the base session in {place}: {error.strerror}; XDG_CACHE_HOME names another cache"
        ) from None
    among = torch.bincount(kept.labels, minlength=network.num_classes) > 0
    network.head = training.head(network.backbone.feature_size, among, config).to(among.device)
    weights = place / _WEIGHTS
    with locked(place, wait=True):
        if not weights.exists():

            def loss(net: Network, images: Tensor, labels: Tensor) -> Tensor:
                return training.loss(net, images, labels, among)

            data = FitData(kept, judged, loss, among, operations, getattr(training, "views", 1))
            history = _fit_into(place, network, data, config, seed, hear)
            about = {"training": training.name, "config": dataclasses.asdict(config), "seed": seed}
            about |= {"backbone": backbone, "history": history}
            write_bytes(place / "about.json", json.dumps(about, indent=1).encode())
        touch(place)
        load_weights("base session", network, weights)
        history = json.loads((place / "about.json").read_text(encoding="utf-8"))["history"]
    judge = "test images (paper_compat)" if config.paper_compat else "held-out base images"
    if not config.paper_compat and held_out is None:
        return {"epoch": len(history), "chosen_on": "nothing: the last one", "folder": str(place)}
    best = max(range(len(history)), key=lambda number: history[number][2])
    accuracy = round(history[best][2], 2)
    return {"epoch": best + 1, "chosen_on": judge, "accuracy": accuracy, "folder": str(place)}


def _fit_into(
    place: Path,
    network: Network,
    data: FitData,
    config: BaseConfig,
    seed: int,
    hear: Callable[[Fitted], None],
) -> list[tuple[float, float, float]]:
    """Train, or go on where it was cut, and keep the weights; returns the figures of each epoch."""
    settled = FitConfig(
        epochs=config.epochs, batch_size=config.batch_size, smoothing=0, average=0,
        keep="last" if data.held_out is None else "best",
    )  # fmt: skip
    trained, history = fit(network, data, settled, config.optimizer, seed, place, hear)
    write_bytes(place / _WEIGHTS, as_weights(trained, {}))
    remove_checkpoints(place)
    return history


def _split(whole: Samples, config: BaseConfig, seed: int) -> tuple[Samples, Samples | None]:
    """The samples to learn from, and those of each class to choose the epoch by."""
    if config.paper_compat or not config.validation:
        return whole, None
    labels = whole.labels.cpu().numpy()
    held = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        draws = Draws(seed, "base", "validation", int(label))
        most = min(round(config.validation * len(members)), len(members) - 1)
        held[members[draws.permutation(len(members))[:most]]] = True
    chosen = torch.from_numpy(held).to(whole.split.device)
    if not held.any():
        return whole, None
    return Samples(whole.split, whole.indices[~chosen]), Samples(whole.split, whole.indices[chosen])


def _fingerprint(
    training: BaseTraining,
    network: Network,
    backbone: dict[str, Any],
    config: BaseConfig,
    operations: Sequence[Operation],
    learned: Sequence[Samples],
    seed: int,
) -> str:
    """SHA-256 of all that the trained weights follow from: pixels, labels and the loss's text too."""
    about = [
        training.name,
        described(training),
        backbone,
        dataclasses.asdict(config),
        [repr(operation) for operation in operations],
        seed,
        learned[0].split.device.type,
    ]
    about += [network.backbone.precision, dataclasses.asdict(network.entry)]
    digest = hashlib.sha256(json.dumps([*about, torch.__version__, platform.machine()]).encode())
    for tensor in chain(*(_pixels(samples) for samples in learned), network.state_dict().values()):
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.hexdigest()


def _pixels(samples: Samples) -> Iterator[Tensor]:
    """All pixels and labels of samples, some images at a time."""
    split = samples.split
    size = images_at_once(split.rows.shape)
    yield from samples.parts(size)
    yield samples.labels
    for part in torch.split(samples.indices, size):
        yield from (picture for picture in split.wholes_at(part) or () if picture is not None)


def described(training: BaseTraining) -> list[str]:
    """What a base training does: the text of its class, and the numbers that it was made with."""
    cls = type(training)
    try:
        text = inspect.getsource(cls)
    except (OSError, TypeError):  # typed into a prompt
        text = f"{cls.__module__}.{cls.__qualname__}"
    return [text, json.dumps(vars(training), sort_keys=True, default=repr)]
