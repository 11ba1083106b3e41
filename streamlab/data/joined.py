"""Several sources as one: their classes side by side, their images brought to one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import StreamlabError
from .source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray


def joined(sources: Sequence[Source]) -> Source:
    """One source of all classes, named `source/class`; images as the first source's, in size and channels."""
    if len(sources) == 1:
        return sources[0]
    for source in sources:
        if source.wholes is not None:
            raise StreamlabError(
                f"{source.name} keeps whole pictures, which joined sources do not; leave out whole"
            )
    shape = sources[0].image_shape
    arrays: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    labels: dict[str, list[NDArray[np.int64]]] = {"train": [], "test": []}
    names: list[str] = []
    for source in sources:
        for split in ("train", "test"):
            arrays[split].append(_as_shape(getattr(source, f"{split}_images"), shape))
            labels[split].append(getattr(source, f"{split}_labels") + len(names))
        names += [f"{source.name}/{name}" for name in source.class_names]
    return Source(
        "+".join(source.name for source in sources),
        tuple(names),
        np.concatenate(arrays["train"]),
        np.concatenate(labels["train"]),
        np.concatenate(arrays["test"]),
        np.concatenate(labels["test"]),
    )


def _as_shape(images: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(N, C, H, W) in another size or number of channels, 1,000 at a time."""
    import torch
    import torch.nn.functional as F

    if images.shape[1:] == shape:
        return images
    parts = []
    for start in range(0, len(images), 1000):
        part = torch.from_numpy(np.array(images[start : start + 1000])).float()
        if part.shape[1] != shape[0]:
            part = part.mean(1, keepdim=True).expand(-1, shape[0], -1, -1)
        if tuple(part.shape[2:]) != shape[1:]:
            part = F.interpolate(part, shape[1:], mode="bilinear", antialias=True)
        parts.append(part.round().clamp(0, 255).to(torch.uint8).numpy())
    return np.concatenate(parts)
