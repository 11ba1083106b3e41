"""A cache of features that never change: each image goes through a frozen backbone once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FeatureCache:
    """Features of numbered images, computed in batches of one size when they are first asked for.

    count: images there are. compute: (batch,) numbers -> (batch, D) features. most_bytes: beyond it
    nothing is kept, and every request is computed anew; results are the same.
    """

    def __init__(
        self, count: int, batch: int, compute: Callable[[NDArray[np.int64]], Tensor], most_bytes: int
    ) -> None:
        self._known = np.zeros(count, np.bool_)
        self._batch, self._compute, self._most_bytes = batch, compute, most_bytes
        self._rows: Tensor | None = None

    def at(self, numbers: NDArray[np.int64]) -> Tensor:
        """(n, D) the features of these images, on the device that computes them."""
        missing = np.unique(numbers[~self._known[numbers]])
        for start in range(0, len(missing), self._batch):
            part = missing[start : start + self._batch]
            features = self._compute(np.resize(part, self._batch))[: len(part)]
            if self._rows is None:
                if features[0].nbytes * len(self._known) > self._most_bytes:
                    return self._uncached(numbers)
                self._rows = features.new_empty((len(self._known), *features.shape[1:]))
            self._rows[torch.from_numpy(part).to(features.device)] = features
            self._known[part] = True
        assert self._rows is not None
        return self._rows[torch.from_numpy(numbers).to(self._rows.device)]

    def _uncached(self, numbers: NDArray[np.int64]) -> Tensor:
        parts = [
            self._compute(np.resize(part, self._batch))[: len(part)]
            for part in np.split(numbers, range(self._batch, len(numbers), self._batch))
        ]
        return torch.cat(parts)
