"""Vision transformers of timm's, frozen: random, from a safetensors file, or from timm's download.

The wrapper that gives tokens, query and prompted features is transformer.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..config import at_least, configure
from ..errors import StreamlabError, unknown
from ..preprocess import ImageShape
from .network import Backbone
from .transformer import PromptedTransformer
from .weights import load_weights, read_header

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

_HERE = "backbone vit"


@dataclass(frozen=True)
class VisionTransformer:
    """architecture: a name of timm's, or nothing: one made of patch_size, width, depth and heads.

    weights: random, timm (downloaded), or a safetensors file; one that `streamlab pretrain` wrote says
    itself what it was made of. image_size: pixels a side that it works at (0: the weights' own, else
    the source's). mean, deviation: of the pixels (0..1) that it expects, where it is not timm's.
    trained: whether its parameters are learned.
    """

    architecture: str = ""
    weights: str = "random"
    image_size: int = 0
    patch_size: int = 7
    width: int = 128
    depth: int = 6
    heads: int = 4
    mean: float = 0.0
    deviation: float = 1.0
    trained: bool = False
    standardise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("patch_size", "width", "depth", "heads"):
            at_least(_HERE, name, getattr(self, name), 1)
        at_least(_HERE, "image_size", self.image_size, 0)
        if self.width % self.heads:
            raise StreamlabError(f"{_HERE}: width {self.width} cannot be divided among {self.heads} heads")

    def build(self, image_shape: ImageShape) -> Backbone:
        """Raises StreamlabError for an unknown architecture, a size that the patch does not divide, or
        weights that do not fit; CorruptFile for a file that is no safetensors."""
        if self.weights in ("random", "timm"):
            made = PromptedTransformer(self._model(image_shape), self._normalisation())
        else:
            made = self._from_file(Path(self.weights), image_shape)
        if not self.trained:
            made.requires_grad_(False)
        return made

    def _from_file(self, path: Path, image_shape: ImageShape) -> PromptedTransformer:
        """What the file says of its backbone comes before what the options say."""
        said = dict(read_header(_HERE, path))
        channels = int(said.pop("channels", image_shape[0]))
        chosen = configure(VisionTransformer, {**asdict(self), **said}, f"backbone of {path}")
        made = PromptedTransformer(chosen._model((channels, *image_shape[1:])), chosen._normalisation())
        load_weights(_HERE, made.model, path)
        return made

    def _model(self, image_shape: ImageShape) -> Any:
        import timm
        from timm.models.vision_transformer import VisionTransformer as Transformer

        if not self.architecture:
            side = self.image_size or image_shape[1]
            if side % self.patch_size:
                raise StreamlabError(
                    f"{_HERE}: images of {side} pixels cannot be cut into patches of {self.patch_size}"
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
            raise StreamlabError(f"{_HERE}: timm cannot make {self.architecture}: {error}") from None
        except OSError as error:
            raise StreamlabError(f"{_HERE}: {self.architecture} cannot be downloaded: {error}") from None

    def _normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        if not self.architecture:
            return (self.mean,), (self.deviation,)
        import timm

        about = timm.get_pretrained_cfg(self.architecture)
        return (tuple(about.mean), tuple(about.std)) if about else None
