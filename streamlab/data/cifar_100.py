"""CIFAR-100: 100 kinds of things in 20 groups, 50,000 + 10,000 colour images of 32x32 (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .cifar import ADDRESS, CITATION, read_cifar
from .fetch import Download
from .published import Published
from .source import Source

__all__ = ["CITATION", "SOURCE"]

_NAMES = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
    otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split()
)
_GROUPS = np.array(
    """aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
    household_furniture insects large_carnivores large_man-made_outdoor_things
    large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals non-insect_invertebrates
    people reptiles small_mammals trees vehicles_1 vehicles_2""".split()
)
_FILES = ("train.bin", "test.bin")


def load(data: Path) -> Source:
    """Read the official binary files in `data`/cifar-100; factor: `group`, the 20 coarse labels."""
    images, labels = read_cifar("cifar-100", data / "cifar-100", _FILES[:1], 2)
    test_images, test_labels = read_cifar("cifar-100", data / "cifar-100", _FILES[1:], 2)
    return Source(
        "cifar-100",
        _NAMES,
        images,
        labels[:, 1],
        test_images,
        test_labels[:, 1],
        {"group": _GROUPS[labels[:, 0] % len(_GROUPS)]},
        {"group": _GROUPS[test_labels[:, 0] % len(_GROUPS)]},
    )


SOURCE = Published(
    load=load,
    classes=100,
    train=50_000,
    test=10_000,
    shape=(3, 32, 32),
    folder="cifar-100",
    files=_FILES,
    downloads=(Download(f"{ADDRESS}cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", _FILES),),
)
