"""The promises of a source: one function each, whose docstring is the promise and why it matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..data.load import load_source
from ..data.source import Source
from .subject import Broken


@dataclass(frozen=True)
class SourceSubject:
    """How a source is loaded, which is done anew for every check."""

    load: Callable[[], Source]
    name: str

    @staticmethod
    def named(text: str, data: str | None = None) -> SourceSubject:
        """An installed source, or `folder:…` and the like; data: where sources lie."""
        return SourceSubject(lambda: load_source(text, data), text)


SourceCheck = Callable[[SourceSubject], None]


def source_checks() -> Iterator[SourceCheck]:
    """Every check, in the order in which to run them."""
    yield check_it_loads
    yield check_every_class_can_be_learned
    yield check_factors_are_of_every_sample
    yield check_splits_share_no_image
    yield check_it_loads_the_same


def _splits(source: Source) -> list[tuple[str, np.ndarray, np.ndarray]]:
    return [
        ("training", source.train_images, source.train_labels),
        ("test", source.test_images, source.test_labels),
    ]


def check_it_loads(subject: SourceSubject) -> None:
    """It loads: images are bytes of one shape, and every label names a class.

    What a source may hold is checked as it is made; the sentence says which image or label is wrong.
    """
    subject.load()


def check_every_class_can_be_learned(subject: SourceSubject) -> None:
    """Every class has training samples and test samples, and a name of its own.

    Accuracy over classes means nothing for one that cannot be learned or is never asked for.
    """
    source = subject.load()
    if len(set(source.class_names)) != len(source.class_names):
        raise Broken("two classes have one name")
    for name, _, labels in _splits(source):
        counts = np.bincount(labels, minlength=len(source.class_names))
        if (counts == 0).any():
            empty = source.class_names[int((counts == 0).argmax())]
            raise Broken(f"class {empty!r} has no {name} sample")


def check_factors_are_of_every_sample(subject: SourceSubject) -> None:
    """Factors (font, writer, domain) have one text for each sample of both splits.

    Domain-incremental streams are cut along them.
    """
    source = subject.load()
    if source.train_factors.keys() != source.test_factors.keys():
        raise Broken("the splits have other factors")
    for name, values in source.train_factors.items():
        sizes = (len(values), len(source.test_factors[name]))
        if sizes != (len(source.train_labels), len(source.test_labels)):
            raise Broken(f"factor {name!r} has {sizes[0]} and {sizes[1]} values")


def check_splits_share_no_image(subject: SourceSubject) -> None:
    """No image is in the training split and in the test split.

    What was learned by heart would count as understood.
    """
    source = subject.load()
    seen = {image.tobytes() for image in source.train_images}
    shared = sum(image.tobytes() in seen for image in source.test_images)
    if shared:
        raise Broken(f"{shared} of {len(source.test_images)} test images are training images too")


def check_it_loads_the_same(subject: SourceSubject) -> None:
    """Loaded twice it is the same, byte for byte.

    Its digest is part of what makes runs comparable, and each worker loads it.
    """
    if subject.load().digest != subject.load().digest:
        raise Broken("two loads have other pixels or labels")
