"""What the two blurry streams share: disjoint classes, blurry classes, and samples that move.

si-blurry cuts classes and moved samples at random points, i-blurry evenly. `order = "reference"` is
the Si-Blurry authors' sampler index for index, oddities included (classes and samples that do not
divide are dropped; a task may receive fewer samples than it gave). The default order is ours: it
drops nothing and leaves no task without a class.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from streamlab.config import at_least, within
from streamlab.errors import StreamlabError
from streamlab.plans.stream import Experience, Labels, StreamPlan
from streamlab.randomness import Draws

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]


class Blurry(Protocol):
    """The options of a blurry scenario, a dataclass; `stochastic` and `name` say which of the two it is."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...
    @property
    def stochastic(self) -> bool: ...
    @property
    def tasks(self) -> int: ...
    @property
    def disjoint_percent(self) -> int: ...
    @property
    def blurry_percent(self) -> int: ...
    @property
    def order(self) -> Literal["clean", "reference"]: ...
    @property
    def boundaries(self) -> Literal["hidden", "shown"]: ...


def check_options(options: Blurry) -> None:
    """Raise StreamlabError for a percentage or a number of tasks out of range."""
    at_least(options.name, "tasks", options.tasks, 1)
    within(options.name, "disjoint_percent", options.disjoint_percent, 0, 100)
    within(options.name, "blurry_percent", options.blurry_percent, 0, 100)


def blurry_plan(options: Blurry, labels: Labels, seed: int) -> StreamPlan:
    """The stream for these labels and this seed; raises StreamlabError for more tasks than classes."""
    if options.tasks > labels.num_classes:
        raise StreamlabError(
            f"{options.name}: {options.tasks} tasks need as many classes, "
            f"and the source has {labels.num_classes}"
        )
    stream = reference_order if options.order == "reference" else clean_order
    return StreamPlan(
        scenario=options.name,
        kind="online",
        num_classes=labels.num_classes,
        shows_boundaries=options.boundaries == "shown",
        seed=seed,
        options=dataclasses.asdict(options),
        points="past" if options.order == "reference" else "at",
        experiences=tuple(
            _experience(labels, indices, disjoint, blurry)
            for indices, disjoint, blurry in stream(options, labels, seed)
        ),
    )


Task = tuple["Indices", list[int], list[int]]


def clean_order(options: Blurry, labels: Labels, seed: int) -> list[Task]:
    draws = Draws(seed, "plan", options.name)
    order = draws.permutation(labels.num_classes)
    num_disjoint = round(labels.num_classes * options.disjoint_percent / 100)
    disjoint = set(order[:num_disjoint].tolist())
    if options.stochastic:
        shares = _share_classes(draws, draws.permutation(labels.num_classes), options.tasks)
    else:
        parts = (np.array_split(kind, options.tasks) for kind in np.split(order, [num_disjoint]))
        shares = [[*alone.tolist(), *spread.tolist()] for alone, spread in zip(*parts, strict=True)]

    kept, pool = [], []
    for classes in shares:
        spread = [number for number in classes if number not in disjoint]
        kept.append(np.flatnonzero(np.isin(labels.train, [c for c in classes if c in disjoint])))
        pool.append(np.flatnonzero(np.isin(labels.train, spread)))
    blurry_counts = np.cumsum([0, *map(len, pool)])
    blurry = np.concatenate(pool)
    moving = np.zeros(len(blurry), bool)
    count = round(len(blurry) * options.blurry_percent / 100)
    moving[draws.permutation(len(blurry))[:count]] = True
    moved = blurry[moving][draws.permutation(count)]
    edges = (
        draws.cuts(count, options.tasks)
        if options.stochastic
        else np.linspace(0, count, options.tasks + 1).round().astype(np.int64)
    )

    tasks: list[Task] = []
    for number, classes in enumerate(shares):
        stretch = slice(blurry_counts[number], blurry_counts[number + 1])
        stays = blurry[stretch][~moving[stretch]]
        indices = np.concatenate([kept[number], stays, moved[edges[number] : edges[number + 1]]])
        indices = indices[draws.permutation(len(indices))].astype(np.int64)
        tasks.append(
            (
                indices,
                [number for number in classes if number in disjoint],
                [number for number in classes if number not in disjoint],
            )
        )
    return tasks


def _share_classes(draws: Draws, classes: Indices, tasks: int) -> list[list[int]]:
    """One class for every task, and the rest cut at random points."""
    first, rest = classes[:tasks], classes[tasks:]
    edges = draws.cuts(len(rest), tasks)
    return [[int(first[task]), *rest[edges[task] : edges[task + 1]].tolist()] for task in range(tasks)]


def reference_order(options: Blurry, labels: Labels, seed: int) -> list[Task]:
    """The authors' sampler: one CPU torch.Generator, drawn from in their order."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tasks, classes = options.tasks, labels.num_classes

    def permuted(count: int) -> Indices:
        order: Indices = torch.randperm(count, generator=generator).numpy()
        return order

    def cut(count: int) -> list[int]:
        if count == 0:
            return [0] * (tasks + 1)
        inner = torch.randint(0, count, (tasks - 1,), generator=generator).sort().values
        return [0, *inner.tolist(), count]

    def pieces(items: Indices, edges: list[int]) -> list[Indices]:
        return [items[a:b] for a, b in itertools.pairwise(edges)]

    def indices_of(members: Indices) -> Indices:
        return np.flatnonzero(np.isin(labels.train, members)).astype(np.int64)

    num_disjoint = classes * options.disjoint_percent // 100 // tasks * tasks
    num_blurry = (classes - num_disjoint) // tasks * tasks
    order = permuted(classes)
    disjoint, blurry = order[:num_disjoint], order[num_disjoint : num_disjoint + num_blurry]
    even = [
        list(range(0, count + 1, count // tasks or 1)) if count else [0] * (tasks + 1)
        for count in (num_disjoint, num_blurry)
    ]
    edges = [cut(num_disjoint), cut(num_blurry)] if options.stochastic else even
    disjoint_classes, blurry_classes = pieces(disjoint, edges[0]), pieces(blurry, edges[1])
    disjoint_indices = [indices_of(members) for members in disjoint_classes]
    blurry_indices = [indices_of(members) for members in blurry_classes]

    if options.stochastic:
        moved_edges = cut(sum(map(len, blurry_indices)) * options.blurry_percent // 100)
        gives = [b - a for a, b in itertools.pairwise(moved_edges)]
    else:
        gives = [len(indices) * options.blurry_percent // 100 for indices in blurry_indices]
    pool = np.concatenate([indices[:k] for indices, k in zip(blurry_indices, gives, strict=True)])
    pool = pool[permuted(len(pool))]
    if options.stochastic:
        received = pieces(pool, moved_edges)
    else:
        quota = len(pool) // tasks
        received = [pool[task * quota : (task + 1) * quota] for task in range(tasks)]

    result: list[Task] = []
    for task in range(tasks):
        parts = (disjoint_indices[task], blurry_indices[task][gives[task] :], received[task])
        indices = np.concatenate(parts)
        classes_of = (disjoint_classes[task].tolist(), blurry_classes[task].tolist())
        result.append((indices[permuted(len(indices))], *classes_of))
    return result


def _experience(labels: Labels, indices: Indices, disjoint: list[int], blurry: list[int]) -> Experience:
    classes = tuple(sorted(disjoint + blurry))
    notes: dict[str, Any] = {"disjoint_classes": tuple(disjoint), "blurry_classes": tuple(blurry)}
    test_indices = np.flatnonzero(np.isin(labels.test, classes)).astype(np.int64)
    return Experience(indices.astype(np.int64), test_indices, classes, notes)
