"""Few-shot sessions as plans: what belongs where, official lists line by line, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_source, write_pictures

import streamlab
from streamlab.data.load import load_source
from streamlab.errors import StreamlabError
from streamlab.plans.stream import StreamPlan

LABELS = np.tile(np.arange(12), 9)
SMALL = {"base_classes": 6, "sessions": 3, "way": 2, "shot": 3}


@settings(max_examples=60, deadline=None)
@given(
    base=st.integers(1, 12), sessions=st.integers(1, 5), way=st.integers(1, 4), shot=st.integers(1, 12),
    order=st.sampled_from(["shuffled", "sorted"]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_a_plan_has_its_ways_and_shots_or_is_refused(
    base: int, sessions: int, way: int, shot: int, order: str, seed: int
) -> None:
    options = {"base_classes": base, "sessions": sessions, "way": way, "shot": shot, "class_order": order}
    try:
        plan = streamlab.plan("fscil", LABELS, seed, **options)
    except StreamlabError as error:
        impossible = base + sessions * way > 12 or shot > 9
        if not (impossible and str(error).startswith("fscil: ")):
            raise
        return
    first, *later = plan.experiences
    assert (plan.kind, plan.shows_boundaries, plan.has_base) == ("sessions", True, True)
    assert len(first.indices) == 9 * base, "the base has all its samples"
    for session in later:
        assert np.bincount(LABELS[session.indices]).tolist().count(shot) == way == len(session.classes)
    owned = [label for experience in plan.experiences for label in experience.classes]
    assert len(owned) == len(set(owned)) == base + sessions * way
    if order == "sorted":
        assert owned == list(range(len(owned)))
    assert plan == streamlab.plan("fscil", LABELS, seed, **options)


def test_shots_and_classes_can_be_drawn_apart() -> None:
    one, two = (streamlab.plan("fscil", LABELS, seed, class_order="sorted", **SMALL) for seed in (0, 1))
    assert [e.classes for e in one.experiences] == [e.classes for e in two.experiences]
    assert not np.array_equal(one.experiences[1].indices, two.experiences[1].indices)


def test_the_presets_are_the_literatures(tmp_path: Path) -> None:
    labels = np.tile(np.arange(200), 6)
    plan = streamlab.plan("fscil", labels, 0, preset="cub200")
    assert [len(e.classes) for e in plan.experiences] == [100] + [10] * 10
    assert [len(e.indices) for e in plan.experiences[1:]] == [50] * 10
    for preset in ("cifar100", "miniimagenet", "glyphs-100"):
        plan = streamlab.plan("fscil", labels[labels < 100], 0, preset=preset)
        assert [len(e.classes) for e in plan.experiences] == [60] + [5] * 8
    plan.save(tmp_path / "plan")
    again = StreamPlan.load(tmp_path / "plan")
    assert again == plan
    assert again.has_base


def write_lists(folder: Path, sessions: list[list[int]]) -> str:
    folder.mkdir()
    for number, indices in enumerate(sessions, 2):
        (folder / f"session_{number}.txt").write_text("".join(f"{index}\n" for index in indices))
    return str(folder)


def of(label: int, count: int = 3) -> list[int]:
    return np.flatnonzero(label == LABELS)[:count].tolist()


def test_official_lists_are_followed(tmp_path: Path) -> None:
    wanted = [of(6) + of(7), of(9) + of(8), of(10) + of(11)]
    lists = write_lists(tmp_path / "lists", wanted)
    plan = streamlab.plan("fscil", LABELS, 0, class_order="sorted", index_lists=lists, **SMALL)
    assert [e.indices.tolist() for e in plan.experiences[1:]] == wanted


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"second": of(8) + of(7)}, r"session_3\.txt, line 4: \d+ is of class 7, which is not in session 3"),
        ({"second": [*of(8), 5000]}, r"session_3\.txt, line 4: 5000 is no training sample of the source"),
        ({"second": [*of(8), *of(9), *of(8)]}, "fscil: session 3 lists a sample twice"),
        ({"second": []}, "fscil: session 3 has no training sample"),
        ({"second": of(8)}, r"session_3\.txt names no sample of class 9, which is in session 3"),
        ({"missing": []}, r"session_4\.txt cannot be read: No such file"),
    ],
)
def test_lists_that_are_wrong_are_refused_by_line(
    change: dict[str, list[int]], sentence: str, tmp_path: Path
) -> None:
    sessions = [of(6) + of(7), change.get("second", of(8) + of(9)), of(10) + of(11)]
    lists = write_lists(tmp_path / "lists", sessions)
    if "missing" in change:
        (tmp_path / "lists/session_4.txt").unlink()
    with pytest.raises(StreamlabError, match=sentence):
        streamlab.plan("fscil", LABELS, 0, class_order="sorted", index_lists=lists, **SMALL)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"way": 5}, "6 base classes and 3 sessions of 5 make 21 classes, and the source has 12"),
        ({"shot": 10}, r"10 shots of class \d+, which has 9 training samples"),
        ({"shot": 0}, "fscil: shot is 0, and must be at least 1"),
        ({"index_lists": "x"}, "index lists are of classes in order; set class_order=sorted"),
        ({"preset": "cifar10"}, "preset is 'cifar10', and should be"),
    ],
)
def test_sessions_that_cannot_be_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(StreamlabError, match=sentence):
        streamlab.plan("fscil", LABELS, 0, **{**SMALL, **options})


def test_a_plan_of_a_source_judges_each_session_on_its_own_classes() -> None:
    source = make_source(classes=8, train=6, test=4)
    plan = streamlab.plan("fscil", source, 0, base_classes=4, sessions=2, way=2, shot=2)
    for experience in plan.experiences:
        assert set(source.test_labels[experience.test_indices]) == set(experience.classes)


def test_lists_of_paths_are_followed_in_a_folder_of_pictures(tmp_path: Path) -> None:
    """As miniImageNet's and CUB's, whose paths begin in a folder of their own."""
    for label in range(6):
        write_pictures(tmp_path / f"made-{label}", classes=1, count=10, seed=label)
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / f"made-{label}/class-0").rename(tmp_path / f"pictures/{label}")
    for path in (tmp_path / "pictures").rglob("*.png"):
        path.rename(path.with_name(f"{path.parent.name}-{path.name}"))
    source = load_source(f"folder:{tmp_path / 'pictures'}")
    files = source.train_factors["file"]
    shots = [str(files[source.train_labels == label][0]) for label in (4, 5)]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/session_2.txt").write_text(
        "\n".join(f"elsewhere/images/{Path(s).name}" for s in shots)
    )
    options = {"base_classes": 4, "sessions": 1, "way": 2, "class_order": "sorted"}
    plan = streamlab.plan("fscil", source, 0, index_lists=str(tmp_path / "lists"), **options)
    assert files[plan.experiences[1].indices].tolist() == shots
    with pytest.raises(StreamlabError, match="the source has no factors, and so no domains"):
        streamlab.plan("domain-incremental", source, 0)
