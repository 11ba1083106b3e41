"""Networks of a comparison, built before anything is run: whether they take its images, what they cost.

So that missing weights, or images too small, are one sentence and not a failure of every run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from .. import plugins
from ..config import configure
from ..errors import StreamlabError
from ..nets.network import Network, PixelStatistics, build_network
from ..preprocess import PreprocessConfig
from ..randomness import global_randomness
from ..runs.spec import RunSpec, load_strategy, settled_backbone
from ..simulator.resources import flops_of

if TYPE_CHECKING:
    from ..strategy import Strategy


def check_networks(
    specs: Sequence[RunSpec], classes: Mapping[str, type[Strategy]], image_shape: tuple[int, int, int]
) -> None:
    """Raise StreamlabError where a row's backbone cannot be built, or cannot take the images.

    classes: strategies made in memory, by name. A backbone that is not streamlab's is left to the
    worker that it is alone in; one whose weights would be downloaded or drawn, to its run.
    """
    rows = {spec.label: spec for spec in specs}
    for label, spec in rows.items():
        backbone = spec.backbone or (classes.get(spec.strategy) or load_strategy(spec.strategy)).backbone
        name, options = plugins.named_backbone(backbone)
        if not plugins.is_ours("backbones", name):
            continue
        plugin = configure(plugins.load("backbones", name), options, f"backbone {name}")
        if not getattr(plugin, "at_hand", True):
            continue
        try:
            _try(json.dumps(backbone, sort_keys=True, default=repr), image_shape, spec.preprocess)
        except StreamlabError as error:
            raise StreamlabError(f"{label}: {error}") from None


def plain_operations(
    backbone: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    num_classes: int,
    preprocess: PreprocessConfig,
) -> float:
    """Operations that plain fine-tuning of a network takes a sample: one pass there and one back.

    backbone: the comparison's section (empty: the mlp). Raises StreamlabError where it cannot be built.
    """
    options = settled_backbone(backbone or {"name": "mlp"})
    return _plain(json.dumps(options, sort_keys=True, default=repr), image_shape, num_classes, preprocess)


@lru_cache(maxsize=64)
def _plain(
    backbone: str, image_shape: tuple[int, int, int], num_classes: int, preprocess: PreprocessConfig
) -> float:
    images = torch.zeros((2, *image_shape), dtype=torch.uint8)  # two: one alone has no batch statistics
    with global_randomness(0, "trial"):
        network = _built(backbone, image_shape, num_classes, preprocess)
        _, operations = flops_of(lambda: network(images))
    return operations / len(images)


def _built(
    backbone: str, image_shape: tuple[int, int, int], num_classes: int, preprocess: PreprocessConfig
) -> Network:
    pixels, options = PixelStatistics(0.5, 0.25), json.loads(backbone)
    try:
        return build_network(options, image_shape, num_classes, pixels, preprocess=preprocess)
    except (RuntimeError, MemoryError) as error:  # torch has no memory of that size
        reason = str(error).partition("\n")[0]
        raise StreamlabError(f"backbone {options['name']} cannot be made: {reason}") from None


@lru_cache(maxsize=64)
def _try(backbone: str, image_shape: tuple[int, int, int], preprocess: PreprocessConfig) -> None:
    with global_randomness(0, "trial"), torch.no_grad():
        network = _built(backbone, image_shape, 2, preprocess)
        try:
            network.eval()(torch.zeros((1, *image_shape), dtype=torch.uint8))
        except (RuntimeError, ValueError, AssertionError) as error:
            shape = "x".join(map(str, image_shape))
            reason = str(error).partition("\n")[0]
            raise StreamlabError(
                f"backbone {json.loads(backbone)['name']} cannot take images of {shape}: {reason}"
            ) from None
