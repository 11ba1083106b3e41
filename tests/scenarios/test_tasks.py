"""class-incremental, domain-incremental and permuted; and the long tail that every scenario takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_source, simulate

import streamlab
from streamlab.data.glyphs_100 import load as load_glyphs
from streamlab.data.source import Source
from streamlab.data.split import Split
from streamlab.errors import StreamlabError
from streamlab.planning import make_plan
from streamlab.plans.stream import Labels, StreamPlan, labels_at

LABELS = np.repeat(np.arange(10), 12)


@settings(max_examples=80, deadline=None)
@given(
    classes=st.integers(1, 30),
    tasks=st.none() | st.integers(1, 12),
    base=st.integers(0, 12),
    increment=st.integers(0, 12),
    kind=st.sampled_from(["online", "sessions"]),
    seed=st.integers(0, 2**31),
)
def test_class_incremental_loses_nothing_or_refuses(
    classes: int, tasks: int | None, base: int, increment: int, kind: str, seed: int
) -> None:
    labels = np.repeat(np.arange(classes), 3)
    options = {"tasks": tasks, "base": base, "increment": increment, "kind": kind}
    try:
        plan = streamlab.plan("class-incremental", labels, seed, **options)
    except StreamlabError as error:
        refused = str(error).startswith("class-incremental: ")
        if not refused:
            raise
        return
    assert plan.kind == kind
    np.testing.assert_array_equal(np.sort(plan.stream), np.arange(len(labels)))
    owned = [number for experience in plan.experiences for number in experience.classes]
    assert sorted(owned) == list(range(classes))
    sizes = [len(experience.classes) for experience in plan.experiences]
    if tasks is not None:
        assert len(sizes) == tasks
    if base:
        assert sizes[0] == base
    later = sizes[1:] if base else sizes
    if increment:
        assert all(size == increment for size in later[:-1])
        assert not later or later[-1] <= increment
    else:
        assert max(later) - min(later) <= 1
    for experience in plan.experiences:
        assert set(labels[experience.indices]) == set(experience.classes)


def sizes(**options: object) -> list[int]:
    plan = streamlab.plan("class-incremental", LABELS, **options)
    return [len(experience.classes) for experience in plan.experiences]


def test_uneven_divisions() -> None:
    assert sizes(tasks=3) == [4, 3, 3]
    assert sizes(base=4, increment=4) == [4, 4, 2]
    assert sizes(base=6, tasks=3) == [6, 2, 2]
    assert sizes(increment=1) == [1] * 10
    assert sizes() == [2] * 5


def test_classes_can_come_in_order() -> None:
    plan = streamlab.plan("class-incremental", LABELS, class_order="sorted")
    assert [e.classes for e in plan.experiences] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    shuffled = {streamlab.plan("class-incremental", LABELS, seed).experiences[0].classes for seed in range(5)}
    assert len(shuffled) > 1


def test_classes_can_come_in_numpys_order_in_a_files_and_in_a_list(tmp_path: Path) -> None:
    """The first ten of CIFAR-100 are those that PyCIL's logs show for its seed, 1993."""

    def order(labels: Labels, option: object) -> list[int]:
        plan = make_plan("class-incremental", labels, 0, {"increment": 1, "class_order": option})
        return [experience.classes[0] for experience in plan.experiences]

    assert order(Labels.of(np.arange(100)), "numpy:1993")[:10] == [68, 56, 78, 8, 23, 84, 90, 65, 74, 76]
    three = Labels(np.arange(3).repeat(4), np.arange(3), ("cat", "dog", "2"))
    (tmp_path / "order.txt").write_text("dog\n\n 2 \ncat\n")
    for asked in (f"file:{tmp_path}/order.txt", "dog, 2, cat", ["dog", 2, 0], ("1", "2", "0")):
        assert order(three, asked) == [1, 2, 0], asked
    named = Labels(np.arange(2).repeat(4), np.arange(2), ("1", "0"))
    assert order(named, "1,0") == [0, 1], "a name counts before a number"
    assert order(named, [1, 0]) == [1, 0], "a number is a number"


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        ("sortd", "unknown class in class-incremental's class_order 'sortd'; did you mean 'sorted'?"),
        ("numpy:x", "class_order is 'numpy:x'; write numpy:SEED with a seed from 0 to 4294967295"),
        ("numpy:4294967296", "write numpy:SEED"),
        ("file:/nowhere/at/all", "class_order: /nowhere/at/all cannot be read: No such file or directory"),
        ("0,1,1,3,4,5,6,7,8,9", "class_order names class 1 twice"),
        ("0,1,3,4,5,6,7", "class_order names class 2 not at all, and 2 more"),
        ([0, 10], "unknown class in class-incremental's class_order '10'"),
    ],
)
def test_a_wrong_class_order_is_refused(order: object, sentence: str) -> None:
    with pytest.raises(StreamlabError) as refused:
        streamlab.plan("class-incremental", LABELS, class_order=order)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tasks": 11}, "class-incremental: 11 tasks need more classes than the source's 10"),
        (
            {"base": 11, "tasks": 2},
            "class-incremental: 2 tasks with a base of 11 classes need more classes than the source's 10",
        ),
        ({"base": 3, "tasks": 1}, "class-incremental: a base of 3 classes needs at least 2 tasks"),
        (
            {"increment": 3, "tasks": 5},
            "class-incremental: base 0 and increment 3 make 4 tasks of 10 classes, not 5",
        ),
        (
            {"kind": "sessions", "boundaries": "hidden"},
            "class-incremental: sessions show where they begin; boundaries=hidden needs kind=online",
        ),
        ({"tusks": 3}, "unknown option of class-incremental 'tusks'; did you mean 'tasks'?"),
        ({"imbalance_ratio": 0.5}, "scenario: imbalance_ratio is 0.5, and must be at least 1"),
        ({"samples_per_class": 0}, "scenario: samples_per_class is 0, and must be at least 1"),
    ],
)
def test_refusals(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(StreamlabError) as refusal:
        streamlab.plan("class-incremental", LABELS, **options)
    assert str(refusal.value) == sentence


def test_a_domain_is_learned_and_judged_alone() -> None:
    source = load_glyphs(Path())
    plan = streamlab.plan("domain-incremental", source, seed=3)
    styles = set(source.train_factors["style"].tolist())
    seen = []
    for experience in plan.experiences:
        (style,) = set(source.train_factors["style"][experience.indices].tolist())
        assert set(source.test_factors["style"][experience.test_indices].tolist()) <= {style}
        seen.append(style)
    assert sorted(seen) == sorted(styles)
    np.testing.assert_array_equal(np.sort(plan.stream), np.arange(len(source.train_labels)))
    chosen = streamlab.plan("domain-incremental", source, domains=("mono", "serif"))
    assert [e.notes["domain"] for e in chosen.experiences] == ["mono", "serif"]


def test_domains_that_are_not_there_are_refused() -> None:
    source = load_glyphs(Path())
    with pytest.raises(
        StreamlabError, match=r"unknown factor for domain-incremental 'styl'; did you mean 'style'\?"
    ):
        streamlab.plan("domain-incremental", source, factor="styl")
    with pytest.raises(StreamlabError, match=r"unknown domain of style 'serfi'; did you mean 'serif'\?"):
        streamlab.plan("domain-incremental", source, domains=("serfi",))
    with pytest.raises(StreamlabError, match="the source has no factors, and so no domains"):
        streamlab.plan("domain-incremental", LABELS)


def test_samples_of_a_domain_count_once_it_has_begun(tiny: Source) -> None:
    evaluations = simulate(
        tiny, "finetune", scenario="permuted", eval_every=60, settings={"scenario": {"tasks": 3}}
    ).evaluations
    counts = [len(evaluation.labels) for evaluation in evaluations]
    assert counts[0] == 60
    assert counts[-1] == 3 * 60
    for evaluation in evaluations:
        begun = min(3, 1 + (evaluation.samples_seen - 1) // 240)
        assert evaluation.test_indices.max() < 60 * begun


def test_permuted_images_keep_their_pixels_in_another_order(tiny: Source) -> None:
    plan = streamlab.plan("permuted", tiny, seed=5, tasks=3)
    images = torch.from_numpy(tiny.train_images)
    split = Split(images, torch.from_numpy(tiny.train_labels), plan.transforms)
    assert len(split) == 3 * len(images)
    rows = torch.tensor([0, 7, 240, 247, 480, 487])
    shown = split.images_at(rows)
    assert torch.equal(shown[:2], images[[0, 7]])
    for place, sample in ((2, 0), (3, 7), (4, 0), (5, 7)):
        assert not torch.equal(shown[place], images[sample])
        assert torch.equal(shown[place].flatten().sort().values, images[sample].flatten().sort().values)
    # One order for all images of a task.
    marks = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(240, 1, 8, 8)
    marked = Split(marks, split.labels, plan.transforms).images_at(rows)
    assert torch.equal(marked[2], marked[3])
    assert not torch.equal(marked[2], marked[4])
    np.testing.assert_array_equal(split.labels_at(rows).numpy(), labels_at(tiny.train_labels, rows.numpy()))


def test_joint_training_sees_every_permutation(tiny: Source) -> None:
    record = simulate(tiny, "joint", scenario="permuted", settings={"scenario": {"tasks": 2}}).record()
    (evaluation,) = record.evaluations
    assert len(evaluation.labels) == 2 * 60
    assert evaluation.accuracy > 0.9


COUNTS = st.lists(st.integers(1, 60), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    counts=COUNTS,
    imbalance=st.sampled_from(["exponential", "step", "linear", "pareto"]),
    over=st.sampled_from(["stream", "tasks"]),
    ratio=st.floats(1, 200),
    seed=st.integers(0, 2**31),
    scenario=st.sampled_from(["class-incremental", "si-blurry", "permuted"]),
)
def test_a_long_tail_keeps_every_class_and_serves_only_what_is_there(
    counts: list[int], imbalance: str, over: str, ratio: float, seed: int, scenario: str
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    options = {"imbalance": imbalance, "imbalance_over": over, "imbalance_ratio": ratio, "tasks": 2}
    plan = streamlab.plan(scenario, labels, seed, **options)
    repeats = 2 if scenario == "permuted" else 1
    assert len(np.unique(plan.stream)) == len(plan.stream)
    served = np.bincount(labels_at(labels, plan.stream), minlength=len(counts))
    assert plan.class_counts == tuple(served.tolist())
    assert (served >= repeats).all()
    assert (served <= repeats * np.array(counts)).all()
    assert plan == streamlab.plan(scenario, labels, seed, **options)


@pytest.mark.parametrize(
    ("imbalance", "expected"),
    [
        ("exponential", [100, 46, 22, 10]),
        ("step", [100, 100, 10, 10]),
        ("linear", [100, 70, 40, 10]),
        ("pareto", [100, 32, 16, 10]),
    ],
)
def test_the_tails_have_their_shapes(imbalance: str, expected: list[int]) -> None:
    labels = np.repeat(np.arange(4), 100)
    plan = streamlab.plan("class-incremental", labels, tasks=2, imbalance=imbalance, imbalance_ratio=10)
    assert sorted(plan.class_counts, reverse=True) == expected


def test_a_tail_over_tasks_has_an_order_of_its_own_in_each() -> None:
    """All classes come in each of four tasks: in every one the shape is the same, and the order drawn anew;
    what stays keeps its place in the stream.
    """
    labels = np.repeat(np.arange(4), 50)
    options = {"tasks": 4, "seed": 1}
    whole = streamlab.plan("permuted", labels, **options)
    plan = streamlab.plan(
        "permuted", labels, imbalance="step", imbalance_ratio=5, imbalance_over="tasks", **options
    )
    frequent = []
    for experience, full in zip(plan.experiences, whole.experiences, strict=True):
        counts = np.bincount(labels_at(labels, experience.indices), minlength=4)
        assert sorted(counts.tolist()) == [10, 10, 50, 50]
        frequent.append(tuple(np.flatnonzero(counts == 50)))
        places = [full.indices.tolist().index(one) for one in experience.indices.tolist()]
        assert places == sorted(places)
    assert len(set(frequent)) > 1


def test_subgroups_are_the_factors_values() -> None:
    source = load_glyphs(Path())
    plan = streamlab.plan("class-incremental", source, subgroups="style")
    styles = np.asarray(source.test_factors["style"])
    for group in np.unique(plan.subgroups):
        assert len(np.unique(styles[plan.subgroups == group])) == 1
    assert len(np.unique(plan.subgroups)) == len(np.unique(styles))
    plain = streamlab.plan("class-incremental", source)
    assert plain.fingerprint != plan.fingerprint
    np.testing.assert_array_equal(plan.stream, plain.stream)


def test_a_plan_keeps_its_subgroups(tmp_path: Path) -> None:
    plan = streamlab.plan("class-incremental", load_glyphs(Path()), subgroups="style")
    plan.save(tmp_path / "plan.safetensors")
    loaded = StreamPlan.load(tmp_path / "plan.safetensors")
    assert loaded == plan
    np.testing.assert_array_equal(loaded.subgroups, plan.subgroups)


def test_what_tails_and_subgroups_cannot_be_of() -> None:
    source = load_glyphs(Path())
    for scenario, options, sentence in (
        ("class-incremental", {"imbalance_over": "tasks"}, "imbalance, which it is of, is none"),
        ("class-incremental", {"subgroups": "stile"}, "unknown factor .* 'stile'; did you mean 'style'"),
        ("episodes", {"subgroups": "style"}, "episodes: subgroups is of streams"),
        ("episodes", {"imbalance": "step", "imbalance_over": "tasks"}, "imbalance_over is of streams"),
    ):
        with pytest.raises(StreamlabError, match=sentence):
            streamlab.plan(scenario, source, **options)


def test_a_plan_with_transforms_is_saved_whole(tmp_path) -> None:
    plan = streamlab.plan("permuted", LABELS, seed=2, tasks=3, imbalance="linear", samples_per_class=5)
    plan.save(tmp_path / "plan.safetensors")
    loaded = StreamPlan.load(tmp_path / "plan.safetensors")
    assert loaded == plan
    assert (loaded.transforms, loaded.class_counts) == (plan.transforms, plan.class_counts)
    assert plan != streamlab.plan(
        "permuted", LABELS, seed=3, tasks=3, imbalance="linear", samples_per_class=5
    )


def test_every_scenario_runs_with_sessions_and_streams() -> None:
    source = make_source()
    for scenario, kind in (("class-incremental", "sessions"), ("permuted", "sessions"), ("i-blurry", None)):
        options = {"tasks": 3, **({"kind": kind} if kind else {})}
        record = simulate(source, "er", scenario=scenario, settings={"scenario": options}).record()
        assert len(record.at_task_ends) == 3
