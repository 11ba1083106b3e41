"""Avalanche's benchmarks, both ways: a plan as one of theirs, and one of theirs as a plan and a source.

    benchmark = to_benchmark(plan, source)            # strategy.train(benchmark.train_stream), as ever
    plan, source = from_benchmark(benchmark)          # streamlab describe, run, compare

Their strategies in our runs are in avalanche_strategies.py. avalanche-lib is no dependency (pip install
avalanche-lib); nothing here is imported until it is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.source import Source
from ..errors import StreamlabError
from ..plans.episodes import EpisodePlan
from ..plans.stream import Experience, Plan, StreamPlan, labels_at

if TYPE_CHECKING:
    from numpy.typing import NDArray


def library(part: str = "avalanche") -> Any:
    """A module of Avalanche's; raises StreamlabError where it is not installed."""
    try:
        return import_module(part)
    except ImportError as error:
        raise StreamlabError(f"Avalanche cannot be imported ({error}); pip install avalanche-lib") from None


class Images(Dataset[tuple[Tensor, int]]):
    """Samples as Avalanche's loaders take them: (C, H, W) float32 scaled as ours are, and a label.

    The pixels stay uint8 and are shared by all experiences, unless they are scaled `ahead`, which makes a
    sample four times as large and its serving faster. targets: their labels.
    """

    def __init__(
        self, images: Tensor, labels: Sequence[int], scale: float, shift: float, ahead: bool = False
    ) -> None:
        self.images, self.targets, self.scale, self.shift = images, list(labels), scale, shift
        self.ahead = ahead
        if ahead:
            self.images = images.float().mul_(scale).add_(shift)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return image if self.ahead else image.float().mul_(self.scale).add_(self.shift), self.targets[index]


def to_benchmark(plan: Plan, source: Source, batch_size: int | None = 10, standardise: bool = True) -> Any:
    """A plan as an Avalanche benchmark (a CLScenario with train_stream and test_stream).

    Sessions are its experiences. A task of an online plan is an online stream's experiences of
    `batch_size` samples in the plan's order (None: the whole task, for strategies that train on tasks).
    The test stream has an experience a task. standardise: pixels are brought to mean 0 and deviation 1 of
    the training split, as most of our backbones take them (else to 0..1). It knows, as iCaRL asks, how many
    classes each experience brings first (`n_classes_per_exp`) and in what order (`classes_order`). Raises
    StreamlabError for a plan of episodes, or one that transforms its images.
    """
    if isinstance(plan, EpisodePlan):
        raise StreamlabError(
            "a plan of episodes is no Avalanche benchmark: Avalanche has experiences to be trained on, and "
            "no support and query (learn2learn has: streamlab.interop.learn2learn)"
        )
    if plan.transforms:
        raise StreamlabError(
            f"{plan.scenario} transforms its images, which its Avalanche benchmark would not"
        )
    benchmarks = library("avalanche.benchmarks")
    mean, deviation = source.mean_and_deviation if standardise else (0.0, 1.0)
    scale, shift = 1 / (255 * deviation), -mean / deviation
    streams: dict[str, list[Any]] = {"train": [], "test": []}
    for split in streams:
        images = torch.from_numpy(np.ascontiguousarray(getattr(source, f"{split}_images")))
        labels = plan.given(source.train_labels) if split == "train" else source.test_labels
        whole = dataset_of(Images(images, labels.tolist(), scale, shift))
        for experience in plan.experiences:
            indices = experience.indices if split == "train" else experience.test_indices
            if len(indices):
                streams[split].append(whole.subset(indices.tolist()))
    made = benchmarks.with_classes_timeline(benchmarks.benchmark_from_datasets(**streams))
    if plan.kind == "online" and batch_size is not None:
        pieces = benchmarks.split_online_stream(
            made.train_stream, batch_size, shuffle=False, access_task_boundaries=plan.shows_boundaries
        )
        eager = library("avalanche.benchmarks.scenarios.generic_scenario").EagerCLStream
        made = benchmarks.CLScenario([eager("train", list(pieces)), made.test_stream])
    _add_class_order(made, source)
    return made


def dataset_of(images: Images) -> Any:
    """Avalanche's classification data set of these images, all of one task."""
    utils = library("avalanche.benchmarks.utils")
    one_task = library("avalanche.benchmarks.utils.flat_data").ConstantSequence(0, len(images))
    make = library("avalanche.benchmarks.utils.classification_dataset")
    return make.TaskAwareSupervisedClassificationDataset(
        [images],
        data_attributes=[
            utils.DataAttribute(images.targets, "targets"),
            utils.DataAttribute(one_task, "targets_task_labels", use_in_getitem=True),
        ],
    )


def _add_class_order(made: Any, source: Source) -> None:
    """What class-incremental benchmarks of theirs know, and iCaRL asks each experience's benchmark for."""
    counts, order = [], list[int]()
    for experience in made.train_stream:
        known = set(order)
        fresh = [label for label in dict.fromkeys(map(int, experience.dataset.targets)) if label not in known]
        order += fresh
        counts.append(len(fresh))
        experience.benchmark = made
    made.n_classes_per_exp, made.classes_order, made.n_classes = counts, order, len(source.class_names)


def from_benchmark(benchmark: Any, name: str = "avalanche") -> tuple[StreamPlan, Source]:
    """An Avalanche benchmark as a plan, and the source that its indices name.

    Experiences become sessions in their order (of an online stream, all that come of one task an
    experience of an online plan). A test experience belongs to the training experience of its number where
    there are as many; else a test sample to the first that has its class. Images are read without the
    benchmark's transforms. Raises StreamlabError where they are no pixels in 0..255 or 0..1.
    """
    train = list(benchmark.train_stream)
    test = list(benchmark.test_stream)
    online = any(hasattr(experience, "origin_experience") for experience in train)
    parts = [_read(experience.dataset) for experience in train]
    if online:
        parts = _joined_by_task(train, parts)
    judged = [_read(experience.dataset) for experience in test]
    images, labels = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    test_images, test_labels = (np.concatenate([part[column] for part in judged]) for column in (0, 1))
    classes = 1 + int(max(labels.max(), test_labels.max()))
    names = tuple(str(number) for number in range(classes))
    source = Source(name, names, images, labels, test_images, test_labels)
    ends = np.cumsum([len(part[1]) for part in parts])
    owner = _owners([part[1] for part in parts], [part[1] for part in judged])
    experiences = tuple(
        Experience(
            np.arange(end - len(part[1]), end),
            np.flatnonzero(owner == number),
            tuple(sorted(set(part[1].tolist()))),
        )
        for number, (part, end) in enumerate(zip(parts, ends, strict=True))
    )
    kind = "online" if online else "sessions"
    plan = StreamPlan("avalanche", kind, classes, True, 0, {}, experiences)
    counts = np.bincount(labels_at(labels, plan.stream), minlength=classes)
    return dataclasses.replace(plan, class_counts=tuple(counts.tolist())), source


Arrays = tuple["NDArray[np.uint8]", "NDArray[np.int64]"]


def _read(dataset: Any) -> Arrays:
    """(N, C, H, W) uint8 images without transforms, and (N,) labels."""
    plain = (
        dataset.remove_current_transform_group()
        if hasattr(dataset, "remove_current_transform_group")
        else dataset
    )
    samples: Iterable[Any] = (plain[number] for number in range(len(plain)))
    pairs = [(_pixels(sample[0]), int(sample[1])) for sample in samples]
    return np.stack([pixels for pixels, _ in pairs]), np.array([label for _, label in pairs], np.int64)


def _pixels(value: Any) -> NDArray[np.uint8]:
    """One image (C, H, W) uint8, of a tensor, an array or a PIL picture."""
    array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim == 2:
        array = array[None]
    elif not isinstance(value, Tensor) and array.shape[-1] in (1, 3):
        array = array.transpose(2, 0, 1)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.min() < 0 or array.max() > 1:
        raise StreamlabError(
            f"images of {array.dtype} from {array.min():.2f} to {array.max():.2f} are no pixels; make the "
            f"benchmark with transforms that keep them in 0..1, or with none"
        )
    return np.round(array * 255).astype(np.uint8)


def _joined_by_task(train: Sequence[Any], parts: Sequence[Arrays]) -> list[Arrays]:
    """An online stream's pieces, joined by the experience that they were cut from."""
    joined: dict[int, list[Arrays]] = {}
    for experience, part in zip(train, parts, strict=True):
        joined.setdefault(id(experience.origin_experience), []).append(part)
    return [
        (np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))
        for parts in joined.values()
    ]


def _owners(train: Sequence[NDArray[np.int64]], test: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The experience that each test sample belongs to."""
    if len(train) == len(test):
        return np.repeat(np.arange(len(test)), [len(labels) for labels in test])
    first: dict[int, int] = {}
    for number, labels in enumerate(train):
        for label in np.unique(labels).tolist():
            first.setdefault(label, number)
    return np.array([first.get(label, len(train) - 1) for label in np.concatenate(test).tolist()], np.int64)
