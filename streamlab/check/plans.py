"""The promises of a scenario: one function each, whose docstring is the promise and why it matters."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import plugins
from ..config import configure
from ..errors import StreamlabError
from ..plans.episodes import EpisodePlan
from ..plans.stream import Labels, Plan, StreamPlan, load_plan
from .subject import Broken

CLASSES, TRAIN, TEST = 100, 20, 5  # enough for the defaults of every built-in
DOMAINS = 3


@dataclass(frozen=True)
class ScenarioSubject:
    """A scenario with its options, as `si-blurry:tasks=3` names it."""

    scenario: type
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def named(text: str) -> ScenarioSubject:
        """An installed scenario; raises StreamlabError for an unknown one."""
        name, _, rest = text.partition(":")
        pairs = (part.partition("=") for part in filter(None, rest.split(",")))
        return ScenarioSubject(
            plugins.load("scenarios", name), name, {key.strip(): value.strip() for key, _, value in pairs}
        )

    def plan(self, seed: int = 0, labels: Labels | None = None) -> Plan:
        """A plan of the tiny labels; a refusal or a crash is Broken."""
        made: Any = configure(self.scenario, self.options, self.name)
        try:
            plan: Plan = made.plan(labels or tiny_labels(), seed)
        except Exception as error:
            raise Broken(f"{type(error).__name__}: {error}") from error
        return plan


def tiny_labels(order: int = 0) -> Labels:
    """A hundred classes of 20 + 5 samples in a drawn order, of three domains each."""
    draws = np.random.Generator(np.random.Philox(key=order))
    train = draws.permutation(np.repeat(np.arange(CLASSES), TRAIN)).astype(np.int64)
    test = draws.permutation(np.repeat(np.arange(CLASSES), TEST)).astype(np.int64)

    def domains(labels: Any) -> Any:
        place = np.empty(len(labels), np.int64)
        for label in range(CLASSES):
            members = np.flatnonzero(labels == label)
            place[members] = np.arange(len(members)) % DOMAINS
        return np.asarray([f"domain {number}" for number in place])

    factors = [{name: domains(labels) for name in ("domain", "style", "font")} for labels in (train, test)]
    names = tuple(f"class {number}" for number in range(CLASSES))
    return Labels(train, test, names, factors[0], factors[1])


ScenarioCheck = Callable[[ScenarioSubject], None]


def scenario_checks() -> Iterator[ScenarioCheck]:
    """Every check, in the order in which to run them."""
    yield check_it_plans
    yield check_same_seed_same_plan
    yield check_another_seed_another_plan
    yield check_indices_are_the_sources
    yield check_no_sample_comes_twice
    yield check_tests_are_of_the_experiences_classes
    yield check_a_plan_is_saved_whole


def check_it_plans(subject: ScenarioSubject) -> None:
    """It makes a plan of a small source.

    A hundred classes of twenty samples are enough for most defaults; other options follow the name.
    """
    plan = subject.plan()
    if isinstance(plan, StreamPlan) and not plan.num_samples:
        raise Broken("its plan has no training sample")


def check_same_seed_same_plan(subject: ScenarioSubject) -> None:
    """The same labels, options and seed give the same plan.

    Two strategies are compared on one stream, made again in each worker. Draw by name from the seed.
    """
    if subject.plan(3).fingerprint != subject.plan(3).fingerprint:
        raise Broken("two plans of seed 3 differ")


def check_another_seed_another_plan(subject: ScenarioSubject) -> None:
    """Another seed gives another plan.

    Intervals over seeds say nothing where every seed has the same stream.
    """
    if len({subject.plan(seed).fingerprint for seed in range(4)}) == 1:
        raise Broken("seeds 0 to 3 have one and the same plan")


def check_indices_are_the_sources(subject: ScenarioSubject) -> None:
    """Its indices name samples that there are, under transforms that it names.

    What lies outside fails in the middle of a run, or, negative, takes another sample in silence.
    """
    plan, labels = subject.plan(), tiny_labels()
    if isinstance(plan, EpisodePlan):
        _within("an episode's sample", np.concatenate([p.samples for p in plan.phases.values()]),
                len(labels.everything))  # fmt: skip
        return
    under = max(1, len(plan.transforms))
    for number, experience in enumerate(plan.experiences):
        _within(f"experience {number}: a training index", experience.indices, len(labels.train) * under)
        _within(f"experience {number}: a test index", experience.test_indices, len(labels.test) * under)


def _within(what: str, indices: Any, count: int) -> None:
    if len(indices) and not (indices.min() >= 0 and indices.max() < count):
        raise Broken(f"{what} is {int(indices.min())} to {int(indices.max())}, of {count}")


def check_no_sample_comes_twice(subject: ScenarioSubject) -> None:
    """No training sample comes twice in a stream, under the same transform.

    Epochs and updates repeat samples where a run says so; a plan that repeats some weighs them in silence.
    """
    plan = subject.plan()
    if isinstance(plan, StreamPlan) and len(np.unique(plan.stream)) != len(plan.stream):
        raise Broken(f"{len(plan.stream) - len(np.unique(plan.stream))} training samples come twice")


def check_tests_are_of_the_experiences_classes(subject: ScenarioSubject) -> None:
    """An experience is judged on test samples of its own classes, each sample in one experience.

    Accuracy on an experience is otherwise that of others, and forgetting is taken of what was never learned.
    """
    plan, labels = subject.plan(), tiny_labels()
    if isinstance(plan, EpisodePlan):
        return
    judged = np.concatenate([experience.test_indices for experience in plan.experiences])
    if len(judged) != len(np.unique(judged)):
        raise Broken("two experiences are judged on one test sample")
    for number, experience in enumerate(plan.experiences):
        found = set(labels.test[experience.test_indices % len(labels.test)].tolist())
        for label in sorted(found - set(experience.classes))[:1]:
            raise Broken(f"experience {number} is judged on class {label}, which is not one of its own")


def check_a_plan_is_saved_whole(subject: ScenarioSubject) -> None:
    """A plan that is saved comes back the same.

    Runs keep their plan, and are refused where it cannot be made again; options must be plain values.
    """
    plan = subject.plan()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.safetensors"
        try:
            plan.save(path)
        except (TypeError, StreamlabError) as error:
            raise Broken(f"it cannot be saved: {error}") from error
        if load_plan(path).fingerprint != plan.fingerprint:
            raise Broken("the plan that was saved is another")
