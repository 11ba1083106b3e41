"""Vision transformers of timm's, frozen: random, from a safetensors file, or from timm's download.

The wrapper that gives tokens, query and prompted features is transformer.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..config import at_least
from ..errors import CorruptFile, StreamlabError, unknown
from .network import Backbone, ImageShape
from .transformer import PromptedTransformer

CITATION = """
@inproceedings{dosovitskiy2021vit,
  title = {An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale},
  author = {Dosovitskiy, Alexey and Beyer, Lucas and Kolesnikov, Alexander and others},
  booktitle = {ICLR},
  year = {2021},
}

@misc{wightman2019timm,
  title = {{PyTorch} Image Models},
  author = {Wightman, Ross},
  year = {2019},
}
"""


@dataclass(frozen=True)
class VisionTransformer:
    """architecture: a name of timm's, or nothing: one made of patch_size, width, depth and heads.

    weights: random, timm (downloaded), or a safetensors file. image_size: pixels a side that it works
    at (0: the weights' own, else the source's). trained: whether its parameters are learned.
    """

    architecture: str = ""
    weights: str = "random"
    image_size: int = 0
    patch_size: int = 7
    width: int = 128
    depth: int = 6
    heads: int = 4
    trained: bool = False
    standardise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("patch_size", "width", "depth", "heads"):
            at_least("backbone vit", name, getattr(self, name), 1)
        at_least("backbone vit", "image_size", self.image_size, 0)
        if self.width % self.heads:
            raise StreamlabError(
                f"backbone vit: width {self.width} cannot be divided among {self.heads} heads"
            )

    def build(self, image_shape: ImageShape) -> Backbone:
        """Raises StreamlabError for an unknown architecture, a size that the patch does not divide, or
        weights that do not fit; CorruptFile for a file that is no safetensors."""
        made = PromptedTransformer(self._model(image_shape), self._normalisation())
        if self.weights not in ("random", "timm"):
            load_weights(made.model, Path(self.weights))
        if not self.trained:
            made.requires_grad_(False)
        return made

    def _model(self, image_shape: ImageShape) -> Any:
        import timm
        from timm.models.vision_transformer import VisionTransformer as Transformer

        if not self.architecture:
            side = self.image_size or image_shape[1]
            if side % self.patch_size:
                raise StreamlabError(
                    f"backbone vit: images of {side} pixels cannot be cut into patches of {self.patch_size}"
                )
            return Transformer(
                img_size=side,
                patch_size=self.patch_size,
                in_chans=image_shape[0],
                embed_dim=self.width,
                depth=self.depth,
                num_heads=self.heads,
                num_classes=0,
            )
        if self.architecture not in timm.list_models():
            raise unknown("architecture of timm", self.architecture, timm.list_models())
        size: dict[str, Any] = {"img_size": self.image_size} if self.image_size else {}
        try:
            return timm.create_model(
                self.architecture, pretrained=self.weights == "timm", num_classes=0, **size
            )
        except (TypeError, AssertionError) as error:
            raise StreamlabError(f"backbone vit: timm cannot make {self.architecture}: {error}") from None
        except OSError as error:
            raise StreamlabError(f"backbone vit: {self.architecture} cannot be downloaded: {error}") from None

    def _normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        if not self.architecture:
            return None
        import timm

        about = timm.get_pretrained_cfg(self.architecture)
        return (tuple(about.mean), tuple(about.std)) if about else None


def load_weights(model: Any, path: Path) -> None:
    """Fill a model from a safetensors file; a head in it is left out.

    Raises StreamlabError for a missing file, a missing tensor or one of another shape; CorruptFile
    for a file that is no safetensors, and says how to make one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise StreamlabError(f"backbone vit: there is no weights file {path}")
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptFile(
            f"{path} is no safetensors file ({error}); make one of a checkpoint that you trust with "
            f"safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from None
    for name, own in model.state_dict().items():
        if name not in found:
            raise StreamlabError(f"{path} has no tensor {name}")
        if found[name].shape != own.shape:
            raise StreamlabError(
                f"{path}: {name} has shape {tuple(found[name].shape)}, and should have {tuple(own.shape)}"
            )
    model.load_state_dict({name: found[name] for name in model.state_dict()})
