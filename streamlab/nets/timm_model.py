"""timm:NAME - any of timm's models that gives features, by its name and tag, as timm:resnet50.a1_in1k.

Images are brought to what its weights expect on the device, in the batch. A plain vision transformer takes
prompts too (transformer.py).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import at_least
from ..errors import StreamlabError, unknown
from ..preprocess import ImageShape
from .network import Backbone
from .transformer import PromptedTransformer
from .weights import read_header

CITATION = """
@misc{wightman2019timm,
  title = {{PyTorch} Image Models},
  author = {Wightman, Ross},
  year = {2019},
}
"""

_HERE = "backbone timm"
_HUB = "hub:"


@dataclass(frozen=True)
class TimmModel:
    """model: a name of timm's, with the tag of its weights. weights: timm (downloaded), hub:REPO@REVISION
    (another repository or revision of the hub), random, or a safetensors file with timm's names or those of
    the weights' authors. size: pixels a side that it works at (0: the weights' own). train: what of it
    learns: nothing, norms (scales and shifts of its normalisations), blocks:N (the last N), or all.
    """

    model: str = ""
    weights: str = "timm"
    size: int = 0
    train: str = "nothing"
    standardise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(_HERE, "size", self.size, 0)
        kind, _, count = self.train.partition(":")
        if self.train not in ("nothing", "norms", "all") and not (
            kind == "blocks" and count.isdigit() and int(count) > 0
        ):
            raise StreamlabError(
                f"{_HERE}: train is {self.train!r}, and should be nothing, norms, blocks:N or all"
            )

    @property
    def learns(self) -> bool:
        """Whether any of its parameters is learned."""
        return self.train != "nothing"

    @property
    def at_hand(self) -> bool:
        """Whether its weights are a file, which is tried before a run; no hub is asked for that."""
        return self.weights not in ("timm", "random") and not self.weights.startswith(_HUB)

    def build(self, image_shape: ImageShape) -> Backbone:
        """Raises StreamlabError for an unknown model, one without features, a size that it does not take, or
        weights that do not fit; CorruptFile for a file that is no safetensors."""
        import timm

        known = [*timm.list_models(), *timm.list_pretrained()]
        if self.model not in known:
            raise unknown("model of timm", self.model, known, "timm.list_models() lists them")
        model = self._made(timm)
        given = self.weights != "random"
        if given and self.weights != "timm" and not self.weights.startswith(_HUB):
            fill(model, self.model, Path(self.weights))
        about: Any = model.pretrained_cfg
        normalisation = tuple(about["mean"]), tuple(about["std"])
        side = self.size or int(about["input_size"][1])
        made: Backbone
        if _takes_prompts(model):
            made = PromptedTransformer(model, normalisation, str(about["interpolation"]))
        else:
            made = _TimmBackbone(model, normalisation, side, str(about["interpolation"]))
        made.requires_grad_(False)
        for parameter in learning(model, self.train):
            parameter.requires_grad_(True)
        made.given = given
        return made

    def _made(self, timm: Any) -> nn.Module:
        options: dict[str, Any] = {"pretrained": self.weights == "timm" or self.weights.startswith(_HUB)}
        if self.weights.startswith(_HUB):
            options["pretrained_cfg_overlay"] = {"hf_hub_id": self.weights.removeprefix(_HUB)}
        try:
            if self.size:  # a transformer is made for one size; a network of convolutions takes any
                with contextlib.suppress(TypeError):
                    return cast(
                        nn.Module, timm.create_model(self.model, num_classes=0, img_size=self.size, **options)
                    )
            return cast(nn.Module, timm.create_model(self.model, num_classes=0, **options))
        except (TypeError, AssertionError) as error:
            raise StreamlabError(f"{_HERE}: timm cannot make {self.model}: {error}") from None
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StreamlabError(
                f"{_HERE}: the weights of {self.model} cannot be had ({reason}); weights names a safetensors "
                f"file, or random"
            ) from None


class _TimmBackbone(Backbone):
    """A model of timm's without its classifier. side: pixels that images are brought to."""

    def __init__(
        self,
        model: Any,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        side: int,
        interpolation: str,
    ) -> None:
        super().__init__()
        self.model, self.side, self.interpolation = model, side, interpolation
        self.channels = int(next(p for p in model.parameters() if p.dim() == 4).shape[1])
        self.feature_size = int(model.num_features)
        if getattr(model, "head_hidden_size", None):
            self.feature_size = int(model.head_hidden_size)
        self.mean: Tensor
        self.deviation: Tensor
        self.expect(*normalisation)

    def expect(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> bool:
        if len(mean) not in (1, self.channels):
            raise StreamlabError(
                f"preprocess: mean has {len(mean)} numbers, and the backbone takes images of {self.channels} "
                f"channels"
            )
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None], persistent=False)
        return True

    def entered(self, images: Tensor) -> Tensor:
        """Images as the model takes them: in its channels and size, normalised."""
        if images.shape[1] != self.channels:
            images = images.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)
        if images.shape[-2:] != (self.side, self.side):
            images = F.interpolate(images, (self.side, self.side), mode=self.interpolation, antialias=True)
        return (images - self.mean) / self.deviation

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.model(self.entered(images)))

    def split(self) -> tuple[nn.Module, nn.Module]:
        """A ResNet's last stage is special."""
        from timm.models.resnet import ResNet

        if not isinstance(self.model, ResNet):
            return super().split()
        stages = dict(self.model.named_children())
        last = list(stages).index("layer4")
        parts = list(stages.values())
        return nn.Sequential(_Entry(self), *parts[:last]), nn.Sequential(*parts[last:])

    def train(self, mode: bool = True) -> _TimmBackbone:
        """What learns nothing stays in evaluation mode, so that its running statistics do not move."""
        super().train(mode)
        for module in self.model.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
        return self


class _Entry(nn.Module):
    """What a backbone does to images first; holds nothing of it."""

    def __init__(self, backbone: _TimmBackbone) -> None:
        super().__init__()
        self.entered = backbone.entered

    def forward(self, images: Tensor) -> Tensor:
        return self.entered(images)


def _takes_prompts(model: nn.Module) -> bool:
    """Whether its features are the class token's after the final norm, of plain pre-norm blocks."""
    from timm.models.vision_transformer import VisionTransformer

    if type(model) is not VisionTransformer or getattr(model, "global_pool", "") != "token":
        return False
    plain = isinstance(model.fc_norm, nn.Identity) and getattr(model, "attn_pool", None) is None
    try:
        PromptedTransformer(model)
    except StreamlabError:
        return False
    return plain


def learning(model: nn.Module, train: str) -> list[nn.Parameter]:
    """The parameters of timm's model that `train` names; raises StreamlabError for blocks that it lacks."""
    if train == "nothing":
        return []
    if train == "all":
        return list(model.parameters())
    if train == "norms":
        norms = [module for module in model.modules() if "norm" in type(module).__name__.lower()]
        found = {id(p): p for module in norms for p in module.parameters()}
        return list(found.values())
    blocks = next(
        (held for name in ("blocks", "stages", "layers") if (held := getattr(model, name, None)) is not None),
        None,
    )
    if blocks is None and hasattr(model, "layer4"):
        blocks = [getattr(model, f"layer{number}") for number in range(1, 5)]
    count = int(train.partition(":")[2])
    if blocks is None or count > len(blocks):
        raise StreamlabError(
            f"{_HERE}: train is {train}, and {type(model).__name__} has {len(blocks or ())} blocks"
        )
    return [parameter for block in list(blocks)[-count:] for parameter in block.parameters()]


def fill(model: nn.Module, name: str, path: Path) -> None:
    """Fill a model from a safetensors file with timm's names or its authors'.

    In turn: as they are, as timm's own conversion for the architecture makes them (DeiT, DINO, MAE, CLIP and
    others), and as EfficientNets are named elsewhere. Classifiers are left out. Raises StreamlabError, with
    the first tensor that does not fit.
    """
    import timm
    from safetensors.torch import load_file

    read_header(_HERE, path)
    found = load_file(path)
    wanted = model.state_dict()
    module = sys.modules[timm.model_entrypoint(name.split(".")[0]).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    tries = [found]
    if convert is not None:
        with contextlib.suppress(KeyError, ValueError, RuntimeError, AttributeError, IndexError):
            tries.append(convert(dict(found), model))
    tries.append(_as_efficientnet(found, model))
    problems = []
    for held in tries:
        problem = _misfit(held, wanted)
        if problem is None:
            model.load_state_dict({key: held[key] for key in wanted})
            return
        problems.append(problem)
    raise StreamlabError(f"{_HERE}: {path} does not fit {name}: {problems[0]}")


_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
    "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand",
}  # fmt: skip


def _as_efficientnet(found: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """EfficientNet's tensors under timm's names, from those of efficientnet-pytorch and its kin.

    There blocks are numbered through; in timm's models they are in stages.
    """
    stages = getattr(model, "blocks", None)
    if stages is None or "_conv_stem.weight" not in found:
        return {}
    blocks = [
        (f"blocks.{stage}.{place}", _INVERTED if hasattr(block, "conv_pwl") else _SEPARABLE)
        for stage, held in enumerate(stages)
        for place, block in enumerate(held)
    ]
    made = {}
    for key, tensor in found.items():
        first, *others = key.split(".")
        if first in _STEM:
            made[".".join([_STEM[first], *others])] = tensor
        elif first == "_blocks" and int(others[0]) < len(blocks):
            prefix, names = blocks[int(others[0])]
            if others[1] in names:
                made[".".join([prefix, names[others[1]], *others[2:]])] = tensor
    return made


def _misfit(held: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> str | None:
    """The first tensor that is missing or has another shape, in words."""
    for key, expected in wanted.items():
        if key not in held:
            return f"it has no tensor {key}"
        if held[key].shape != expected.shape:
            return f"{key} has shape {tuple(held[key].shape)}, and should have {tuple(expected.shape)}"
    return None
