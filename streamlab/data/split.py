"""One split's images and labels on the compute device: a batch is an index gather.

Where a plan has transforms, an index names a sample and a transform (streamlab.stream.Experience),
so that the same sample under two transforms is two samples to whoever shuffles or counts them.
Images that stay on the host (a mapped file, say) are gathered there and sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import StreamlabError
from ..randomness import Draws


class Split:
    """images: (N, C, H, W) uint8; labels: (N,) int64 on the compute device.

    transforms: "identity" or "permute:SEED/NUMBER" (one order of the pixels for all channels,
    drawn from the two numbers; Goodfellow et al. 2013). Raises StreamlabError for any other.
    """

    def __init__(self, images: Tensor, labels: Tensor, transforms: Sequence[str] = ()) -> None:
        self.images, self.labels, self.device = images, labels, labels.device
        self.transforms = tuple(transforms)
        self._orders = _pixel_orders(transforms, images.shape[2] * images.shape[3], self.device)

    def __len__(self) -> int:
        """Indices that there are: samples, or samples times transforms."""
        return len(self.labels) * (1 if self._orders is None else len(self._orders))

    def images_at(self, indices: Tensor) -> Tensor:
        """(n,) indices on the device -> (n, C, H, W) uint8 on the device."""
        if self._orders is None:
            return self._gather(indices)
        plain = self._gather(indices % len(self.labels)).flatten(2)
        orders = self._orders.index_select(0, indices // len(self.labels))
        permuted = plain.gather(2, orders[:, None].expand_as(plain))
        return permuted.reshape(len(indices), *self.images.shape[1:])

    def labels_at(self, indices: Tensor) -> Tensor:
        """(n,) indices on the device -> (n,) int64."""
        return self.labels.index_select(0, indices if self._orders is None else indices % len(self.labels))

    def _gather(self, rows: Tensor) -> Tensor:
        if self.images.device == self.device:
            return self.images.index_select(0, rows)
        return self.images.index_select(0, rows.to(self.images.device)).to(self.device)


def _pixel_orders(transforms: Sequence[str], pixels: int, device: torch.device) -> Tensor | None:
    """(transforms, pixels) int64, or None where there are none."""
    if not transforms:
        return None
    orders = []
    for name in transforms:
        kind, _, path = name.partition(":")
        seed, _, number = path.partition("/")
        if kind == "permute" and seed.isdigit() and number.isdigit():
            orders.append(Draws(int(seed), "permute", int(number)).permutation(pixels))
        elif name == "identity":
            orders.append(np.arange(pixels))
        else:
            raise StreamlabError(f"unknown transform {name!r}; known: identity, permute:SEED/NUMBER")
    return torch.from_numpy(np.stack(orders)).to(device)
