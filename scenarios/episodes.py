"""Few-shot episodes: N-way K-shot tasks over meta-train, meta-validation and meta-test classes.

The setting of Vinyals et al. (NeurIPS 2016): a task shows a few images of each of a few classes (the
support) and asks which of them others are of (the queries); what is learned on the classes of
meta-training is judged on classes that it never saw. Every image of a class may appear, of both splits.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from streamlab.config import at_least
from streamlab.errors import CorruptFile, StreamlabError, unknown
from streamlab.plans.environments import every_environment
from streamlab.plans.episodes import EpisodePlan, Episodes, Phase
from streamlab.plans.stream import Labels
from streamlab.randomness import Draws

from .class_orders import ClassOrder, class_order
from .official_classes import OFFICIAL, held_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

CITATION = """
@inproceedings{vinyals2016matching,
  title = {Matching Networks for One Shot Learning},
  author = {Vinyals, Oriol and Blundell, Charles and Lillicrap, Timothy and Kavukcuoglu, Koray and
    Wierstra, Daan},
  booktitle = {NeurIPS},
  year = {2016},
}
"""
# meta-train, meta-validation and meta-test classes, which are drawn; official ones are in official_classes.py
PRESETS = {"glyphs-100": (64, 16, 20)}
_SHARES = (0.64, 0.16, 0.20)


@dataclass(frozen=True)
class FewShotEpisodes:
    """Options of the episodes.

    preset: the literature's classes, by data set (of glyphs-100 their numbers). train_classes,
    validation_classes, test_classes: how many each phase has (none given: 64, 16 and 20 percent).
    class_order: shuffled by the seed, sorted, numpy:SEED, file:PATH or a list (class_orders.py).
    train_names, validation_names, test_names: or which classes, by name.
    train_on, test_on: or, of joined sources (`--source a+b`), those whose classes are trained and
    tested on; validation is carved from the former.
    way, shot, query: classes, support images and query images of each, in testing and validation;
    train_way, train_shot, train_query: in training (0: as in testing).
    shots: even; or, for imbalanced support, from least_shot to most_shot over an episode's classes,
    linear or in a step (Ochal et al. 2021), in testing and validation.
    episodes: to train on; validation_episodes, test_episodes: to be judged on.
    environments: what the test is taken in beside clean images: all, or conditions (low-light) or one
    severity of one (low-light:3); corrupted: queries, supports or both.
    keep: the weights that are tested: those best on meta-validation, or the last.
    listed: an .npz of index tables train, validation, test, each (episodes, way, shot + query).
    """

    preset: Literal["", "glyphs-100", "miniimagenet", "cifar-fs", "fc100", "cub200"] = ""
    train_classes: int = 0
    validation_classes: int = 0
    test_classes: int = 0
    class_order: ClassOrder = "shuffled"
    train_names: tuple[str, ...] = ()
    validation_names: tuple[str, ...] = ()
    test_names: tuple[str, ...] = ()
    train_on: str = ""
    test_on: str = ""
    way: int = 5
    shot: int = 1
    query: int = 15
    train_way: int = 0
    train_shot: int = 0
    train_query: int = 0
    shots: Literal["even", "linear", "step"] = "even"
    least_shot: int = 1
    most_shot: int = 9
    episodes: int = 1000
    validation_episodes: int = 100
    test_episodes: int = 1000
    environments: tuple[str, ...] = ()
    corrupted: Literal["queries", "supports", "both"] = "queries"
    keep: Literal["best", "last"] = "best"
    listed: str = ""

    name: ClassVar[str] = "episodes"

    def __post_init__(self) -> None:
        for name, least in (("way", 2), ("shot", 1), ("query", 1), ("least_shot", 1), ("test_episodes", 1)):
            at_least(self.name, name, getattr(self, name), least)
        for name in ("train_classes", "validation_classes", "test_classes", "train_way", "train_shot",
                     "train_query", "episodes", "validation_episodes"):  # fmt: skip
            at_least(self.name, name, getattr(self, name), 0)
        at_least(self.name, "most_shot", self.most_shot, self.least_shot)
        every_environment(self.environments)

    def plan(self, labels: Labels, seed: int) -> EpisodePlan:
        """The episodes for these labels and this seed.

        Raises StreamlabError for phases that share a class or have fewer classes than the way, for a
        class with too few images, for unknown names, and for tables that do not fit the labels.
        """
        parts = self._classes(labels, seed)
        even = (self.shot,) * self.way
        training = (self.train_shot or self.shot,) * (self.train_way or self.way)
        asked: dict[Phase, tuple[tuple[int, ...], int, int]] = {
            "train": (training, self.train_query or self.query, self.episodes),
            "validation": (self._shots() or even, self.query, self.validation_episodes),
            "test": (self._shots() or even, self.query, self.test_episodes),
        }
        tables = self._tables()
        everything = labels.everything
        made: dict[Phase, Episodes] = {}
        for phase, (shots, query, count) in asked.items():
            if phase in tables:
                made[phase] = self._given(labels, phase, tables[phase], query, seed)
                continue
            classes = parts[phase]
            members = [np.flatnonzero(everything == label) for label in classes]
            if count:
                self._check(labels, phase, shots, query, classes, members)
            joined = np.concatenate(members) if members else np.zeros(0, np.int64)
            sizes = tuple(len(rows) for rows in members)
            made[phase] = Episodes(seed, phase, classes, joined, sizes, shots, query, count)
        return EpisodePlan(
            scenario=self.name,
            num_classes=labels.num_classes,
            seed=seed,
            options=dataclasses.asdict(self),
            train=made["train"],
            validation=made["validation"],
            test=made["test"],
            environments=every_environment(self.environments),
            corrupted=self.corrupted,
            keep=self.keep,
        )

    def _shots(self) -> tuple[int, ...]:
        """Of each place of the way, where they are not even."""
        if self.shots == "even":
            return ()
        if self.shots == "step":
            few = self.way // 2
            return (self.least_shot,) * few + (self.most_shot,) * (self.way - few)
        return tuple(np.linspace(self.least_shot, self.most_shot, self.way).round().astype(int).tolist())

    def _classes(self, labels: Labels, seed: int) -> dict[Phase, tuple[int, ...]]:
        """Each phase's classes, ascending."""
        if self.train_names or self.test_names or self.validation_names:
            named = {
                "meta-train": self._named(labels, self.train_names),
                "meta-validation": self._named(labels, self.validation_names),
                "meta-test": self._named(labels, self.test_names),
            }
            for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
                shared = set(named[f"meta-{one}"]) & set(named[f"meta-{other}"])
                if shared:
                    names = ", ".join(labels.class_names[label] for label in sorted(shared))
                    raise StreamlabError(f"{self.name}: meta-{one} and meta-{other} share classes: {names}")
            return _phases(*named.values())
        if self.preset in OFFICIAL:
            return self._official(labels)
        draws = Draws(seed, "plan", self.name, "classes")
        order = class_order(self.class_order, labels, draws, self.name)
        if self.train_on or self.test_on:
            return self._across(labels, order)
        counts = self._counts(labels.num_classes)
        ends = np.cumsum(counts)
        return _phases(order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] : ends[2]])

    def _official(self, labels: Labels) -> dict[Phase, tuple[int, ...]]:
        """The classes that the literature holds back, and the others to train on."""
        held_names = held_back(self.preset, labels.class_names)
        if missing := sorted({name for names in held_names for name in names} - {*labels.class_names}):
            raise StreamlabError(
                f"{self.name}: preset {self.preset} holds back classes that the source does not have "
                f"({', '.join(missing[:3])}, …); it is for {OFFICIAL[self.preset]}"
            )
        validation, test = (self._named(labels, names) for names in held_names)
        held = np.concatenate([validation, test])
        return _phases(np.setdiff1d(np.arange(labels.num_classes), held), validation, test)

    def _counts(self, classes: int) -> tuple[int, int, int]:
        given = (self.train_classes, self.validation_classes, self.test_classes)
        train, validation, test = PRESETS[self.preset] if self.preset else given
        if not any((train, validation, test)):
            validation, test = (round(share * classes) for share in _SHARES[1:])
            train = classes - validation - test
        if train + validation + test > classes:
            raise StreamlabError(
                f"{self.name}: {train} meta-train, {validation} meta-validation and {test} meta-test classes "
                f"make {train + validation + test}, and the source has {classes}"
            )
        return train, validation, test

    def _named(self, labels: Labels, names: tuple[str, ...]) -> NDArray[np.int64]:
        place = {name: label for label, name in enumerate(labels.class_names)}
        for name in names:
            if name not in place:
                raise unknown(f"class of {self.name}", name, labels.class_names)
        return np.array([place[name] for name in names], np.int64)

    def _across(self, labels: Labels, order: NDArray[np.int64]) -> dict[Phase, tuple[int, ...]]:
        """Trained on the classes of one joined source, tested on another's."""
        heads = np.array([name.rpartition("/")[0] for name in labels.class_names])
        known = sorted(set(heads.tolist()) - {""})
        for option in ("train_on", "test_on"):
            if getattr(self, option) not in known:
                joined = "joined sources have them: --source a+b" if not known else ", ".join(known)
                raise StreamlabError(
                    f"{self.name}: {option} is {getattr(self, option)!r}, and should be a source ({joined})"
                )
        if self.train_on == self.test_on:
            raise StreamlabError(f"{self.name}: train_on and test_on are both {self.train_on}")
        trained_on = order[heads[order] == self.train_on]
        held = self.validation_classes or round(len(trained_on) * _SHARES[1])
        return _phases(trained_on[held:], trained_on[:held], order[heads[order] == self.test_on])

    def _check(
        self,
        labels: Labels,
        phase: Phase,
        shots: tuple[int, ...],
        query: int,
        classes: tuple[int, ...],
        members: list[NDArray[np.int64]],
    ) -> None:
        """Refuse episodes that cannot be drawn, with what there is."""
        way, needed = len(shots), max(shots) + query
        if way > len(classes):
            raise StreamlabError(
                f"{self.name}: {way}-way episodes of meta-{phase}, which has {len(classes)} "
                f"class{'es' if len(classes) != 1 else ''}; give it more (scenario.{phase}_classes) or "
                f"lower scenario.{'train_way' if phase == 'train' and self.train_way else 'way'}"
            )
        for label, rows in zip(classes, members, strict=True):
            if len(rows) < needed:
                raise StreamlabError(
                    f"{self.name}: {max(shots)} shots and {query} queries take {needed} images a class, "
                    f"and class {labels.class_names[label]} of meta-{phase} has {len(rows)}"
                )

    def _tables(self) -> dict[Phase, NDArray[np.int64]]:
        """The index tables of a file, by phase."""
        if not self.listed:
            return {}
        path = Path(self.listed).expanduser()
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
        except OSError as error:
            raise StreamlabError(
                f"{self.name}: {path} cannot be read: {error.strerror or 'no .npz file'}"
            ) from None
        except ValueError as error:
            raise CorruptFile(f"{self.name}: {path} is no file of tables: {error}") from None
        tables: dict[Phase, NDArray[np.int64]] = {}
        for phase in ("train", "validation", "test"):
            if phase in found:
                table = found.pop(phase)
                if table.ndim != 3 or not np.issubdtype(table.dtype, np.integer):
                    raise CorruptFile(
                        f"{self.name}: {path}: {phase} is {table.dtype} of shape {table.shape}, and should "
                        f"be integers of shape (episodes, way, shot + query)"
                    )
                tables[phase] = table.astype(np.int64)
        if found:
            raise unknown(f"table of {path.name}", next(iter(found)), ("train", "validation", "test"))
        return tables

    def _given(
        self, labels: Labels, phase: Phase, table: NDArray[np.int64], query: int, seed: int
    ) -> Episodes:
        """The episodes of a table, checked: each row of a way is of one class, and none stands twice."""
        everything = labels.everything
        shot = table.shape[2] - query
        if shot < 1:
            raise StreamlabError(
                f"{self.name}: {phase} lists {table.shape[2]} images a class, and {query} of them are "
                f"queries; set scenario.query"
            )
        if not len(table) or table.min() < 0 or table.max() >= len(everything):
            raise StreamlabError(
                f"{self.name}: {phase} lists images outside 0..{len(everything) - 1}, or none"
            )
        of_classes = everything[table]
        if (of_classes != of_classes[:, :, :1]).any():
            episode = int(np.flatnonzero((of_classes != of_classes[:, :, :1]).any((1, 2)))[0])
            raise StreamlabError(f"{self.name}: {phase}, episode {episode}: a class's images are of several")
        if (np.diff(np.sort(table.reshape(len(table), -1), 1), axis=1) == 0).any():
            raise StreamlabError(f"{self.name}: {phase} lists an image twice in one episode")
        classes = tuple(np.unique(of_classes).tolist())
        members = [np.flatnonzero(everything == label) for label in classes]
        sizes = tuple(len(each) for each in members)
        shots = (shot,) * table.shape[1]
        return Episodes(seed, phase, classes, np.concatenate(members), sizes, shots, query, len(table), table)


def _phases(
    train: NDArray[np.int64], validation: NDArray[np.int64], test: NDArray[np.int64]
) -> dict[Phase, tuple[int, ...]]:
    return {
        "train": tuple(sorted(train.tolist())),
        "validation": tuple(sorted(validation.tolist())),
        "test": tuple(sorted(test.tolist())),
    }
