"""Augmentation belongs to the stream: torchvision's pixels, an image's own draws, originals in buffers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from making import broken_off, carry_on, make_source, resolved, simulate
from torch import Tensor
from torchvision.transforms import functional as their
from torchvision.transforms.v2 import functional as their_v2

from streamlab import plugins
from streamlab.augmentation.colour import blended, turned
from streamlab.augmentation.geometry import (
    erasing_box,
    parts_resized,
    resized,
    resized_by_matrices,
    resized_crop_box,
)
from streamlab.augmentation.operations import Crop, Erasing, Flip, Grey, Jitter, ResizedCrop
from streamlab.augmentation.pipelines import CROP_FLIP, AugmentConfig
from streamlab.augmentation.views import Views, view
from streamlab.batch import Batch
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.randomness import hashed, key
from streamlab.runs.folder import RunFolder
from streamlab.strategy import Strategy

COLOURED = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), np.uint8))


def uniforms(count: int, columns: int, name: int = 3, first: int = 0) -> Tensor:
    counters = torch.arange(first * columns, (first + count) * columns)
    return (hashed(name, counters).view(count, columns) >> 39).float() * 2.0**-24


@settings(max_examples=30, deadline=None)
@given(
    first=st.integers(0, 2**40),
    cut=st.integers(1, 63),
    pipeline=st.sampled_from(plugins.names("augmentations")),
)
def test_a_view_depends_on_its_name_and_number_alone(first: int, cut: int, pipeline: str) -> None:
    operations = AugmentConfig(pipeline).steps
    whole = view(COLOURED, operations, 7, first)
    parts = [view(COLOURED[:cut], operations, 7, first), view(COLOURED[cut:], operations, 7, first + cut)]
    assert torch.equal(whole, torch.cat(parts))
    assert whole.dtype == torch.uint8
    assert whole.shape == (64, 3, *AugmentConfig(pipeline).check((3, 32, 32)))
    if operations:
        for other in (view(COLOURED, operations, 8, first), view(COLOURED, operations, 7, first + 64)):
            assert not torch.equal(whole, other)
    else:
        assert whole is COLOURED


def test_views_are_new_each_time_they_are_asked_for() -> None:
    views = Views(CROP_FLIP, 0, "test")
    first, second = views.of(COLOURED), views.of(COLOURED)
    assert not torch.equal(first, second)
    assert torch.equal(second, view(COLOURED, CROP_FLIP, key(0, "test"), 64))


def test_originals_that_are_joined_can_still_be_viewed() -> None:
    views = Views(CROP_FLIP, 0, "test")
    one, other = (
        Batch(COLOURED[rows], torch.zeros(8).long(), views=views) for rows in (slice(8), slice(8, 16))
    )
    joined = one.joined(other)
    assert torch.equal(joined.originals, COLOURED[:16])
    assert not torch.equal(joined.view(), COLOURED[:16])
    assert torch.equal(joined.in_view().originals, COLOURED[:16])


def test_draws_are_uniform_and_do_not_follow_one_another() -> None:
    drawn = uniforms(20_000, 3).double()
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
    torch.testing.assert_close(drawn.mean(0), torch.full((3,), 0.5).double(), atol=0.01, rtol=0)
    together = torch.corrcoef(torch.cat([drawn[:-1].T, drawn[1:].T]))
    assert float((together - torch.eye(6)).abs().max()) < 0.03


def test_a_crop_is_torchvisions_at_the_same_place() -> None:
    made, drawn = view(COLOURED, (Crop(4),), 3, 0), uniforms(64, 2)
    places = (drawn * 9).long().tolist()
    for image, mine, (top, left) in zip(COLOURED, made, places, strict=True):
        assert torch.equal(mine, their.crop(their.pad(image, [4, 4]), top, left, 32, 32))
    counts = np.bincount((uniforms(9000, 2) * 9).long().flatten().numpy(), minlength=9)
    assert counts.min() > 1800  # every place is as likely as another


def test_a_flip_is_of_half_of_the_images() -> None:
    made = view(COLOURED, (Flip(),), 3, 0)
    turned = uniforms(64, 1)[:, 0] < 0.5
    for image, mine, flipped in zip(COLOURED, made, turned.tolist(), strict=True):
        assert torch.equal(mine, their.hflip(image) if flipped else image)
    assert 20 < int(turned.sum()) < 44


@pytest.mark.parametrize("size", [(32, 32), (20, 40)])
def test_a_resized_crop_is_torchvisions_of_the_same_box(size: tuple[int, int]) -> None:
    images = COLOURED[:, :, : size[0]].repeat(1, 1, 1, 2)[..., : size[1]]
    boxes = resized_crop_box(ResizedCrop.scale, ResizedCrop.ratio, size, uniforms(64, 40))
    made, elsewhere = resized(images, boxes), resized_by_matrices(images, boxes, size)
    for number, (image, (top, left, high, wide)) in enumerate(zip(images, boxes.tolist(), strict=True)):
        theirs = their.resized_crop(image, top, left, high, wide, list(size), antialias=True)
        assert int((made[number].int() - theirs.int()).abs().max()) <= 1
        assert int((elsewhere[number].int() - theirs.int()).abs().max()) <= 1
        assert top >= 0
        assert left >= 0
        assert top + high <= size[0]
        assert left + wide <= size[1]


@pytest.mark.parametrize("size", [(7, 50), (64, 9), (224, 224)])
def test_other_devices_resize_as_a_cpu_does(size: tuple[int, int]) -> None:
    """By matrices and by torch's kernel, to within one level, whether sides grow or shrink."""
    boxes = resized_crop_box((0.05, 1.0), ResizedCrop.ratio, COLOURED.shape[2:], uniforms(64, 40))
    made = parts_resized(COLOURED, boxes.tolist(), size).int()
    assert int((resized_by_matrices(COLOURED, boxes, size).int() - made).abs().max()) <= 1


def test_boxes_are_drawn_as_torchvisions() -> None:
    """The same share of area and the same ratios, in distribution; what fits nowhere is cut in the middle."""
    operation = ResizedCrop((0.05, 1.0))
    boxes = resized_crop_box(operation.scale, operation.ratio, (64, 64), uniforms(4000, 40)).double()
    torch.manual_seed(0)
    from torchvision.transforms import RandomResizedCrop

    image = torch.zeros(3, 64, 64)
    params = [RandomResizedCrop.get_params(image, [0.05, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    theirs = torch.tensor(params).double()
    for moment in (1, 2):
        torch.testing.assert_close(
            (boxes**moment).mean(0), (theirs**moment).mean(0), rtol=0.05 * moment, atol=0.5
        )
    long = resized_crop_box((1.0, 1.0), ResizedCrop.ratio, (10, 100), uniforms(8, 40))
    assert long.tolist() == [[0, 43, 10, 13]] * 8


@pytest.mark.parametrize(
    ("change", "channels"),
    [("brightness", 1), ("brightness", 3), ("contrast", 1), ("contrast", 3), ("saturation", 3)],
)
def test_colours_change_as_torchvisions(change: str, channels: int) -> None:
    factors = torch.linspace(0, 2.5, 64)
    made = blended(COLOURED[:, :channels], change, factors)
    for image, mine, factor in zip(COLOURED[:, :channels], made, factors.tolist(), strict=True):
        theirs = getattr(their_v2, f"adjust_{change}")(image, factor)
        assert int((mine.int() - theirs.int()).abs().max()) <= 1, factor
        assert (mine != theirs).float().mean() < 0.02, factor


def test_a_hue_is_turned_as_torchvisions() -> None:
    turns = torch.linspace(-0.5, 0.5, 64)
    made = turned(COLOURED, turns)
    for image, mine, turn in zip(COLOURED, made, turns.tolist(), strict=True):
        theirs = their_v2.adjust_hue(image, turn)
        assert int((mine.int() - theirs.int()).abs().max()) <= 1, turn
    grey = torch.full((1, 3, 2, 2), 90, dtype=torch.uint8)
    assert torch.equal(turned(grey, torch.tensor([0.3])), grey)
    drawn = uniforms(64, 9)
    assert torch.equal(view(COLOURED, (Jitter(hue=0.2),), 3, 0), turned(COLOURED, 0.4 * drawn[:, 0] - 0.2))


def test_what_is_erased_is_drawn_as_torchvisions() -> None:
    """Some images whole, the others but for one box; boxes of the same share and ratio in distribution."""
    from torchvision.transforms import RandomErasing

    made = view(COLOURED, (Erasing(level=7),), 3, 0)
    boxes = erasing_box(Erasing.scale, Erasing.ratio, (32, 32), uniforms(64, 41)[:, 1:])
    erased = uniforms(64, 41)[:, 0] < 0.5
    for image, mine, box, is_erased in zip(COLOURED, made, boxes.tolist(), erased.tolist(), strict=True):
        theirs = their.erase(image, *box, torch.tensor(7, dtype=torch.uint8)) if is_erased else image
        assert torch.equal(mine, theirs)
    torch.manual_seed(0)
    image = torch.zeros(3, 64, 64)
    params = [RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(4000)]
    ours, theirs = (
        erasing_box(Erasing.scale, Erasing.ratio, (64, 64), uniforms(4000, 40)).double(),
        torch.tensor(params).double(),
    )
    for moment in (1, 2):
        torch.testing.assert_close((ours**moment).mean(0), (theirs**moment).mean(0), rtol=0.07, atol=0.5)


def test_a_jitter_takes_its_changes_in_a_drawn_order_and_grey_is_luminance() -> None:
    jitter, drawn = Jitter(0.4, 0.4, 0.4), uniforms(64, 9)
    made, names = view(COLOURED, (jitter,), 3, 0), ("brightness", "contrast", "saturation")
    orders = set()
    for row, (image, mine) in enumerate(zip(COLOURED, made, strict=True)):
        order = drawn[row, 4:7].argsort().tolist()
        orders.add(tuple(order))
        for number in order:
            factor = 0.6 + 0.8 * drawn[row, number]
            image = blended(image[None], names[number], factor[None])[0]
        assert torch.equal(mine, image)
    assert len(orders) == 6
    grey = view(COLOURED, (Grey(1.0),), 3, 0)
    theirs = their.rgb_to_grayscale(COLOURED, 3)
    assert int((grey.int() - theirs.int()).abs().max()) <= 1


class Looks(Strategy):
    """Keeps all that it is shown, and offers it to a buffer."""

    backbone: ClassVar[dict[str, Any]] = {"name": "mlp", "widths": "8"}

    def setup(self) -> None:
        self.buffer = self.make_buffer()
        self.shown: list[Batch] = []
        self.again: list[Tensor] = []
        self.remembered: list[Batch] = []

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.shown.append(batch)
        self.again.append(batch.view())
        drawn = self.buffer.draw(4)
        self.shown.append(batch.joined(drawn))
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}

    def remember(self, batch: Batch) -> None:
        self.remembered.append(batch)
        self.buffer.add(batch)


def looked(source: Source, pipeline: str, **stream: Any) -> Looks:
    settings = {"stream": {"batch_size": 10, **stream}, "augment": {"pipeline": pipeline}}
    strategy = simulate(source, Looks, settings=settings, budget="30ex").strategy
    assert isinstance(strategy, Looks)
    return strategy


def among(images: Tensor, source: Source) -> bool:
    there = {image.tobytes() for image in source.train_images}
    return all(image.numpy().tobytes() in there for image in images)


def test_a_strategy_learns_from_views_and_a_buffer_keeps_what_lies(tiny: Source) -> None:
    seen = looked(tiny, "crop-flip", updates_per_batch=2)
    plain = looked(tiny, "none", updates_per_batch=2)
    assert among(seen.buffer.everything().images, tiny)
    assert torch.equal(seen.buffer.images, plain.buffer.images)
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(seen.shown, plain.shown, strict=True))
    for batch, lying in zip(seen.shown, plain.shown, strict=True):
        assert torch.equal(batch.originals, lying.images)
        assert not torch.equal(batch.images, batch.originals)
    first, second = seen.shown[0], seen.shown[2]  # the two updates of one batch
    assert torch.equal(first.originals, second.originals)
    assert not torch.equal(first.images, second.images)
    assert not torch.equal(first.images, seen.again[0])
    replayed = defaultdict(set)
    for batch in seen.shown[1::2]:
        for image, lying in zip(batch.images[10:], batch.originals[10:], strict=True):
            replayed[lying.numpy().tobytes()].add(image.numpy().tobytes())
    assert max(map(len, replayed.values())) > 3, "an exemplar is augmented anew each time"


def test_a_sample_is_offered_once_however_often_it_is_learned(tiny: Source) -> None:
    settings = {
        "stream": {"epochs": 3},
        "augment": {"pipeline": "crop-flip"},
        "scenario": {"kind": "sessions"},
    }
    strategy = simulate(tiny, Looks, scenario="class-incremental", settings=settings).strategy
    assert isinstance(strategy, Looks)
    assert sum(map(len, strategy.remembered)) == len(tiny.train_labels)
    assert sum(map(len, strategy.shown[::2])) == 3 * len(tiny.train_labels)
    assert among(torch.cat([batch.originals for batch in strategy.remembered]), tiny)


def test_without_augmentation_everything_is_as_it_lies(tiny: Source) -> None:
    seen = looked(tiny, "none")
    assert all(batch.originals is batch.images for batch in seen.shown)
    assert among(torch.cat([batch.images for batch in seen.shown]), tiny)


@pytest.mark.parametrize("name", ["gdumb:passes=3", "gem:margin=0.1", "foster:compression_epochs=1"])
def test_who_learns_from_held_samples_learns_from_views(
    tiny: Source, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last images that each network was taught, which are no sample's own."""
    taught: list[Tensor] = []
    make = Views.of

    def noted(views: Views, images: Tensor, wholes: Any = None) -> Tensor:
        made = make(views, images, wholes)
        taught.append(made)
        return made

    monkeypatch.setattr(Views, "of", noted)
    scenario = {"kind": "sessions", "tasks": 2}
    given = {"scenario": scenario, "augment": {"pipeline": "crop-flip"}, "stream": {"batch_size": 32}}
    simulate(tiny, name, scenario="class-incremental", settings=given, budget="30ex")
    assert taught
    assert not among(torch.cat(taught), tiny)


def test_killed_and_resumed_views_are_the_same(
    tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr("streamlab.simulator.simulation.patience", lambda cost=0.0: 0.0)
    own = {"augment": {"operations": [{"name": "crop", "padding": 1}, {"name": "jitter", "contrast": 0.5}]}}
    request = {"settings": {**own, "stream": {"updates_per_batch": 2}}, "budget": "20ex"}
    grid = resolved(tiny, "der++", **request)
    (cell,) = grid.cells
    assert carry_on(grid, tmp_path / "whole")
    broken_off(grid, tmp_path / "cut", after=9)
    assert carry_on(grid, tmp_path / "cut")
    whole, cut = (RunFolder(tmp_path / name / cell.folder) for name in ("whole", "cut"))
    for path in sorted((whole.path / "evaluations").iterdir()):
        assert path.read_bytes() == (cut.path / "evaluations" / path.name).read_bytes(), path.name


def test_training_episodes_are_views_and_tests_are_not(tiny: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(classes=20, train=12, test=4)
    counts = defaultdict(int)
    make = Views.of

    def noted(views: Views, images: Tensor, wholes: Any = None) -> Tensor:
        counts["viewed"] += len(images)
        return make(views, images, wholes)

    monkeypatch.setattr(Views, "of", noted)
    scenario = {"way": 3, "shot": 1, "query": 2, "episodes": 5, "validation_episodes": 4, "test_episodes": 4}
    backbone = {"name": "convnet", "width": 8, "blocks": 2}
    given = {"scenario": scenario, "augment": {"pipeline": "crop-flip"}, "backbone": backbone}
    simulate(source, "protonet", scenario="episodes", settings=given)
    assert counts["viewed"] == 5 * 3 * (1 + 2)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"pipeline": "ciphar"}, "unknown augmentation 'ciphar'; did you mean 'cifar'?"),
        ({"pipeline": "cifar", "operations": [{"name": "flip"}]}, "it has a pipeline and operations; give one of them"),
        ({"operations": [{"name": "flop"}]}, "unknown operation of augment 'flop'; did you mean 'flip'?"),
        ({"operations": [{"name": "crop", "pading": 3}]}, "unknown option of augment crop 'pading'; did you mean 'padding'?"),
        ({"operations": [{"name": "crop", "padding": 0}]}, "augment: crop's padding is 0"),
        ({"operations": [{"name": "flip", "chance": 2}]}, "augment: flip's chance is 2"),
        ({"operations": [{"name": "resized-crop", "scale": [0.5, 0.1]}]}, "augment: resized-crop's scale is 0.5, 0.1; give two, in order"),
        ({"operations": [{"name": "grey"}]}, "augment: grey needs colour, and the images are grey"),
        ({"operations": [{"name": "jitter", "saturation": 0.2}]}, "augment: jitter's saturation needs colour"),
        ({"operations": [{"name": "jitter", "hue": 0.2}]}, "augment: jitter's hue needs colour"),
        ({"operations": [{"name": "jitter", "hue": 0.7}]}, "augment: jitter's hue is 0.7"),
        ({"operations": [{"name": "erasing", "level": 300}]}, "augment: erasing's level is 300"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tiny: Source, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StreamlabError) as refused:
        resolved(tiny, "finetune", settings={"augment": given})
    assert sentence in str(refused.value)


def test_a_base_session_is_augmented_and_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks of one seed: one of plain images, one of views; each is found again by its own key."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = make_source(classes=8, train=20, test=4)
    scenario = {"base_classes": 4, "sessions": 2, "way": 2, "shot": 2}
    base = {"epochs": 2, "rotate": 0, "shear": 0, "scale": (1.0, 1.0), "shift": 0}
    weights = []
    for name in ("none", "crop-flip", "none", "crop-flip"):
        given = {"scenario": scenario, "base": base, "augment": {"pipeline": name}}
        made = simulate(source, "teen", scenario="fscil", settings=given).strategy
        weights.append(torch.cat([p.flatten() for p in made.net.backbone.parameters()]))
    assert torch.equal(weights[0], weights[2])
    assert torch.equal(weights[1], weights[3])
    assert not torch.equal(weights[0], weights[1])
    assert len(list((tmp_path / "streamlab" / "base").iterdir())) == 2
