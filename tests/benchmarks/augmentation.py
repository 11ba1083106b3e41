"""What augmentation costs: beside a ConvNet's step, and beside torchvision in a DataLoader of two workers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from streamlab.augmentation.pipelines import AugmentConfig
from streamlab.augmentation.views import view
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.nets.optimizer import SGD

BATCH, TURNS = 128, 7
SIZES = {"crop-flip": 32, "cifar": 32, "pretrained": 224}
COUNT = {32: 20_000, 224: 1_000}
THEIRS: dict[str, Callable[[], Any]] = {
    "cifar": lambda: transforms.Compose([
        transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(brightness=63 / 255), transforms.ToTensor(),
    ]),
    "pretrained": lambda: transforms.Compose([
        transforms.RandomResizedCrop(224, scale=(0.05, 1.0), ratio=(3 / 4, 4 / 3)),
        transforms.RandomHorizontalFlip(), transforms.ToTensor(),
    ]),
}  # fmt: skip


class Pictures(Dataset[Any]):
    """Images as PIL pictures, transformed one by one, as the field's libraries do."""

    def __init__(self, images: torch.Tensor, transform: Any) -> None:
        to_picture = transforms.ToPILImage()
        self.pictures, self.transform = [to_picture(image) for image in images], transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> Any:
        return self.transform(self.pictures[number])


def images_of(size: int, count: int) -> torch.Tensor:
    made = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0))
    return made.to(torch.uint8)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def theirs(name: str) -> float:
    """Seconds an image of an epoch through their DataLoader, its workers' start left out."""
    size = SIZES[name]
    data = Pictures(images_of(size, COUNT[size]), THEIRS[name]())
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    sum(1 for _ in loader)
    return statistics.median(seconds(lambda: sum(1 for _ in loader)) for _ in range(3)) / len(data)


def ours(name: str, threads: int) -> float:
    """Seconds an image, floats in [0, 1] included, in the process that learns."""
    torch.set_num_threads(threads)
    images, operations = images_of(SIZES[name], BATCH), AugmentConfig(name).steps
    turns = [
        seconds(lambda turn=turn: view(images, operations, 7, turn * BATCH).float().div_(255))
        for turn in range(4 * TURNS)
    ]
    return statistics.median(turns) / BATCH


def share_of_a_step() -> float:
    """What `crop-flip` takes of a ConvNet's step on the same batch, one thread, turn about."""
    torch.set_num_threads(1)
    images, labels = images_of(32, BATCH), torch.arange(BATCH) % 10
    network = build_network(
        {"name": "convnet", "width": 32, "blocks": 4}, (3, 32, 32), 10, PixelStatistics(0.5, 0.25)
    )
    optimizer = SGD(network.parameters(), 0.05)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(images), labels))
        optimizer.step()

    step()
    shares = []
    for turn in range(TURNS):
        augmenting = seconds(
            lambda turn=turn: view(images, AugmentConfig("crop-flip").steps, 7, turn * BATCH)
        )
        shares.append(augmenting / seconds(step))
    return statistics.median(shares)


def section() -> list[str]:
    lines = [
        "## Augmentation",
        "",
        f"`crop-flip` of {BATCH} colour images of 32 pixels takes {100 * share_of_a_step():.1f} % of the time of a step of a ConvNet of four",
        "3x3 convolutions on them (one thread). Beside torchvision on pictures in a DataLoader of two workers, which have two cores, as",
        "ours has here; images a second as floats:",
        "",
        "| | torchvision | streamlab | faster |",
        "| --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    for name in THEIRS:
        other, mine = theirs(name), ours(name, 2)
        lines.append(
            f"| `{name}`, {SIZES[name]} pixels | {1 / other:,.0f} | {1 / mine:,.0f} | {other / mine:.1f} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    print("\n".join(section()))
