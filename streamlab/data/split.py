"""One split's images and labels on the compute device: a batch is an index gather.

Where a plan has transforms, an index names a sample and a transform (streamlab.plans.stream.Experience),
so that the same sample under two transforms is two samples to whoever shuffles or counts them.
Images that stay on the host (a mapped file, say) are gathered there and sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import StreamlabError
from ..plans.environments import CONDITIONS
from ..randomness import Draws
from .corruption import corrupt

Transform = Callable[[Tensor, Tensor], Tensor]  # images (n, C, H, W) and which samples (n,) they are


class Split:
    """images: (N, C, H, W) uint8; labels: (N,) int64 on the compute device.

    transforms: "identity"; "permute:SEED/NUMBER" (one order of the pixels for all channels, drawn
    from the two numbers; Goodfellow et al. 2013); or an environment, as "low-light:3". Raises
    StreamlabError for any other.
    """

    def __init__(self, images: Tensor, labels: Tensor, transforms: Sequence[str] = ()) -> None:
        self.images, self.labels, self.device = images, labels, labels.device
        self.transforms = tuple(transforms)
        pixels = images.shape[2] * images.shape[3]
        self._apply = [_transform(name, pixels, self.device) for name in transforms]

    def __len__(self) -> int:
        """Indices that there are: samples, or samples times transforms."""
        return len(self.labels) * max(1, len(self._apply))

    def images_at(self, indices: Tensor) -> Tensor:
        """(n,) indices on the device -> (n, C, H, W) uint8 on the device."""
        if not self._apply:
            return self._gather(indices)
        samples, under = indices % len(self.labels), indices // len(self.labels)
        images = self._gather(samples)
        for number in torch.unique(under).tolist():
            transform = self._apply[number]
            if transform is not None:
                rows = (under == number).nonzero().flatten()
                images[rows] = transform(images[rows], samples[rows])
        return images

    def labels_at(self, indices: Tensor) -> Tensor:
        """(n,) indices on the device -> (n,) int64."""
        return self.labels.index_select(0, indices % len(self.labels) if self._apply else indices)

    def _gather(self, rows: Tensor) -> Tensor:
        if self.images.device == self.device:
            return self.images.index_select(0, rows)
        return self.images.index_select(0, rows.to(self.images.device)).to(self.device)


def _transform(name: str, pixels: int, device: torch.device) -> Transform | None:
    """What is done to images under this name; None where that is nothing."""
    kind, _, path = name.partition(":")
    seed, _, number = path.partition("/")
    if name == "identity":
        return None
    if kind == "permute" and seed.isdigit() and number.isdigit():
        order = torch.from_numpy(Draws(int(seed), "permute", int(number)).permutation(pixels)).to(device)
        return lambda images, samples: images.flatten(2)[:, :, order].view_as(images)
    if kind in CONDITIONS:
        return lambda images, samples: corrupt(images, samples, name)
    raise StreamlabError(
        f"unknown transform {name!r}; known: identity, permute:SEED/NUMBER, and environments "
        f"({', '.join(CONDITIONS)}) with a severity, as low-light:3"
    )
