"""Whole pictures: parts are cut from all of a picture, whatever its shape; what is kept is its middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

import streamlab
from streamlab.augmentation.geometry import resized_crop_box
from streamlab.augmentation.operations import Crop, Flip, ResizedCrop
from streamlab.augmentation.views import Views, view
from streamlab.batch import Batch, EpisodeBatch
from streamlab.data import pictures as module
from streamlab.data.load import load_source
from streamlab.data.reading import Rule, pixels
from streamlab.data.source import Source, open_shared, share
from streamlab.data.split import Split
from streamlab.errors import StreamlabError
from streamlab.simulator.view import View

SIZES = [(24, 60), (50, 30), (33, 33), (28, 90), (70, 24)]
CUT = {"augment": {"operations": [{"name": "resized-crop", "scale": [0.05, 1.0]}, {"name": "flip"}]}}

EPISODES = {
    "train_classes": 2, "validation_classes": 0, "test_classes": 2, "way": 2, "shot": 1, "query": 2, "episodes": 40,
    "validation_episodes": 0, "test_episodes": 30, "keep": "last",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Four classes of pictures of every shape, whose left and right ends differ from their middles."""
    draws = np.random.default_rng(0)
    for label, name in enumerate(("ash", "elm", "oak", "yew")):
        for split, count in (("train", 10), ("test", 3)):
            (tmp_path / "trees" / split / name).mkdir(parents=True)
            for number in range(count):
                size = SIZES[number % len(SIZES)]
                levels = draws.integers(0, 80, (*size, 3)) + 2 * label
                picture = Image.fromarray(levels.astype(np.uint8))
                picture.save(tmp_path / "trees" / split / name / f"{number}.png")
    return tmp_path / "trees"


def source_of(folder: Path, rule: str = "@20,16,whole") -> Source:
    return load_source(f"folder:{folder}{rule}")


def pictures(count: int = 5) -> list[Tensor]:
    draws = torch.Generator().manual_seed(3)
    return [
        torch.randint(0, 256, (3, *SIZES[n % 5]), generator=draws, dtype=torch.uint8) for n in range(count)
    ]


def test_a_rule_keeps_the_whole_picture_beside_its_middle(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    picture = Image.fromarray(draws.integers(0, 256, (30, 75, 3)).astype(np.uint8))
    picture.save(tmp_path / "wide.png")
    rule = Rule.read("20,16,bicubic,whole", "here")
    made = pixels(tmp_path / "wide.png", rule, grey=False)
    theirs = v2.Resize(20, v2.InterpolationMode.BICUBIC)(picture)
    np.testing.assert_array_equal(made.whole.transpose(1, 2, 0), np.asarray(theirs))
    np.testing.assert_array_equal(made.middle.transpose(1, 2, 0), np.asarray(v2.CenterCrop(16)(theirs)))
    assert str(rule) == "@20,16,bicubic,whole"
    with pytest.raises(StreamlabError, match="stretched have no part beyond; leave out whole"):
        Rule.read("20x20,whole", "here")


def test_a_part_of_a_whole_is_torchvisions_resized_crop() -> None:
    """By the same box, with antialias, to within one level; boxes reach what lies beyond the middle."""
    operation, wholes = ResizedCrop(scale=(0.05, 1.0), size=16), pictures()
    uniforms = torch.rand(5, 40, generator=torch.Generator().manual_seed(0))
    made = operation.of_wholes(wholes, uniforms, (16, 16))
    beyond = 0
    for number, whole in enumerate(wholes):
        top, left, high, wide = resized_crop_box(
            operation.scale, operation.ratio, whole.shape[1:], uniforms[number : number + 1]
        )[0].tolist()
        theirs = v2.functional.resized_crop(whole, top, left, high, wide, [16, 16], antialias=True)
        assert (made[number].int() - theirs.int()).abs().max() <= 1
        middle = (max(whole.shape[1:]) - min(whole.shape[1:])) // 2
        beyond += (left if whole.shape[2] > whole.shape[1] else top) < middle
    assert beyond


def test_a_crop_of_a_whole_lies_anywhere_in_it() -> None:
    """Each of its places is as likely; a border is black; what is cut is the picture's own pixels."""
    whole = torch.arange(1, 21, dtype=torch.uint8).expand(3, 4, 20).contiguous()
    uniforms = (torch.arange(170) / 170).repeat(2, 1).T.contiguous()
    made = Crop(size=4, padding=0).of_wholes([whole] * 170, uniforms, (4, 4))
    assert made[:, 0, 0, 0].tolist() == [1 + n // 10 for n in range(170)]
    assert torch.equal(made[:, :, 0] - made[:, :, :1, 0], torch.arange(4).expand(170, 3, 4).to(torch.uint8))
    bordered = Crop(padding=2).of_wholes([whole], torch.zeros(1, 2), (4, 4))
    assert bordered[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 1, 2]]


def test_a_view_of_a_whole_depends_on_nothing_beside_it() -> None:
    wholes = pictures(6)
    images = torch.stack([whole[:, :16, :16] for whole in wholes])
    operations = (ResizedCrop(size=16), Flip())
    together = view(images, operations, 7, 10, tuple(wholes))
    for number in range(6):
        alone = view(images[number : number + 1], operations, 7, 10 + number, (wholes[number],))
        assert torch.equal(alone[0], together[number])
    assert not torch.equal(together, view(images, operations, 7, 10))


def test_a_joined_batch_has_views_of_wholes_and_of_images_that_are_all() -> None:
    wholes = pictures(3)
    images = torch.stack([whole[:, :16, :16] for whole in wholes])
    views = Views((ResizedCrop(size=16),), 0, "test")
    labels = torch.arange(3)
    fresh, kept = Batch(images, labels, wholes=tuple(wholes), views=views), Batch(images, labels, views=views)
    shown = fresh.joined(kept).at(torch.tensor([1, 4])).view()
    expected = view(images[[1, 1]], views.operations, views.name, 0, (wholes[1], None))
    assert torch.equal(shown, expected)
    assert torch.equal(expected[1:], view(images[1:2], views.operations, views.name, 1, (images[1],)))
    other = Views((ResizedCrop(size=16),), 0, "test")
    ahead = other.of(images[:1]), other.of(images[1:2], (wholes[1],))
    episodes = EpisodeBatch(images[None, :1], labels[None, :1], images[None, 1:2], labels[None, 1:2], 1,
                            (None, (wholes[1],)))  # fmt: skip
    seen = episodes.viewed(Views((ResizedCrop(size=16),), 0, "test"))
    assert torch.equal(seen.support[0], ahead[0])
    assert torch.equal(seen.query[0], ahead[1])


def test_wholes_come_through_the_cache_and_to_workers(photographs: Path) -> None:
    source = source_of(photographs)
    plain = source_of(photographs, "@20,16")
    assert source.wholes is not None
    assert plain.wholes is None
    np.testing.assert_array_equal(source.train_images, plain.train_images)
    assert source.digest != plain.digest
    files = sorted((photographs / "train").rglob("*.png")) + sorted((photographs / "test").rglob("*.png"))
    rule = Rule.read("20,16,whole", "here")
    shared = open_shared(share(source))
    split = Split(torch.tensor(source.train_images), torch.tensor(source.train_labels), (), shared.wholes)
    asked = torch.tensor([0, 39, 4])
    split.ahead(asked)
    for row, found in zip(asked.tolist(), split.wholes_at(asked) or (), strict=True):
        assert found is not None
        np.testing.assert_array_equal(found.numpy(), pixels(files[row], rule, grey=False).whole)
    assert shared.wholes is not None
    last = pixels(files[-1], rule, grey=False).whole
    np.testing.assert_array_equal(shared.wholes.pixels(len(files) - 1), last)  # episodes take both splits
    carved = load_source(f"validation:folder:{photographs}@20,16,whole")
    assert carved.wholes is not None
    for row in range(len(carved.train_labels)):
        whole = torch.from_numpy(carved.wholes.pixels(row))
        middle = v2.CenterCrop(16)(whole).numpy()
        np.testing.assert_array_equal(middle, carved.train_images[row])


def test_what_lies_beyond_the_middle_is_part_of_the_digest(photographs: Path) -> None:
    digest = source_of(photographs).digest
    file = photographs / "train" / "ash" / "3.png"  # 28 x 90
    picture = Image.open(file)
    changed = picture.copy()
    changed.paste("white", (0, 0, 6, 28))
    changed.save(file)
    assert source_of(photographs).digest != digest
    np.testing.assert_array_equal(
        source_of(photographs, "@20,16").train_images, source_of(photographs).train_images
    )


def test_an_experiences_epochs_are_parts_of_wholes(photographs: Path) -> None:
    source = source_of(photographs)
    labels = torch.tensor(source.train_labels)
    shown = []
    for wholes in (source.wholes, None):
        split = Split(torch.tensor(source.train_images), labels, (), wholes)
        views = Views((ResizedCrop(),), 0, "test")
        view_of = View(0, (0, 1, 2, 3), torch.arange(len(labels)), split, 0, views=views)
        shown.append(torch.cat([batch.images for batch in view_of.batches(2, 16)]))
    assert shown[0].shape == shown[1].shape
    assert not torch.equal(*shown)


def test_a_decoding_of_wholes_that_was_cut_goes_on(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 4)
    digest, left = source_of(photographs).digest, [17]
    monkeypatch.setenv("XDG_CACHE_HOME", str(photographs.parent / "another"))

    def cut(path: Path, rule: Rule, grey: bool) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return pixels(path, rule, grey)

    monkeypatch.setattr(module, "pixels", cut)
    with pytest.raises(KeyboardInterrupt):
        source_of(photographs)
    monkeypatch.setattr(module, "pixels", pixels)
    assert source_of(photographs).digest == digest


def run_of(folder: Path, name: str, strategies: list[str], rule: str, out: Path, **settings: Any) -> Any:
    return streamlab.run(
        name, f"folder:{folder}{rule}", strategies, seeds=1, workers=0, out=out, show=False,
        settings={"backbone": {"name": "convnet", "width": 8}, **CUT, **settings},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scenario", "options", "strategies"),
    [
        ("class-incremental", {"tasks": 2}, ["er", "finetune", "joint"]),
        ("class-incremental", {"tasks": 2, "kind": "sessions"}, ["icarl", "slda"]),
        ("fscil", {"base_classes": 2, "sessions": 2, "way": 1, "shot": 2}, ["teen"]),
        ("episodes", EPISODES, ["protonet"]),
    ],
)
def test_runs_learn_from_parts_of_wholes(
    photographs: Path, tmp_path: Path, scenario: str, options: dict[str, Any], strategies: list[str]
) -> None:
    """They end otherwise than on the middles alone where they learn from views, and twice the same."""
    base = {"base": {"epochs": 2, "batch_size": 10}} if scenario == "fscil" else {}
    ended = [
        [run.metrics for run in made.runs]
        for made in (
            run_of(
                photographs, scenario, strategies, rule, tmp_path / f"run-{number}", scenario=options, **base
            )
            for number, rule in enumerate(("@20,16,whole", "@20,16,whole", "@20,16"))
        )
    ]
    assert ended[0] == ended[1]
    assert ended[0] != ended[2]


@pytest.mark.parametrize(
    ("settings", "scenario", "said"),
    [
        ({"augment": {}}, "class-incremental", "only an augmentation that begins with resized-crop"),
        (
            {"augment": {"operations": [{"name": "flip"}, {"name": "crop"}]}},
            "class-incremental",
            "or leave out whole",
        ),
        ({"scenario": {"tasks": 2}}, "permuted", "permuted transforms images, and no whole pictures"),
    ],
)
def test_wholes_of_which_no_part_would_be_cut_are_refused(
    photographs: Path, tmp_path: Path, settings: dict[str, Any], scenario: str, said: str
) -> None:
    with pytest.raises(StreamlabError, match=said):
        run_of(photographs, scenario, ["er"], "@20,16,whole", tmp_path / "run", **settings)


def test_joined_sources_have_no_wholes(photographs: Path) -> None:
    with pytest.raises(StreamlabError, match="joined sources do not; leave out whole"):
        load_source(f"glyphs-100+folder:{photographs}@20,16,whole")
