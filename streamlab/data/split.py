"""One split's images and labels on the compute device: a batch is an index gather.

Where a plan has transforms, an index names a sample and a transform (streamlab.plans.stream.Experience),
so that the same sample under two transforms is two samples to whoever shuffles or counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..augmentation.views import Parts
from ..errors import StreamlabError
from ..plans.environments import CONDITIONS
from ..randomness import Draws
from .corruption import corrupt
from .rows import Ahead, HeldRows, Rows
from .wholes import Wholes

Transform = Callable[[Tensor, Tensor], Tensor]  # images (n, C, H, W) and which samples (n,) they are


class Split:
    """images: (N, C, H, W) uint8, on the device or in a file; labels: (N,) int64 on the compute device.

    transforms: "identity"; "permute:SEED/NUMBER" (one order of the pixels for all channels, drawn
    from the two numbers; Goodfellow et al. 2013); or an environment, as "low-light:3". Raises
    StreamlabError for any other. wholes: the pictures that the images are the middle of, where those are
    kept; no transform touches them.
    """

    def __init__(
        self,
        images: Tensor | Rows,
        labels: Tensor,
        transforms: Sequence[str] = (),
        wholes: Wholes | None = None,
    ) -> None:
        self.rows: Rows = HeldRows(images) if isinstance(images, Tensor) else images
        self.labels, self.device = labels, labels.device
        self.transforms, self.wholes = tuple(transforms), wholes
        self._ahead = Ahead[Parts]()
        pixels = self.rows.shape[1] * self.rows.shape[2]
        self._apply = [_transform(name, pixels, self.device) for name in transforms]

    def __len__(self) -> int:
        """Indices that there are: samples, or samples times transforms."""
        return len(self.labels) * max(1, len(self._apply))

    def images_at(self, indices: Tensor) -> Tensor:
        """(n,) indices on the device -> (n, C, H, W) uint8 on the device."""
        if not self._apply:
            return self.rows.at(indices)
        samples, under = indices % len(self.labels), indices // len(self.labels)
        images = self.rows.at(samples)
        for number in torch.unique(under).tolist():
            transform = self._apply[number]
            if transform is not None:
                rows = (under == number).nonzero().flatten()
                images[rows] = transform(images[rows], samples[rows])
        return images

    def wholes_at(self, indices: Tensor) -> Parts | None:
        """(n,) indices on the device -> the whole picture of each, where they are kept."""
        if self.wholes is None:
            return None
        return self._ahead.at(indices.cpu().numpy(), self.wholes.at)

    def labels_at(self, indices: Tensor) -> Tensor:
        """(n,) indices on the device -> (n,) int64."""
        return self.labels.index_select(0, indices % len(self.labels) if self._apply else indices)

    def ahead(self, indices: Tensor) -> None:
        """(n,) indices, on the host or the device, which are likely to be asked for next."""
        self.rows.ahead(indices % len(self.labels) if self._apply else indices)
        if self.wholes is not None:
            self._ahead.expect(indices.cpu().numpy(), self.wholes.at)


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
