"""Several batches through one network: apart where it normalises by batch, else together, which is faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def outputs_apart(network: nn.Module, of: Callable[[Tensor], Tensor], *parts: Tensor) -> Tensor:
    """of(images) of all parts (n, C, H, W), the first not empty, joined, as if each had a pass of its own.

    of: a function of the network, of images one by one but for batch normalisation. Where the network has
    none, or is not training, one pass gives the same: the mean and deviation of a batch are all that ties an
    image to its neighbours. Source: ours; DER++'s and ER-ACE's authors pass new and replayed images apart.
    """
    by_batch = nn.modules.batchnorm._BatchNorm
    if not any(isinstance(module, by_batch) and module.training for module in network.modules()):
        return of(torch.cat(parts))
    return torch.cat([of(part) for part in parts if len(part)])


@contextmanager
def statistics_kept(network: nn.Module, when: bool = True) -> Iterator[None]:
    """Meanwhile batch normalisation goes by the batch, and its running statistics stay as they are.

    when: whether it is so at all. Source: Boschini et al., TPAMI 2022 (their code).
    """
    found = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    moved = [module for module in found if when and module.track_running_stats]
    for module in moved:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in moved:
            module.track_running_stats = True
