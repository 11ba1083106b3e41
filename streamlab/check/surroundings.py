"""Promises about what a strategy is put into: other networks, an augmented stream, a device."""

from __future__ import annotations

from pathlib import Path

import torch

from ..augmentation.pipelines import AugmentConfig
from ..errors import StreamlabError
from .devices import DeviceWatch
from .subject import Broken, Subject, tiny_source

SMALL_CONVNET = {"name": "convnet", "width": 8, "blocks": 2}
SMALL_FROZEN = {"name": "vit", "patch_size": 7, "width": 16, "depth": 1, "heads": 2}


def check_keeps_images_as_they_lie(subject: Subject) -> None:
    """Its buffers keep images as they lie, where the stream is augmented.

    A view that is kept is augmented again each time it is replayed, and herding and means look at it.
    buffer.add(batch) keeps the originals; a batch made by hand wants batch.originals.
    """
    if subject.episodic:
        return
    strategy = subject.run(augment=AugmentConfig("crop-flip")).strategy
    there = {image.tobytes() for image in tiny_source().train_images}
    for buffer in strategy.account.buffers:
        for image in buffer.everything().images.cpu().numpy():
            if image.tobytes() not in there:
                raise Broken(
                    f"{buffer.name} keeps an image that is none of the source's", subject.line_of("Batch(")
                )


def check_serves_other_networks(subject: Subject) -> None:
    """It serves a network of convolutions, and one that is frozen stays so.

    A comparison puts all strategies on one network. Sizes are in self.net.backbone.feature_size, and what
    learns in self.trained_parameters(). A strategy that is made for one kind of network refuses others, with
    a StreamlabError.
    """
    for backbone in (SMALL_CONVNET, SMALL_FROZEN):
        try:
            fresh = subject.make(backbone=backbone)
        except StreamlabError:
            continue
        as_made = fresh.make_network().backbone.named_parameters()
        frozen = {name for name, parameter in as_made if not parameter.requires_grad}
        learned = dict(subject.run(backbone=backbone).strategy.net.backbone.named_parameters())
        for name, parameter in fresh.net.backbone.named_parameters():
            stays = name in frozen or not parameter.requires_grad
            if stays and (name not in learned or not torch.equal(learned[name], parameter)):
                where = subject.line_of("self.net.parameters")
                raise Broken(f"{name} of a frozen backbone is not what it was", where)


def check_stays_on_its_device(subject: Subject) -> None:
    """Its tensors are made on the device that it runs on.

    On a GPU a tensor made on the host fails in the first operation with one of the device:
    torch.zeros(n, device=self.setting.device), or .to(...). Seen without a GPU as far as that can be.
    """
    watch = DeviceWatch(subject.file)
    with watch:
        simulation = subject.run()
    if watch.found:
        raise Broken(
            "a tensor made without a device meets one of the device",
            f"{Path(subject.file).name}, line {watch.found}",
        )
    device = simulation.strategy.setting.device
    for name, value in vars(simulation.strategy).items():
        if isinstance(value, torch.Tensor) and (watch.is_on_host(value) or value.device != device):
            raise Broken(f"{name} lies on the host", subject.line_of(f"self.{name}"))
