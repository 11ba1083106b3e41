"""A vision transformer of a size of its own, frozen: random, or of weights that `streamlab pretrain` wrote.

The wrapper that gives tokens, query and prompted features is transformer.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..config import at_least, configure
from ..errors import StreamlabError
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
    """patch_size, width, depth, heads: what it is made of.

    weights: random, or a safetensors file that `streamlab pretrain` wrote, which says itself what it was made
    of. image_size: pixels a side that it works at (0: the weights' own, else the source's). mean, deviation:
    of the pixels (0..1) that it expects. trained: whether its parameters are learned. Transformers of timm's
    are `timm:NAME`.
    """

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

    @property
    def learns(self) -> bool:
        """Whether any of its parameters is learned."""
        return self.trained

    def build(self, image_shape: ImageShape) -> Backbone:
        """Raises StreamlabError for a size that the patch does not divide, or weights that do not fit;
        CorruptFile for a file that is no safetensors."""
        if self.weights == "random":
            made = PromptedTransformer(self._model(image_shape), ((self.mean,), (self.deviation,)))
        else:
            made = self._from_file(Path(self.weights), image_shape)
            made.given = True
        if not self.trained:
            made.requires_grad_(False)
        return made

    def _from_file(self, path: Path, image_shape: ImageShape) -> PromptedTransformer:
        """What the file says of its backbone comes before what the options say."""
        said = dict(read_header(_HERE, path))
        channels = int(said.pop("channels", image_shape[0]))
        chosen = configure(VisionTransformer, {**asdict(self), **said}, f"backbone of {path}")
        normalisation = (chosen.mean,), (chosen.deviation,)
        made = PromptedTransformer(chosen._model((channels, *image_shape[1:])), normalisation)
        load_weights(_HERE, made.model, path)
        return made

    def _model(self, image_shape: ImageShape) -> Any:
        from timm.models.vision_transformer import VisionTransformer as Transformer

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
