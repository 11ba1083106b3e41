"""Si-Blurry and i-Blurry: the reference order bit for bit, and what the clean order promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import VECTORS

import streamlab
from streamlab.errors import StreamlabError


@pytest.mark.parametrize("path", sorted(VECTORS.glob("siblurry_*.npz")), ids=lambda path: path.stem)
def test_reference_order_equals_the_vectors(path: Path) -> None:
    with np.load(path) as vector:
        plan = streamlab.plan(
            "si-blurry" if vector["varying"] else "i-blurry",
            vector["targets"],
            seed=int(vector["seed"]),
            tasks=int(vector["num_tasks"]),
            disjoint_percent=int(vector["disjoint_percent_n"]),
            blurry_percent=int(vector["blurry_percent_m"]),
            order="reference",
        )
        assert plan.num_classes == int(vector["num_classes"])
        assert len(plan.experiences) == int(vector["num_tasks"])
        for number, experience in enumerate(plan.experiences):
            assert experience.indices.dtype == np.int64
            np.testing.assert_array_equal(experience.indices, vector[f"task{number}_indices"])
            for kind in ("disjoint_classes", "blurry_classes"):
                expected = vector[f"task{number}_{kind}"].tolist()
                assert list(experience.notes[kind]) == expected


def test_there_are_vectors() -> None:
    assert list(VECTORS.glob("siblurry_*.npz"))


labels = st.lists(st.integers(0, 7), min_size=30, max_size=200).map(lambda drawn: [*range(8), *drawn])


@settings(max_examples=60, deadline=None)
@given(
    labels=labels,
    seed=st.integers(0, 2**31),
    tasks=st.integers(1, 8),
    disjoint=st.integers(0, 100),
    blurry=st.integers(0, 100),
    scenario=st.sampled_from(["si-blurry", "i-blurry"]),
)
def test_the_clean_order_drops_nothing(
    labels: list[int], seed: int, tasks: int, disjoint: int, blurry: int, scenario: str
) -> None:
    options = {"tasks": tasks, "disjoint_percent": disjoint, "blurry_percent": blurry}
    plan = streamlab.plan(scenario, labels, seed, **options)
    targets = np.array(labels)
    # Every sample is served exactly once, every class belongs to exactly one task.
    np.testing.assert_array_equal(np.sort(plan.stream), np.arange(len(labels)))
    owned = [number for experience in plan.experiences for number in experience.classes]
    assert sorted(owned) == list(range(8))
    if scenario == "si-blurry":
        assert all(experience.classes for experience in plan.experiences)
    # Samples of disjoint classes never leave their task; M percent of the others may.
    away = 0
    for experience in plan.experiences:
        foreign = targets[experience.indices][~np.isin(targets[experience.indices], experience.classes)]
        away += len(foreign)
        disjoint_classes = [c for e in plan.experiences for c in e.notes["disjoint_classes"]]
        assert not np.isin(foreign, disjoint_classes).any()
    spread = [c for e in plan.experiences for c in e.notes["blurry_classes"]]
    assert away <= round(np.isin(targets, spread).sum() * blurry / 100)
    # The same seed gives the same plan, and another one another.
    again = streamlab.plan(scenario, labels, seed, **options)
    assert again.fingerprint == plan.fingerprint
    assert streamlab.plan(scenario, labels, seed + 1, **options) != plan


def test_boundaries_are_part_of_the_fingerprint() -> None:
    hidden = streamlab.plan("si-blurry", [0, 1, 2] * 5, 0, tasks=3)
    shown = streamlab.plan("si-blurry", [0, 1, 2] * 5, 0, tasks=3, boundaries="shown")
    assert hidden.fingerprint != shown.fingerprint
    np.testing.assert_array_equal(hidden.stream, shown.stream)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"blurry_percent": 130}, "si-blurry: blurry_percent is 130, and must lie in 0..100"),
        ({"tasks": 0}, "si-blurry: tasks is 0, and must be at least 1"),
        ({"tasks": 9}, "si-blurry: 9 tasks need as many classes, and the source has 3"),
        ({"taks": 2}, "unknown option of si-blurry 'taks'; did you mean 'tasks'?"),
        ({"order": "clear"}, "si-blurry: order is 'clear', and should be 'clean' or 'reference'"),
    ],
)
def test_refusals(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(StreamlabError) as error:
        streamlab.plan("si-blurry", [0, 1, 2] * 5, **options)
    assert str(error.value) == sentence
