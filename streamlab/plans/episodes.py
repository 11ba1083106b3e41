"""The plan of few-shot episodes: three phases of N-way K-shot tasks over classes that share none.

A recipe and an index of each class's samples, never a list: a seed and a number name an episode for
ever, and any of them is drawn in a batch on the device. Source of the drawing: ours; an integer hash
(SplitMix64's finaliser; Steele et al. 2014) and Floyd's choice without replacement (Bentley 1987).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ..errors import CorruptFile
from ..files import read_arrays, write_bytes
from ..randomness import hashed, key

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

Phase = Literal["train", "validation", "test"]
PHASES: tuple[Phase, ...] = ("train", "validation", "test")
_SLOTS = 1 << 20  # draws that one episode may take


@dataclass(frozen=True, eq=False)
class Episode:
    """One task. classes: (way,) of the source, in the order of the labels 0..way-1. support, query:
    (n,) int64 indices of samples; support_labels, query_labels: (n,) int64 in [0, way).
    """

    classes: tuple[int, ...]
    support: NDArray[np.int64]
    support_labels: NDArray[np.int64]
    query: NDArray[np.int64]
    query_labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Episodes:
    """One phase: `count` episodes, each made when it is asked for; any other number can be drawn as well.

    classes: those that may appear. samples: (M,) int64, each class's samples in turn, and sizes: how
    many each has; an index names a sample of the training split, then of the test split. shots: of
    each place of the way. query: a class. listed: (count, way, shots + query) int64 where the
    episodes are not drawn but given, else None.
    """

    seed: int
    phase: Phase
    classes: tuple[int, ...]
    samples: NDArray[np.int64]
    sizes: tuple[int, ...]
    shots: tuple[int, ...]
    query: int
    count: int
    listed: NDArray[np.int64] | None = None

    @property
    def way(self) -> int:
        """Classes of an episode."""
        return len(self.shots)

    def parted(self, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Drawn (E, way, …) as support (E, S) and query (E, Q), and the labels of each, (S,) and (Q,)."""
        import torch

        s, q = (torch.from_numpy(slots).to(drawn.device) for slots in (self.support_slots, self.query_slots))
        return drawn[:, s[:, 0], s[:, 1]], drawn[:, q[:, 0], q[:, 1]], s[:, 0], q[:, 0]

    @cached_property
    def support_slots(self) -> NDArray[np.int64]:
        """(S, 2) place in the way and number of each support sample."""
        return np.array([(w, n) for w, shot in enumerate(self.shots) for n in range(shot)], np.int64)

    @cached_property
    def query_slots(self) -> NDArray[np.int64]:
        """(Q, 2) the same of each query sample."""
        most = max(self.shots)
        return np.array([(w, most + n) for w in range(self.way) for n in range(self.query)], np.int64)

    def draw(self, numbers: Tensor) -> Tensor:
        """(E,) int64 episode numbers -> (E, way, most shots + query) sample indices, on their device.

        No sample stands twice in an episode, and every ordered choice is equally likely (but for the
        2^-50 by which a hash modulo a size is uneven). Raises IndexError beyond a list that was given.
        """
        import torch

        device = numbers.device
        samples, sizes, starts = self._on(device)
        if self.listed is not None:
            if int(numbers.max()) >= self.count:
                raise IndexError(f"{self.phase} has {self.count} listed episodes")
            return samples[numbers]
        name, each = key(self.seed, "episodes", self.phase), max(self.shots) + self.query
        begin = numbers[:, None] * _SLOTS
        chosen = _choose(name, begin, torch.tensor([len(self.sizes)], device=device), self.way)[:, 0]
        slots = begin + 2 * self.way + torch.arange(self.way, device=device) * 2 * each
        return samples[starts[chosen][..., None] + _choose(name, slots, sizes[chosen], each)]

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """On a device: the samples (or the list), the classes' sizes, and where each class begins."""
        import torch

        if device not in self._tables:
            sizes = torch.tensor(self.sizes, device=device)
            table = self.samples if self.listed is None else self.listed
            self._tables[device] = torch.from_numpy(table).to(device), sizes, sizes.cumsum(0) - sizes
        return self._tables[device]

    @cached_property
    def _tables(self) -> dict[torch.device, tuple[Tensor, Tensor, Tensor]]:
        return {}

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Episode]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Episode:
        """The episode of this number, beyond the count too."""
        import torch

        drawn = self.draw(torch.tensor([number]))[0].numpy()
        owner = self._owners[np.searchsorted(self._sorted, drawn[:, -1])]
        support, query = self.support_slots, self.query_slots
        return Episode(
            tuple(owner.tolist()),
            drawn[support[:, 0], support[:, 1]],
            support[:, 0],
            drawn[query[:, 0], query[:, 1]],
            query[:, 0],
        )

    @cached_property
    def _sorted(self) -> NDArray[np.int64]:
        return np.sort(self.samples)

    @cached_property
    def _owners(self) -> NDArray[np.int64]:
        return np.repeat(self.classes, self.sizes)[np.argsort(self.samples, kind="stable")]

    def content(self) -> tuple[str, list[NDArray[np.int64]]]:
        """All that the episodes follow from: a line of text, and arrays."""
        head = [self.seed if self.listed is None else None, self.phase, self.shots, self.query, self.count]
        arrays = [np.asarray(self.classes, np.int64), np.asarray(self.sizes, np.int64), self.samples]
        return json.dumps(head), [*arrays, *([] if self.listed is None else [self.listed])]


def _choose(name: int, slots: Tensor, below: Tensor, count: int) -> Tensor:
    """(E, W, count) different integers in [0, below), in random order.

    slots: (E, W) where each row's draws begin; it takes 2 · count. below: (E, W), or what spreads to it.
    """
    import torch

    steps = torch.arange(2 * count, device=slots.device)
    bits = hashed(name, slots[..., None] + steps)
    chosen = torch.empty((*slots.shape, count), dtype=torch.int64, device=slots.device)
    for number in range(count):
        top = below - count + number
        drawn = bits[..., number] % (top + 1)
        seen = (chosen[..., :number] == drawn[..., None]).any(-1)
        chosen[..., number] = torch.where(seen, top, drawn)
    order = torch.argsort(bits[..., count:], dim=-1, stable=True)
    return chosen.gather(-1, order)


@dataclass(frozen=True, eq=False)
class EpisodePlan:
    """Meta-training, meta-validation and meta-test: immutable, hashable, saveable.

    environments: what the test is taken in beside clean images (environments.py); corrupted: which images
    are in them. keep: the weights that are tested, the best on meta-validation or the last.
    """

    scenario: str
    num_classes: int
    seed: int
    options: Mapping[str, Any]
    train: Episodes
    validation: Episodes
    test: Episodes
    environments: tuple[str, ...] = ()
    corrupted: Literal["queries", "supports", "both"] = "queries"
    keep: Literal["best", "last"] = "best"

    kind: ClassVar[str] = "episodes"
    shows_boundaries: ClassVar[bool] = True
    has_base: ClassVar[bool] = False

    @property
    def phases(self) -> Mapping[Phase, Episodes]:
        """The three, by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def transforms(self) -> tuple[str, ...]:
        """What images are looked at as: clean, then in every environment."""
        return ("identity", *self.environments) if self.environments else ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that the episodes and their images follow from; not of names or options."""
        digest = hashlib.sha256()
        head = ["streamlab episodes 1", self.num_classes, self.environments, self.corrupted, self.keep]
        digest.update(json.dumps(head).encode())
        for episodes in self.phases.values():
            text, arrays = episodes.content()
            digest.update(text.encode())
            for array in arrays:
                digest.update(array.size.to_bytes(8, "little"))
                digest.update(np.ascontiguousarray(array, "<i8").tobytes())
        return digest.hexdigest()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpisodePlan) and self.fingerprint == other.fingerprint

    def placed(self, places: NDArray[np.int64]) -> EpisodePlan:
        """The same plan where sample i of these is sample places[i]."""

        def moved(episodes: Episodes) -> Episodes:
            listed = None if episodes.listed is None else places[episodes.listed]
            return dataclasses.replace(episodes, samples=places[episodes.samples], listed=listed)

        return dataclasses.replace(
            self, train=moved(self.train), validation=moved(self.validation), test=moved(self.test)
        )

    def save(self, path: str | Path) -> None:
        """Write the plan as one safetensors file, whole or not at all."""
        from safetensors.numpy import save

        head: dict[str, Any] = {name: getattr(self, name) for name in _HEAD}
        arrays: dict[str, NDArray[Any]] = {}
        for phase, episodes in self.phases.items():
            head[phase] = {name: getattr(episodes, name) for name in _PHASE_HEAD}
            arrays[f"{phase}.samples"] = episodes.samples
            if episodes.listed is not None:
                arrays[f"{phase}.listed"] = episodes.listed
        head |= {"kind": self.kind, "fingerprint": self.fingerprint}
        write_bytes(Path(path), save(arrays, metadata={"plan": json.dumps(head)}))

    @staticmethod
    def load(path: str | Path) -> EpisodePlan:
        """Read a saved plan; raises CorruptFile unless its content has its fingerprint."""
        head, arrays = read_arrays(Path(path), "plan")
        try:
            parts: dict[str, Any] = {}
            for phase in PHASES:
                phase_parts: dict[str, Any] = {
                    name: tuple(value) if isinstance(value, list) else value
                    for name, value in head[phase].items()
                }
                phase_parts |= {name: arrays.get(f"{phase}.{name}") for name in ("samples", "listed")}
                parts[phase] = Episodes(**phase_parts)
            parts |= {name: head[name] for name in _HEAD} | {"environments": tuple(head["environments"])}
            plan = EpisodePlan(**parts)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(f"{path} is not a saved plan of episodes: {error}") from None
        if plan.fingerprint != head.get("fingerprint"):
            raise CorruptFile(f"{path}: the plan's content does not match its fingerprint")
        return plan


_HEAD = ("scenario", "num_classes", "seed", "options", "environments", "corrupted", "keep")
_PHASE_HEAD = ("seed", "phase", "classes", "sizes", "shots", "query", "count")
