"""Batches of one sample, of which some batch normalisations can take no variance: refused in a sentence.

Before the run, where nothing could join the sample; else when it comes.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..config import StreamConfig
from ..errors import StreamlabError
from ..plans.stream import StreamPlan
from ..strategy import Strategy
from .pace import BATCH_SIZE

_TORCH_SAYS = "more than 1 value per channel"


def refuse_single_samples(
    strategy: Strategy, plan: StreamPlan, stream: StreamConfig, image_shape: tuple[int, ...]
) -> None:
    """Raise StreamlabError where a batch of the plan is one sample, and neither network nor memory saves it.

    image_shape: (C, H, W), as images lie.
    """
    size = stream.batch_size or BATCH_SIZE
    counts = [len(experience.indices) for experience in plan.experiences]
    alone = [number for number, count in enumerate(counts) if count % size == 1 or (count and size == 1)]
    first_is_base = strategy.base is not None
    alone = [number for number in alone if number or not first_is_base]
    if not alone or strategy.account.buffers or _takes_one(strategy, image_shape):
        return
    raise StreamlabError(
        f"the last batch of experience {alone[0] + 1} is one sample, of which this backbone's batch "
        f"normalisation has no variance; choose another stream.batch_size than {size}"
    )


def told(error: ValueError) -> ValueError | StreamlabError:
    """torch's word for it as a sentence; any other error as it is."""
    if _TORCH_SAYS not in str(error):
        return error
    return StreamlabError(
        "a batch is one sample, of which this backbone's batch normalisation has no variance; choose "
        "another stream.batch_size"
    )


def _takes_one(strategy: Strategy, image_shape: tuple[int, ...]) -> bool:
    """Whether its network learns from one image: it has none of these layers, or they see many places."""
    network = strategy.net
    learned = [part for part in network.modules() if isinstance(part, _BatchNorm) and _learns(part)]
    if not learned:
        return True
    probe = copy.deepcopy(network).train()
    image = torch.zeros((1, *image_shape), dtype=torch.uint8, device=strategy.setting.device)
    try:
        with torch.no_grad():
            probe(image)
    except ValueError as error:
        return _TORCH_SAYS not in str(error)
    return True


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters(recurse=False))
