"""A cache of features that never change: each image goes through a frozen backbone once.

Kept in memory for a run and, where it has a file, on disk for all runs on the same frozen backbone.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..cached import touch
from ..files import cache_folder, locked, write_bytes
from ..nets.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_FILES = 200


class FeatureCache:
    """Features of numbered images, computed in batches of one size when they are first asked for.

    count: images there are. compute: (batch,) numbers -> (batch, D) features. most_bytes: beyond it
    nothing is kept, and every request is computed anew; results are the same. file: where they are
    read from, and written to by `keep`; device: where they then lie.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        compute: Callable[[NDArray[np.int64]], Tensor],
        most_bytes: int,
        file: Path | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._known = np.zeros(count, np.bool_)
        self._batch, self._compute, self._most_bytes = batch, compute, most_bytes
        self._file = file if most_bytes else None
        self._device = device or torch.device("cpu")
        self._rows: Tensor | None = None
        self._read_count = 0
        self._read()

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

    def keep(self) -> None:
        """Write what is known to the file for other runs, if there is more of it than there was.

        Only the newest files stay; a full disk is no error.
        """
        from safetensors.torch import save

        if self._file is None or self._rows is None or self._known.sum() == self._read_count:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._file.parent, wait=True):
                self._read()  # what other runs have kept meanwhile
                known = torch.from_numpy(np.flatnonzero(self._known))
                rows = self._rows[known.to(self._rows.device)].cpu()
                write_bytes(self._file, save({"known": known, "features": rows}))
                files = sorted(self._file.parent.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
                for old in files[:-_MOST_FILES]:
                    old.unlink(missing_ok=True)
        except OSError:
            return
        self._read_count = len(known)

    def _read(self) -> None:
        """Take what the file knows, where there is one."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if self._file is None or not self._file.is_file():
            return
        try:
            found = load_file(self._file)
            known, features = found["known"].numpy(), found["features"]
        except (OSError, SafetensorError, KeyError):
            return
        touch(self._file)
        if not len(known) or known.max() >= len(self._known) or len(known) != len(features):
            return
        if features[0].nbytes * len(self._known) > self._most_bytes:
            return
        if self._rows is None:
            rows = features.new_zeros((len(self._known), *features.shape[1:]))
            self._rows = rows.to(self._device)
        fresh = ~self._known[known]
        self._rows[torch.from_numpy(known[fresh]).to(self._device)] = features[fresh].to(self._device)
        self._known[known] = True
        self._read_count = max(self._read_count, len(known))


def features_file(network: Network, images: str) -> Path | None:
    """Where the features of a frozen network are kept; images: what names them (a digest, a split).

    None where nothing is gained: no network, or one that is learned. Named by
    the SHA-256 of its backbone's weights, how pixels are scaled, its precision and the device.
    """
    parameters = list(network.backbone.parameters())
    if not parameters or any(parameter.requires_grad for parameter in parameters):
        return None
    digest = hashlib.sha256(repr((images, network.entry, repr(network.backbone))).encode())
    for name, tensor in network.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    about = (network.backbone.precision, parameters[0].device.type, torch.__version__, platform.machine())
    digest.update(repr(about).encode())
    return cache_folder() / "features" / f"{digest.hexdigest()[:32]}.safetensors"
