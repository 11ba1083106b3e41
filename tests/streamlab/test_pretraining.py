"""Pretraining: resumable to the bit, weights that say what they fit, sources joined, images moved."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_source, write_pictures

from streamlab.augmentation.views import view
from streamlab.config import configure
from streamlab.data.joined import joined
from streamlab.errors import CorruptFile, StreamlabError
from streamlab.experiments.pretraining import DEFAULTS, Pretraining, pretrain
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.schedules import Moment, rate_factor
from streamlab.simulator.fit import FitConfig, FitData, Fitted, Samples, fit
from streamlab.training import BaseConfig, MovesConfig, OptimizerConfig

SMALL = {
    "backbone": {"patch_size": 4, "width": 16, "depth": 2, "heads": 2},
    "fit": {"epochs": 2, "batch_size": 16},
    "augment": {"shift": 0.1},
}


def asked(folder: Path, **changed: object) -> Pretraining:
    """Two classes of pictures, eight pixels a side."""
    if not (folder / "pictures").exists():
        write_pictures(folder / "pictures", classes=3, count=40)
    return Pretraining((f"folder:{folder / 'pictures'}",), settings={**SMALL, **changed})


class Stop(Exception):
    """Stands for a kill: what is on disk is all that is left."""


@pytest.mark.parametrize("stops", [(3,), (1, 5, 8)])
def test_pretraining_that_was_stopped_ends_with_the_same_bits(
    stops: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    request = asked(tmp_path)
    whole = pretrain(request, tmp_path / "whole").read_bytes()
    for stop in stops:

        def hear(fitted: Fitted, stop: int = stop) -> None:
            if fitted.step >= stop:
                raise Stop

        with pytest.raises(Stop):
            pretrain(request, tmp_path / "cut", hear)
    heard: list[int] = []
    again = pretrain(request, tmp_path / "cut", lambda fitted: heard.append(fitted.step))
    assert again.read_bytes() == whole
    assert all(step >= stops[-1] for step in heard), "it went on, and did not begin again"
    assert sorted(p.name for p in again.parent.iterdir() if p.name != ".lock") == [
        "CARD.md", "pretraining.json", "weights.safetensors",
    ]  # fmt: skip


def test_the_weights_file_alone_builds_its_backbone(tmp_path: Path) -> None:
    weights = pretrain(asked(tmp_path), tmp_path / "out")
    options = {"name": "vit", "weights": str(weights)}
    made = build_network(options, (1, 8, 8), 4, PixelStatistics(0.5, 0.5)).backbone
    assert (made.depth, made.feature_size, made.side, made.channels) == (2, 16, 8, 1)
    assert not any(parameter.requires_grad for parameter in made.parameters())
    colour = build_network(options, (3, 12, 12), 4, PixelStatistics(0.5, 0.5)).backbone
    assert colour(torch.rand(2, 3, 12, 12)).shape == (2, 16), "other images are adapted"
    card = (tmp_path / "out/CARD.md").read_text()
    assert "3 classes, 96 training images" in card
    assert "accuracy" in card


def test_what_cannot_be_pretrained_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(StreamlabError, match="backbone mlp takes no weights; pretrain one that does, as vit"):
        pretrain(asked(tmp_path, backbone={"name": "mlp"}), out)
    with pytest.raises(
        StreamlabError, match=r"pretraining begins with random weights; leave backbone.weights"
    ):
        pretrain(asked(tmp_path, backbone={"weights": "timm"}), out)
    with pytest.raises(StreamlabError, match="unknown section 'fits'; did you mean 'fit'"):
        pretrain(asked(tmp_path, fits={}), out)
    with pytest.raises(StreamlabError, match="fit: epochs is 0, and must be at least 1"):
        pretrain(asked(tmp_path, fit={"epochs": 0}), out)
    pretrain(asked(tmp_path), out)
    with pytest.raises(StreamlabError, match=r"holds weights\.safetensors already; name another folder"):
        pretrain(asked(tmp_path), out)
    (out / "weights.safetensors").unlink()
    with pytest.raises(StreamlabError, match="holds another pretraining, begun with other settings"):
        pretrain(asked(tmp_path, augment={}), out)


def test_the_best_epoch_is_kept_where_that_is_asked_for() -> None:
    source = make_source(classes=4, train=20, test=20, contrast=40)
    samples = [torch.from_numpy(a) for a in (source.train_images, source.train_labels)]
    judged = [torch.from_numpy(a) for a in (source.test_images, source.test_labels)]
    torch.manual_seed(0)
    net = build_network({"name": "mlp"}, (1, 8, 8), 4, PixelStatistics(0.5, 0.3))
    recipe = FitConfig(epochs=12, batch_size=16, average=0, keep="best")
    kept, history = fit(
        net, FitData(Samples.of(*samples), Samples.of(*judged)), recipe, OptimizerConfig(lr=0.5), 0
    )  # fmt: skip
    with torch.no_grad():
        accuracy = float((kept(judged[0]).argmax(1) == judged[1]).double().mean()) * 100
    held_out = [row[2] for row in history]
    assert accuracy == max(held_out)
    assert max(held_out) > held_out[-1], "the last epoch was not the best, else this tests nothing"


def test_the_rate_rises_and_falls() -> None:
    config = configure(OptimizerConfig, {**DEFAULTS["optimizer"], "warmup": 0.1}, "optimizer")
    rates = [rate_factor(config, Moment(step, 100, 0, 1)) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 0.001


def test_joined_sources_have_all_classes_and_one_shape() -> None:
    one, two = (
        make_source(classes=3, train=4, test=2, size=8),
        dataclasses.replace(make_source(classes=5, train=4, test=2, size=12), name="other"),
    )
    both = joined([one, two])
    assert both.image_shape == (1, 8, 8)
    assert both.class_names[:4] == ("tiny/class 0", "tiny/class 1", "tiny/class 2", "other/class 0")
    with pytest.raises(CorruptFile, match="two classes are named 'tiny/class 0'"):
        joined([one, one])
    assert np.array_equal(both.train_labels, np.concatenate([one.train_labels, two.train_labels + 3]))
    assert np.array_equal(both.train_images[:12], one.train_images)
    assert both.test_images.dtype == np.uint8
    assert abs(both.test_images[6:].mean() - two.test_images.mean()) < 3, "resized, and no brighter"
    assert joined([one]) is one


def test_images_are_moved_each_on_its_own_and_by_no_more_than_asked() -> None:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 10:18, 10:18] = 200
    images = image.expand(64, -1, -1, -1)
    assert MovesConfig().operations == ()
    moved = view(images, MovesConfig(shift=0.1).operations, 0, 0)
    assert (moved.shape, moved.dtype) == (images.shape, torch.uint8)
    weight = moved[:, 0].double()
    rows = (weight.sum(2) * torch.arange(28)).sum(1) / weight.sum((1, 2))
    assert (rows - 13.5).abs().max() <= 3, "2.8, in whole pixels"
    assert rows.std() > 1, "each by its own distance"
    grown = view(images, MovesConfig(scale=(1.5, 1.5)).operations, 0, 0)[:, 0].double().sum((1, 2))
    assert grown[0] == pytest.approx(1.5**2 * float(image.double().sum()), rel=0.1)
    half = image.clone()
    half[..., 14:] = 0
    mirrored = view(half.expand(64, -1, -1, -1), MovesConfig(mirror=True).operations, 0, 0)
    flipped = (mirrored[..., 14:].sum((1, 2, 3)) > 0).sum()
    assert 16 < flipped < 48
    with pytest.raises(StreamlabError, match="moves: scale is"):
        MovesConfig(scale=(1.2, 0.8))


def test_a_request_is_kept_beside_the_weights(tmp_path: Path) -> None:
    pretrain(asked(tmp_path), tmp_path / "out")
    about = json.loads((tmp_path / "out/pretraining.json").read_text())
    assert about["request"]["settings"]["fit"]["epochs"] == 2
    assert about["provenance"]["packages"]["torch"] == torch.__version__.split("+")[0]


def test_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(StreamlabError, match=r"the loss is (nan|inf) at step \d+; training has diverged"):
        pretrain(asked(tmp_path, optimizer={"name": "sgd", "lr": 1e30}), tmp_path / "out")


def test_a_base_sessions_rate_falls_by_a_cosine_or_at_milestones() -> None:
    """CUB's base sessions of FACT and TEEN fall by 0.25 at six epochs (their scripts)."""
    moments = [Moment(epoch * 5, 400 * 5, epoch, 400) for epoch in (0, 49, 50, 299, 300)]
    config = BaseConfig(epochs=400, milestones=(50, 100, 150, 200, 250, 300), gamma=0.25).optimizer
    assert [rate_factor(config, moment) for moment in moments] == [1, 1, 0.25, 0.25**5, 0.25**6]
    cosine = [rate_factor(BaseConfig(epochs=400).optimizer, moment) for moment in moments]
    assert cosine == pytest.approx([0.5 * (1 + math.cos(math.pi * m.epoch / 400)) for m in moments])
