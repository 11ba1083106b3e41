"""Few-shot class-incremental sessions: a base with many samples, then a few of each new class (FSCIL).

The setting of Tao et al. (CVPR 2020): a base session, then sessions of `way` new classes with `shot`
samples each; every session is tested on all classes so far, and all of them compete.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from streamlab.config import at_least
from streamlab.errors import StreamlabError
from streamlab.plans.stream import Experience, Labels, StreamPlan
from streamlab.randomness import Draws

from .class_orders import ClassOrder, class_order
from .tasks import of_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

CITATION = """
@inproceedings{tao2020fscil,
  title = {Few-Shot Class-Incremental Learning},
  author = {Tao, Xiaoyu and Hong, Xiaopeng and Chang, Xinyuan and Dong, Songlin and Wei, Xing
            and Gong, Yihong},
  booktitle = {CVPR},
  year = {2020},
}
"""
# base classes, sessions, way, shot
PRESETS = {
    "cifar100": (60, 8, 5, 5),
    "miniimagenet": (60, 8, 5, 5),
    "cub200": (100, 10, 10, 5),
    "glyphs-100": (60, 8, 5, 5),
}


@dataclass(frozen=True)
class FewShotSessions:
    """Options of the sessions.

    preset: the literature's numbers, by data set; else the four below it. class_order: shuffled by the
    seed, sorted (the literature's), numpy:SEED, file:PATH or a list (class_orders.py).
    index_lists: a folder of session_2.txt, session_3.txt …, a sample a line (an index, or a file's
    path), for the official draw; else shots are drawn from the seed.
    """

    preset: Literal["", "cifar100", "miniimagenet", "cub200", "glyphs-100"] = ""
    base_classes: int = 60
    sessions: int = 8
    way: int = 5
    shot: int = 5
    class_order: ClassOrder = "shuffled"
    index_lists: str = ""

    name: ClassVar[str] = "fscil"

    def __post_init__(self) -> None:
        for name in ("base_classes", "sessions", "way", "shot"):
            at_least(self.name, name, getattr(self, name), 1)
        if self.index_lists and self.class_order == "shuffled":
            raise StreamlabError(f"{self.name}: index lists are of classes in order; set class_order=sorted")

    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        """The sessions for these labels and this seed.

        Raises StreamlabError for more classes than there are, more shots than a class has samples, or
        index lists that are missing, overlap or name a sample of another class (file and line).
        """
        chosen = self._settled()
        base, sessions, way = chosen.base_classes, chosen.sessions, chosen.way
        needed = base + sessions * way
        if needed > labels.num_classes:
            raise StreamlabError(
                f"{self.name}: {base} base classes and {sessions} sessions of {way} make {needed} classes, "
                f"and the source has {labels.num_classes}"
            )
        draws = Draws(seed, "plan", self.name, "classes")
        order = class_order(self.class_order, labels, draws, self.name)
        parts = np.split(order[:needed], base + way * np.arange(sessions))
        experiences = []
        for number, part in enumerate(parts):
            classes = tuple(sorted(part.tolist()))
            if number == 0:
                indices = of_classes(labels.train, classes)
            elif self.index_lists:
                indices = self._listed(labels, number + 1, parts)
            else:
                indices = chosen._drawn(labels, seed, classes)
            experiences.append(Experience(indices, of_classes(labels.test, classes), classes))
        self._check_apart(experiences)
        return StreamPlan(
            scenario=self.name,
            kind="sessions",
            num_classes=labels.num_classes,
            shows_boundaries=True,
            seed=seed,
            options=dataclasses.asdict(self),
            experiences=tuple(experiences),
            has_base=True,
        )

    def _settled(self) -> FewShotSessions:
        """With the preset's numbers, where one is named."""
        if not self.preset:
            return self
        base, sessions, way, shot = PRESETS[self.preset]
        return dataclasses.replace(self, base_classes=base, sessions=sessions, way=way, shot=shot)

    def _drawn(self, labels: Labels, seed: int, classes: tuple[int, ...]) -> NDArray[np.int64]:
        """`shot` samples of each class; which ones depends on the seed and the class alone."""
        drawn = []
        for label in classes:
            members = np.flatnonzero(labels.train == label)
            if len(members) < self.shot:
                raise StreamlabError(
                    f"{self.name}: {self.shot} shots of class {labels.class_names[label]}, "
                    f"which has {len(members)} training samples"
                )
            draws = Draws(seed, "plan", self.name, "shots", label)
            drawn.append(np.sort(members[draws.permutation(len(members))[: self.shot]]))
        return np.concatenate(drawn).astype(np.int64)

    def _listed(self, labels: Labels, number: int, parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """The samples that session_<number>.txt names, checked line by line."""
        path = Path(self.index_lists).expanduser() / f"session_{number}.txt"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise StreamlabError(f"{self.name}: {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise StreamlabError(f"{self.name}: {path} is no text file") from None
        places = _places(labels)
        indices = []
        for line, text in enumerate(lines, 1):
            entry = text.strip()
            if not entry:
                continue
            where = f"{self.name}: {path}, line {line}"
            place = int(entry) if entry.isdecimal() else places.get(entry, places.get(Path(entry).name, -1))
            if not 0 <= place < len(labels.train):
                raise StreamlabError(f"{where}: {entry} is no training sample of the source")
            label = int(labels.train[place])
            if label not in parts[number - 1]:
                raise StreamlabError(
                    f"{where}: {entry} is of class {labels.class_names[label]}, "
                    f"which is not in session {number}"
                )
            indices.append(place)
        found = np.array(indices, np.int64)
        for label in sorted(set(parts[number - 1].tolist()) - set(labels.train[found].tolist())):
            if len(found):
                raise StreamlabError(
                    f"{self.name}: {path} names no sample of class {labels.class_names[label]}, "
                    f"which is in session {number}"
                )
        return found

    def _check_apart(self, experiences: list[Experience]) -> None:
        """Raise StreamlabError where a session is empty or lists a sample twice."""
        for number, experience in enumerate(experiences, 1):
            if not len(experience.indices):
                raise StreamlabError(f"{self.name}: session {number} has no training sample")
            if len(np.unique(experience.indices)) < len(experience.indices):
                raise StreamlabError(f"{self.name}: session {number} lists a sample twice")


def _places(labels: Labels) -> dict[str, int]:
    """The training sample of each file, by its path and, where no other has it, by its name alone.

    The literature's lists name paths below a folder of their own.
    """
    files = [str(name) for name in labels.train_factors.get("file", ())]
    names = [Path(file).name for file in files]
    counts = Counter(names)
    alone = {name: place for place, name in enumerate(names) if counts[name] == 1}
    return {**alone, **{file: place for place, file in enumerate(files)}}
