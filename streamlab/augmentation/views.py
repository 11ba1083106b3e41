"""Views of training images: each image augmented by draws of its own, in batched operations on its device.

A draw is a hash of a name and of the sample's serial number among all that were served under it, in
integer arithmetic: the same on every device, whatever was served beside it, and after a resume.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import StreamlabError
from ..randomness import hashed, key
from .protocol import Operation, PartOfWhole

Parts = tuple[Tensor | None, ...]
"""The whole picture of each image of a batch, (C, H, W) uint8 on the host; None where the image is all."""


class Views:
    """Serves images under a pipeline, and counts how many it has served: the next ones' serial numbers.

    seed, path: name the draws. No operations: images come back as they are.
    """

    def __init__(self, operations: Sequence[Operation], seed: int, *path: str | int) -> None:
        self.operations, self.name, self.served = tuple(operations), key(seed, *path), 0

    def of(self, images: Tensor, wholes: Parts | None = None) -> Tensor:
        """(n, C, H, W) uint8 -> (n, C, H', W') uint8, a new view of each."""
        first, self.served = self.served, self.served + len(images)
        return view(images, self.operations, self.name, first, wholes)


def view(
    images: Tensor, operations: Sequence[Operation], name: int, first: int, wholes: Parts | None = None
) -> Tensor:
    """(n, C, H, W) uint8 -> (n, C, H', W') uint8 under the operations.

    name: of the draws. first: serial number of the first image, whose successors have the next ones. wholes:
    the pictures that the images are the middle of, of which the first operation cuts its parts.
    """
    if not operations:
        return images
    if not len(images):
        return images.new_empty((0, images.shape[1], *size_of(images, operations)))
    columns = sum(operation.draws for operation in operations)
    served = range(first * columns, (first + len(images)) * columns)
    uniforms = _uniforms(name, served, images.device).view(len(images), columns)
    begin = 0
    if wholes is not None:
        cuts, *operations = operations
        if not isinstance(cuts, PartOfWhole):
            raise StreamlabError(f"augment: {type(cuts).__name__} cuts no part of whole pictures")
        begin = cuts.draws
        of_host = _uniforms(name, served, torch.device("cpu")).view(len(images), columns)
        whole = [one if one is not None else image.cpu() for one, image in zip(wholes, images, strict=True)]
        images = cuts.of_wholes(whole, of_host[:, :begin], images.shape[2:]).to(images.device)
    for operation in operations:
        images = operation.of(images, uniforms[:, begin : begin + operation.draws])
        begin += operation.draws
    return images


def _uniforms(name: int, counters: range, device: torch.device) -> Tensor:
    """(n,) in [0, 1), whole multiples of 2^-24 and so the same on every device."""
    numbers = hashed(name, torch.arange(counters.start, counters.stop, device=device))
    made: Tensor = (numbers >> 39).float() * 2.0**-24
    return made


def size_of(images: Tensor, operations: Sequence[Operation]) -> tuple[int, int]:
    """(H', W') of views of (n, C, H, W) images."""
    size = (images.shape[2], images.shape[3])
    for operation in operations:
        size = operation.check(size)
    return size
