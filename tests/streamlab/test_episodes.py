"""Plans of episodes: what is drawn, that it stays so, and how it is saved."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_source

from streamlab.data.corruption import corrupt
from streamlab.errors import CorruptFile, StreamlabError
from streamlab.planning import make_plan
from streamlab.plans.environments import CONDITIONS, every_environment
from streamlab.plans.episodes import EpisodePlan, Episodes
from streamlab.plans.stream import Labels, load_plan
from streamlab.randomness import hashed

LABELS = make_source(classes=20, train=12, test=4).labels


def plan(seed: int = 0, **options: object) -> EpisodePlan:
    made = make_plan("episodes", LABELS, seed, {"query": 3, "way": 3, **options})
    assert isinstance(made, EpisodePlan)
    return made


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    way=st.integers(2, 3),
    shot=st.integers(1, 5),
    query=st.integers(1, 7),
    numbers=st.lists(st.integers(0, 10**7), min_size=1, max_size=5),
    shots=st.sampled_from(["even", "linear", "step"]),
)
def test_an_episode_is_of_different_classes_and_no_sample_stands_twice(
    seed: int, way: int, shot: int, query: int, numbers: list[int], shots: str
) -> None:
    options = {"way": way, "shot": shot, "query": query, "shots": shots, "most_shot": 5}
    made = plan(seed, **options)
    for phase, episodes in made.phases.items():
        drawn = episodes.draw(torch.tensor(numbers))
        assert drawn.shape == (len(numbers), way, max(episodes.shots) + query)
        for number, own in zip(numbers, drawn, strict=True):
            episode = episodes[number]
            labels = LABELS.everything
            assert len(set(own.flatten().tolist())) == own.numel()
            assert len(set(episode.classes)) == way
            assert set(episode.classes) <= set(episodes.classes)
            named = np.array(episode.classes)
            assert (labels[episode.support] == named[episode.support_labels]).all()
            assert (labels[episode.query] == named[episode.query_labels]).all()
            assert np.bincount(episode.support_labels).tolist() == list(episodes.shots)
            assert np.bincount(episode.query_labels).tolist() == [query] * way
            assert not set(episode.support.tolist()) & set(episode.query.tolist()), phase


def test_phases_share_no_class_and_every_image_of_a_class_may_appear() -> None:
    made = plan()
    classes = [set(episodes.classes) for episodes in made.phases.values()]
    assert sum(map(len, classes)) == len(set.union(*classes)) == 20
    drawn = made.test.draw(torch.arange(3000)).flatten()
    assert set(drawn.tolist()) == set(made.test.samples.tolist())
    assert max(made.test.samples) >= len(LABELS.train)  # of both splits


def test_draws_are_even_over_classes_samples_and_places() -> None:
    episodes = plan(way=2, shot=1, query=1).test
    drawn = episodes.draw(torch.arange(40_000))
    counts = np.bincount(np.searchsorted(np.sort(episodes.samples), drawn.flatten().numpy()))
    expected = drawn.numel() / len(episodes.samples)
    assert np.abs(counts - expected).max() < 6 * expected**0.5
    for place in range(2):
        own = np.bincount(LABELS.everything[drawn[:, 0, place].numpy()], minlength=20)
        assert np.abs(own[list(episodes.classes)] - 10_000).max() < 600


def test_a_seed_and_a_number_name_an_episode_for_ever() -> None:
    """Typed in from the first version: a plan must never change under a reader of a paper."""
    episode = plan(3).test[48213]
    assert (episode.classes, episode.support.tolist()) == KEPT
    alone = plan(3).test.draw(torch.tensor([48213]))
    among = plan(3, test_episodes=5).test.draw(torch.arange(48200, 48300))
    assert torch.equal(alone[0], among[13])
    assert plan(4).test[48213].support.tolist() != episode.support.tolist()


KEPT = ((7, 16, 0), [191, 211, 149])


def test_hashes_are_the_same_in_numpy_and_torch() -> None:
    counters = np.arange(-5, 2000, dtype=np.int64) * 987654321
    own = hashed(2**127 - 12345, counters)
    assert np.array_equal(own, hashed(2**127 - 12345, torch.from_numpy(counters)).numpy())
    assert own.min() >= 0
    assert len(np.unique(own)) == len(own)
    bits = (own[:, None] >> np.arange(63)) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 0.06


@pytest.mark.parametrize("options", [{}, {"environments": "low-light,blur:3", "corrupted": "both"}])
def test_a_plan_comes_back_from_its_file(tmp_path: Path, options: dict[str, str]) -> None:
    made = plan(2, **options)
    made.save(tmp_path / "plan.safetensors")
    again = load_plan(tmp_path / "plan.safetensors")
    assert again == made
    assert isinstance(again, EpisodePlan)
    assert again.test.draw(torch.arange(9)).equal(made.test.draw(torch.arange(9)))
    content = bytearray((tmp_path / "plan.safetensors").read_bytes())
    content[-3] ^= 1
    (tmp_path / "plan.safetensors").write_bytes(content)
    with pytest.raises(CorruptFile, match="does not match its fingerprint"):
        load_plan(tmp_path / "plan.safetensors")


def test_what_changes_episodes_changes_the_fingerprint() -> None:
    prints = [
        plan().fingerprint,
        plan(1).fingerprint,
        plan(shot=2).fingerprint,
        plan(test_episodes=7).fingerprint,
        plan(environments="blur:1").fingerprint,
        plan(environments="blur:1", corrupted="both").fingerprint,
        plan(keep="last").fingerprint,
        plan(samples_per_class=11).fingerprint,
    ]
    assert len(set(prints)) == len(prints)


def test_listed_episodes_are_those_of_the_table(tmp_path: Path) -> None:
    table = plan().test.draw(torch.arange(5)).numpy()
    np.savez(tmp_path / "tables.npz", test=table)
    made = plan(listed=str(tmp_path / "tables.npz"))
    assert np.array_equal(made.test.draw(torch.arange(5)).numpy(), table)
    assert len(made.test) == 5
    with pytest.raises(IndexError):
        made.test[5]
    np.savez(tmp_path / "tables.npz", tests=table)
    with pytest.raises(StreamlabError, match=r"unknown table of tables.npz 'tests'; did you mean 'test'\?"):
        plan(listed=str(tmp_path / "tables.npz"))
    table[2, 1, 0] = table[2, 0, 0]
    np.savez(tmp_path / "tables.npz", test=table)
    with pytest.raises(StreamlabError, match="test, episode 2: a class's images are of several"):
        plan(listed=str(tmp_path / "tables.npz"))


def test_sources_may_be_crossed() -> None:
    names = (*(f"a/{n}" for n in range(10)), *(f"b/{n}" for n in range(10)))
    labels = Labels(LABELS.train, LABELS.test, names)
    made = make_plan("episodes", labels, 0, {"train_on": "a", "test_on": "b", "way": 2, "query": 3})
    assert isinstance(made, EpisodePlan)
    assert set(made.test.classes) == set(range(10, 20))
    assert set(made.train.classes) | set(made.validation.classes) == set(range(10))
    with pytest.raises(StreamlabError, match="train_on is 'c', and should be a source"):
        make_plan("episodes", labels, 0, {"train_on": "c", "test_on": "b"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": 5}, "5-way episodes of meta-validation, which has 3 classes; give it more"),
        ({"shot": 20}, "20 shots and 3 queries take 23 images a class, and class class .* has 16"),
        (
            {"train_names": "class 1,class 2", "test_names": "class 2,class 3"},
            "meta-train and meta-test share classes: class 2",
        ),
        ({"test_names": "clas 2"}, "unknown class of episodes 'clas 2'; did you mean 'class 2'"),
        ({"train_classes": 15, "test_classes": 6}, "make 21, and the source has 20"),
        ({"environments": "low-ligth"}, "unknown environment 'low-ligth'; did you mean 'low-light'"),
        ({"environments": "blur:7"}, "write blur:1 to blur:5"),
        ({"way": 1}, "way is 1, and must be at least 2"),
        ({"environment": "blur:1"}, "environment is of streams; set scenario.environments"),
        ({"train_on": "a", "test_on": "b"}, "joined sources have them: --source a.b"),
    ],
)
def test_impossible_episodes_are_refused_in_a_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(StreamlabError, match=message):
        plan(**options)


# Environments


def test_every_condition_has_five_severities_and_all_names_them() -> None:
    assert len(every_environment(("all",))) == 5 * len(CONDITIONS) == 30
    assert every_environment(("blur:2", "blur")) == ("blur:2", "blur:1", "blur:3", "blur:4", "blur:5")


@pytest.mark.parametrize("condition", CONDITIONS)
def test_an_image_wears_an_environment_the_same_way_in_any_batch(condition: str) -> None:
    images = torch.from_numpy(make_source(size=16).train_images[:8])
    samples = torch.arange(8) * 37
    whole = corrupt(images, samples, f"{condition}:4")
    assert whole.dtype == torch.uint8
    assert torch.equal(corrupt(images[5:6], samples[5:6], f"{condition}:4")[0], whole[5])
    assert not torch.equal(whole, images)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_severities_grow(condition: str) -> None:
    images = torch.zeros(60, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 8:20, 8:20] = 220
    corrupted = [corrupt(images, torch.arange(60), f"{condition}:{level}").float() for level in range(1, 6)]
    if condition == "small-target":  # what is left of it, since two small squares are apart or not
        away = [-own.sum() for own in corrupted]
    else:
        away = [(own - images.float()).abs().mean() for own in corrupted]
    assert all(one < two for one, two in itertools.pairwise(away)), away


def test_colour_images_wear_every_environment() -> None:
    images = torch.randint(0, 256, (3, 3, 12, 20), dtype=torch.uint8)
    for name in every_environment(("all",)):
        assert corrupt(images, torch.arange(3), name).shape == images.shape


def test_the_test_of_a_stream_wears_an_environment_and_its_training_does_not() -> None:
    clean = make_plan("class-incremental", LABELS, 0, {})
    corrupted = make_plan("class-incremental", LABELS, 0, {"environment": "low-light:3"})
    assert not isinstance(clean, EpisodePlan)
    assert not isinstance(corrupted, EpisodePlan)
    assert np.array_equal(corrupted.stream, clean.stream)
    assert np.array_equal(corrupted.test_indices, clean.test_indices + len(LABELS.test))
    assert corrupted.transforms == ("identity", "low-light:3")
    with pytest.raises(StreamlabError, match="permuted transforms its images already"):
        make_plan("permuted", LABELS, 0, {"environment": "low-light:3"})


def test_episodes_know_their_length() -> None:
    episodes = plan(test_episodes=7).test
    assert isinstance(episodes, Episodes)
    assert len(list(episodes)) == len(episodes) == 7


@pytest.mark.parametrize(
    ("preset", "counts"),
    [("miniimagenet", (64, 16, 20)), ("cifar-fs", (64, 16, 20)), ("fc100", (60, 20, 20))],
)
def test_official_classes_are_held_back_whatever_the_seed(preset: str, counts: tuple[int, ...]) -> None:
    """By name: a shuffled order of as many classes is another problem."""
    from streamlab.data.cifar_100 import _NAMES
    from streamlab.scenarios.official_classes import held_back

    official = held_back(preset, ())
    held = [name for names in official for name in names]
    assert len(set(held)) == len(held)
    others = [name for name in _NAMES if name not in held]
    names = tuple(_NAMES) if preset != "miniimagenet" else (*held, *(f"n{n:08}" for n in range(64)))
    assert set(held) <= set(names)
    labels = Labels(np.repeat(np.arange(100), 20), np.repeat(np.arange(100), 2), names, {}, {})
    for seed in (0, 1):
        made = make_plan("episodes", labels, seed, {"preset": preset})
        assert isinstance(made, EpisodePlan)
        phases = made.train, made.validation, made.test
        assert tuple(len(phase.classes) for phase in phases) == counts
        for phase, expected in zip(phases[1:], official, strict=True):
            assert {names[label] for label in phase.classes} == set(expected)
        if preset != "miniimagenet":
            assert {names[label] for label in made.train.classes} == set(others)


def test_the_birds_are_held_back_by_their_number() -> None:
    """Chen et al.: of classes from 0, even ones are base; 1 and 3 modulo 4 are validation and novel."""
    names = tuple(f"{number + 1:03}.Bird" for number in range(200))
    labels = Labels(np.repeat(np.arange(200), 20), np.repeat(np.arange(200), 2), names, {}, {})
    made = make_plan("episodes", labels, 3, {"preset": "cub200"})
    assert isinstance(made, EpisodePlan)
    assert made.train.classes == tuple(range(0, 200, 2))
    assert made.validation.classes == tuple(range(1, 200, 4))
    assert made.test.classes == tuple(range(3, 200, 4))
    with pytest.raises(StreamlabError, match="preset cub200 holds back classes that the source does not"):
        plan(preset="cub200")


def test_official_classes_of_another_source_are_refused() -> None:
    with pytest.raises(
        StreamlabError, match=r"preset cifar-fs holds back classes that the source does not have"
    ):
        plan(preset="cifar-fs")
