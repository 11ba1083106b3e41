"""learn2learn, both ways: a plan's episodes as its task set, and its task set as a source and a plan.

    tasks = as_task_set(plan, source, "train")        # what its loops sample from: tasks.sample()
    source, table = from_task_set(task_set, 100)       # its images, and 100 of its tasks by index

learn2learn is no dependency: docs/how-to/install.md says how it is installed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.source import Source
from ..errors import StreamlabError
from ..plans.episodes import EpisodePlan, Phase

if TYPE_CHECKING:
    from numpy.typing import NDArray


def library() -> Any:
    """learn2learn itself, imported without its dependencies' notices; raises StreamlabError for none."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            return importlib.import_module("learn2learn")
        except ImportError as error:
            raise StreamlabError(
                f"learn2learn cannot be imported ({error}); docs/how-to/install.md says how to install it"
            ) from None


class TaskSet:
    """A phase's episodes as learn2learn's loops take them: `tasks[i]`, `tasks.sample()`, `len(tasks)`.

    A task is (images, labels): float images in 0..1, (way · (shot + query), C, H, W), class by class, a
    class's supports first; labels (n,) int64 in [0, way). `sample()` gives them in order, again and again.
    """

    def __init__(self, plan: EpisodePlan, source: Source, phase: Phase) -> None:
        self.episodes = plan.phases[phase]
        self._images = torch.from_numpy(np.concatenate([source.train_images, source.test_images]))
        self._next = 0

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if not 0 <= number < len(self):
            raise IndexError(f"task {number} of {len(self)}")
        rows = self.episodes.draw(torch.tensor([number]))[0]
        labels = torch.arange(len(rows))[:, None].expand_as(rows)
        return self._images[rows.flatten()].float() / 255, labels.flatten()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[number] for number in range(len(self)))

    def sample(self) -> tuple[Tensor, Tensor]:
        """The next task."""
        self._next, number = self._next + 1, self._next
        return self[number % len(self)]


def as_task_set(plan: EpisodePlan, source: Source, phase: Phase = "train") -> TaskSet:
    """A phase of a plan as a task set; raises StreamlabError for shots that are not even."""
    if len(set(plan.phases[phase].shots)) > 1:
        raise StreamlabError("learn2learn's tasks have as many shots of each class, and these are not even")
    return TaskSet(plan, source, phase)


def from_task_set(task_set: Any, count: int, name: str = "learn2learn") -> tuple[Source, NDArray[np.int64]]:
    """The images behind a learn2learn TaskDataset, and `count` of its tasks by index.

    The table is (count, way, images a class) int64, for scenario.listed; a class's images stand in the
    task's own order, and labels in the order of its first images. Images are turned to uint8: floats must
    lie in 0..1 or 0..255. The source's test split is its first image of each class, which no table
    names. Raises StreamlabError for tasks whose classes have unlike numbers of images.
    """
    images, labels = _everything(task_set.dataset)
    classes, places = np.unique(labels, return_inverse=True)
    first = np.array([np.flatnonzero(places == number)[0] for number in range(len(classes))])
    names = tuple(str(label) for label in classes.tolist())
    source = Source(
        name, names, images, places.astype(np.int64), images[first], places[first].astype(np.int64)
    )
    tasks = []
    for number in range(count):
        task_set[number]  # a description is drawn when its task is first asked for
        indices = np.array([part.index for part in task_set.sampled_descriptions[number]], np.int64)
        members = dict.fromkeys(places[indices].tolist())
        rows = [indices[places[indices] == label] for label in members]
        if len({len(row) for row in rows}) > 1:
            raise StreamlabError(f"task {number} of {name} has unlike numbers of images of its classes")
        tasks.append(np.stack(rows))
    return source, np.stack(tasks)


def _everything(dataset: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(N, C, H, W) uint8 and (N,) labels of a torch data set of (image, label)."""
    pairs = [dataset[number] for number in range(len(dataset))]
    stacked = np.stack([np.asarray(image) for image, _ in pairs])
    if stacked.ndim == 3:
        stacked = stacked[:, None]
    if stacked.dtype != np.uint8:
        stacked = (stacked * (255 if stacked.max() <= 1 else 1)).round().astype(np.uint8)
    return stacked, np.array([int(label) for _, label in pairs], np.int64)
