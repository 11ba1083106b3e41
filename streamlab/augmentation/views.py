"""Views of training images: each image augmented by draws of its own, in batched operations on its device.

A draw is a hash of a name and of the sample's serial number among all that were served under it, in
integer arithmetic: the same on every device, whatever was served beside it, and after a resume.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..randomness import hashed, key
from .operations import Operation


class Views:
    """Serves images under a pipeline, and counts how many it has served: the next ones' serial numbers.

    seed, path: name the draws. No operations: images come back as they are.
    """

    def __init__(self, operations: Sequence[Operation], seed: int, *path: str | int) -> None:
        self.operations, self.name, self.served = tuple(operations), key(seed, *path), 0

    def of(self, images: Tensor) -> Tensor:
        """(n, C, H, W) uint8 -> (n, C, H', W') uint8, a new view of each."""
        first, self.served = self.served, self.served + len(images)
        return view(images, self.operations, self.name, first)


def view(images: Tensor, operations: Sequence[Operation], name: int, first: int) -> Tensor:
    """(n, C, H, W) uint8 -> (n, C, H', W') uint8 under the operations.

    name: of the draws. first: serial number of the first image, whose successors have the next ones.
    """
    if not operations:
        return images
    if not len(images):
        return images.new_empty((0, images.shape[1], *size_of(images, operations)))
    columns = sum(operation.draws for operation in operations)
    counters = torch.arange(first * columns, (first + len(images)) * columns, device=images.device)
    numbers = hashed(name, counters).view(len(images), columns)
    uniforms = (numbers >> 39).float() * 2.0**-24  # in [0, 1), exactly
    begin = 0
    for operation in operations:
        images = operation.of(images, uniforms[:, begin : begin + operation.draws])
        begin += operation.draws
    return images


def size_of(images: Tensor, operations: Sequence[Operation]) -> tuple[int, int]:
    """(H', W') of views of (n, C, H, W) images."""
    size = (images.shape[2], images.shape[3])
    for operation in operations:
        size = operation.check(size)
    return size
