"""glyph-vit has seen nothing of glyphs-100: no class, no font, no image, nothing that looks alike."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from confusable_homoglyphs import confusables

from streamlab.data.glyphs_100 import load
from streamlab.nets.glyph_vit import WEIGHTS
from streamlab.nets.network import PixelStatistics, build_network

CARD = WEIGHTS.with_name("CARD.md")
SEEN = json.loads(WEIGHTS.with_name("characters.json").read_text(encoding="utf-8"))
CHARACTERS = {character for script in SEEN.values() for character in script["characters"]}
GLYPHS = load(Path())


def families(fonts: object) -> set[str]:
    return {str(font).rsplit(" ", 1)[0] for font in np.asarray(fonts)}


def test_no_class_is_shared_and_none_looks_like_one() -> None:
    own = set(GLYPHS.class_names)
    assert len(CHARACTERS) == sum(len(script["characters"]) for script in SEEN.values()) == 888
    assert not CHARACTERS & own
    for character in CHARACTERS:
        for entry in confusables.is_confusable(character, greedy=True) or []:
            alike = {other["c"] for other in entry["homoglyphs"]}
            assert not alike & own, f"{character} can be taken for {alike & own}"


def test_no_font_is_shared() -> None:
    used = {font for script in SEEN.values() for font in script["fonts"]}
    assert len(used) > 150
    assert not used & families(GLYPHS.test_factors["font"])
    assert not used & families(GLYPHS.train_factors["font"])


def test_no_image_is_shared() -> None:
    seen = np.load(Path(__file__).with_name("glyph_vit_images.npy"))
    assert len(np.unique(seen)) == 39_643 + 9_323
    images = np.concatenate([GLYPHS.train_images, GLYPHS.test_images])
    marks = [hashlib.sha256(image.tobytes()).digest()[:8] for image in images]
    own = np.frombuffer(b"".join(marks), np.uint64)
    assert not np.isin(own, seen).any()


def test_it_is_small_and_frozen_and_takes_grey_images() -> None:
    assert WEIGHTS.stat().st_size <= 6 * 2**20
    backbone = build_network({"name": "glyph-vit"}, (1, 28, 28), 100, PixelStatistics(0.5, 0.5)).backbone
    assert (backbone.side, backbone.channels) == (28, 1)
    assert backbone.model.patch_embed.patch_size == (7, 7)
    assert backbone.feature_size <= 128
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_the_card_says_what_the_file_is() -> None:
    text = CARD.read_text(encoding="utf-8")
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in text
    assert "888 classes" in text


@pytest.mark.slow
def test_its_features_tell_glyphs_apart_that_it_has_never_seen() -> None:
    """The nearest of 100 class means is right far more often than on pixels (0.01 would be chance)."""
    net = build_network({"name": "glyph-vit"}, (1, 28, 28), 100, PixelStatistics(0.5, 0.5)).eval()
    shares = []
    for describe in (net.features, lambda images: images.flatten(1).float()):
        with torch.no_grad():
            train = torch.cat([describe(p) for p in torch.from_numpy(GLYPHS.train_images).split(1000)])
            test = torch.cat([describe(p) for p in torch.from_numpy(GLYPHS.test_images).split(1000)])
        labels = torch.from_numpy(GLYPHS.train_labels)
        means = torch.stack([train[labels == number].mean(0) for number in range(100)])
        nearest = torch.cdist(test, means).argmin(1)
        shares.append(float((nearest == torch.from_numpy(GLYPHS.test_labels)).double().mean()))
    assert shares[0] > shares[1] + 0.1
