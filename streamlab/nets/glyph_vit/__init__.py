"""A small transformer for 28x28 glyphs, trained on 888 characters of twelve scripts; ships with streamlab.

Frozen. It has seen no class, no font and no image of glyphs-100 (CARD.md beside this file; the tests
prove it). Made by render.py and `streamlab pretrain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...preprocess import ImageShape
from ..network import Backbone
from ..vit import CITATION as CITATION
from ..vit import VisionTransformer

WEIGHTS = Path(__file__).parent / "glyph-vit.safetensors"


@dataclass(frozen=True)
class GlyphTransformer:
    """trained: whether its parameters are learned on."""

    trained: bool = False
    standardise: ClassVar[bool] = False

    @property
    def learns(self) -> bool:
        """Whether any of its parameters is learned."""
        return self.trained

    def build(self, image_shape: ImageShape) -> Backbone:
        return VisionTransformer(weights=str(WEIGHTS), trained=self.trained).build(image_shape)
