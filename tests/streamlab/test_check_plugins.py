"""The checks of scenarios and sources: each catches its culprit, and every built-in passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_source, write_every_source

from streamlab import plugins
from streamlab.check import (
    Broken,
    ScenarioSubject,
    SourceSubject,
    check_plugin,
    scenario_checks,
    source_checks,
)
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.plans.stream import Experience, Labels, StreamPlan
from streamlab.scenarios.class_incremental import ClassIncremental

SCENARIO_CHECKS = {check.__name__: check for check in scenario_checks()}
SOURCE_CHECKS = {check.__name__: check for check in source_checks()}


@dataclass(frozen=True)
class Plain:
    """Nothing wrong with it; culprits differ from it in one thing."""

    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        return ClassIncremental(tasks=3).plan(labels, seed)


def changed(plan: StreamPlan, number: int, **parts: Any) -> StreamPlan:
    """The plan with one experience changed."""
    experiences = list(plan.experiences)
    experiences[number] = dataclasses.replace(experiences[number], **parts)
    return dataclasses.replace(plan, experiences=tuple(experiences))


class Refuses(Plain):
    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        raise StreamlabError("it wants a hundred classes")


class DrawsFromTheGlobalGenerator(Plain):
    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        return super().plan(labels, int(np.random.randint(2**31 - 1)))


class IgnoresTheSeed(Plain):
    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        return super().plan(labels, 0)


class CountsFromOne(Plain):
    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        plan = super().plan(labels, seed)
        return changed(plan, 0, indices=np.append(plan.experiences[0].indices, len(labels.train)))


class ServesTwice(Plain):
    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        plan = super().plan(labels, seed)
        first: Experience = plan.experiences[0]
        return changed(plan, 0, indices=np.append(first.indices, first.indices[:2]))


class JudgesOthersClasses(Plain):
    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        plan = super().plan(labels, seed)
        tests = [experience.test_indices for experience in plan.experiences]
        return changed(changed(plan, 0, test_indices=tests[1]), 1, test_indices=tests[0])


class HoldsAFunction(Plain):
    def plan(self, labels: Labels, seed: int) -> StreamPlan:
        return dataclasses.replace(super().plan(labels, seed), options={"order": sorted})


SCENARIOS = [
    ("check_it_plans", Refuses, "StreamlabError: it wants a hundred classes"),
    ("check_same_seed_same_plan", DrawsFromTheGlobalGenerator, "two plans of seed 3 differ"),
    ("check_another_seed_another_plan", IgnoresTheSeed, "seeds 0 to 3 have one and the same plan"),
    ("check_indices_are_the_sources", CountsFromOne, "a training index is .* to 2000, of 2000"),
    ("check_no_sample_comes_twice", ServesTwice, "2 training samples come twice"),
    ("check_tests_are_of_the_experiences_classes", JudgesOthersClasses, "experience 0 is judged on class"),
    ("check_a_plan_is_saved_whole", HoldsAFunction, "it cannot be saved"),
]


@pytest.mark.parametrize(("name", "culprit", "sentence"), SCENARIOS)
def test_a_check_of_scenarios_catches_its_culprit(name: str, culprit: type, sentence: str) -> None:
    SCENARIO_CHECKS[name](ScenarioSubject(Plain, "plain"))
    with pytest.raises(Broken, match=sentence):
        SCENARIO_CHECKS[name](ScenarioSubject(culprit, "culprit"))


def altered(**parts: Any) -> Callable[[], Source]:
    return lambda: dataclasses.replace(make_source(), **{k: v(make_source()) for k, v in parts.items()})


def other_each_time() -> Callable[[], Source]:
    seeds = iter(range(100))
    return lambda: make_source(seed=next(seeds))


SOURCES = [
    ("check_it_loads", altered(train_images=lambda s: s.train_images / 255), "float64"),
    ("check_it_loads", altered(test_labels=lambda s: s.test_labels + 1), "label 6 of image 4 names none of the 6"),
    ("check_every_class_can_be_learned",
     altered(test_labels=lambda s: np.minimum(s.test_labels, 4)), "'class 5' has no test sample"),
    ("check_factors_are_of_every_sample",
     altered(train_factors=lambda s: {"font": np.array(["a"])}, test_factors=lambda s: {"font": np.array(["a"])}),
     "factor 'font' has 1 and 1 values"),
    ("check_splits_share_no_image",
     altered(test_images=lambda s: s.train_images[: len(s.test_images)]), "60 of 60 test images"),
    ("check_it_loads_the_same", other_each_time(), "two loads have other pixels"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "load", "sentence"), SOURCES)
def test_a_check_of_sources_catches_its_culprit(name: str, load: Callable[[], Source], sentence: str) -> None:
    SOURCE_CHECKS[name](SourceSubject(make_source, "plain"))
    with pytest.raises((Broken, StreamlabError), match=sentence):
        SOURCE_CHECKS[name](SourceSubject(load, "culprit"))


def test_every_check_has_a_culprit_and_a_promise() -> None:
    assert {name for name, *_ in SCENARIOS} == set(SCENARIO_CHECKS)
    assert {name for name, *_ in SOURCES} == set(SOURCE_CHECKS)
    for check in (*SCENARIO_CHECKS.values(), *SOURCE_CHECKS.values()):
        promise, _, why = (check.__doc__ or "").partition("\n\n")
        assert promise.endswith(".")
        assert why.strip()


DEFAULTS = {"domain-incremental": "domain-incremental:factor=domain"}


@pytest.mark.parametrize("name", [name for name in plugins.names("scenarios") if name != "saved"])
def test_every_built_in_scenario_keeps_its_promises(name: str) -> None:
    outcomes = list(check_plugin(ScenarioSubject.named(DEFAULTS.get(name, name)), scenario_checks()))
    assert [(o.check, o.message) for o in outcomes if o.status != "kept"] == []


def test_every_built_in_source_keeps_its_promises(tmp_path: Path) -> None:
    write_every_source(tmp_path)
    for name in (
        "glyphs-100",
        "fashion-mnist",
        "mnist",
        f"folder:{tmp_path}/pictures",
        f"npz:{tmp_path}/mine.npz",
    ):
        subject = SourceSubject.named(name, str(tmp_path / "data"))
        outcomes = list(check_plugin(subject, source_checks()))
        assert [(name, o.check, o.message) for o in outcomes if o.status != "kept"] == []
