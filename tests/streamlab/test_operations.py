"""The operations of augmentation and preprocessing: torchvision's pixels for the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from making import make_source, resolved, simulate
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, InterpolationMode, Normalize, ToTensor, autoaugment
from torchvision.transforms import functional as their
from torchvision.transforms import transforms as their_transforms

from streamlab.augmentation import policies
from streamlab.augmentation.geometry import brought, inverse_maps, resized_crop_box, warped
from streamlab.augmentation.operations import (
    OPERATIONS,
    Affine,
    AutoAugment,
    Blur,
    Crop,
    Cutout,
    RandAugment,
    Resize,
    ResizedCrop,
    TrivialAugment,
)
from streamlab.augmentation.pipelines import AugmentConfig
from streamlab.augmentation.views import view
from streamlab.batch import EpisodeBatch
from streamlab.errors import StreamlabError
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.nets.transformer import as_transformer
from streamlab.parts import mixing
from streamlab.preprocess import PreprocessConfig
from streamlab.randomness import hashed
from streamlab.strategies.er import ExperienceReplay

COLOURED = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 3, 24, 32), np.uint8))
NAMES = {
    "identity": "Identity", "shear-x": "ShearX", "shear-y": "ShearY", "translate-x": "TranslateX",
    "translate-y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "colour": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "auto-contrast": "AutoContrast", "equalize": "Equalize", "invert": "Invert",
}  # fmt: skip


def uniforms(count: int, columns: int, name: int = 3) -> Tensor:
    """The numbers that a view of this name takes."""
    return (hashed(name, torch.arange(count * columns)).view(count, columns) >> 39).float() * 2.0**-24


def pictures() -> Tensor:
    """Images with flat parts, few levels, and all levels."""
    smooth = torch.arange(32).mul(7).expand(3, 24, 32).to(torch.uint8)
    flat = torch.full((3, 24, 32), 90, dtype=torch.uint8)
    dark = COLOURED[:20] // 3 + 20
    return torch.cat([COLOURED[:20], dark, smooth[None], flat[None]])


def close(mine: Tensor, theirs: Tensor, about: object) -> None:
    """Equal but for a level of rounding, or the pixels of a hundred that lie on an edge."""
    differs = (mine.int() - theirs.int()).abs() > 1
    assert differs.float().mean() < 0.01, about


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(policies.CHANGES))
def test_a_change_is_torchvisions(name: str, channels: int) -> None:
    images = pictures()[:, :channels]
    for space in (policies.space_of(24, 32), policies.WIDE):
        magnitudes = space.magnitudes(7)[list(policies.CHANGES).index(name)]
        signs = (1, -1) if name in list(policies.CHANGES)[1:10] else (1,)
        if name.startswith("shear"):
            magnitudes = magnitudes * 0.973  # a fifth of a pixel a row puts many pixels between two others
        for amount in [sign * float(magnitude) for magnitude in magnitudes for sign in signs]:
            made = policies.CHANGES[name](images, torch.full((len(images),), amount))
            assert made.dtype == torch.uint8
            for image, mine in zip(images, made, strict=True):
                theirs = autoaugment._apply_op(image, NAMES[name], amount, InterpolationMode.NEAREST, None)
                close(mine, theirs, (name, amount))


def test_magnitudes_are_torchvisions() -> None:
    for bins, mine, theirs in (
        (31, policies.space_of(24, 32), autoaugment.RandAugment()._augmentation_space(31, (24, 32))),
        (10, policies.space_of(24, 32), autoaugment.AutoAugment()._augmentation_space(10, (24, 32))),
        (31, policies.WIDE, autoaugment.TrivialAugmentWide()._augmentation_space(31)),
    ):
        for name, row in zip(policies.CHANGES, mine.magnitudes(bins), strict=True):
            if NAMES[name] in theirs:
                magnitudes, signed = theirs[NAMES[name]]
                torch.testing.assert_close(row, magnitudes.float().expand(bins), atol=1e-4, rtol=0)
                assert signed == bool(policies._SIGNED[list(policies.CHANGES).index(name)]), name


def test_policies_are_torchvisions() -> None:
    for name, theirs in (("cifar-10", "cifar10"), ("imagenet", "imagenet")):
        pairs = autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy(theirs)).policies
        names = list(policies.CHANGES)
        for mine, pair in zip(policies._pairs(name).tolist(), pairs, strict=True):
            assert [
                (NAMES[names[int(number)]], pytest.approx(chance), step) for number, chance, step in mine
            ] == [(change, chance, step or 0) for change, chance, step in pair]


class Told:
    """torch as torchvision's policies ask it, answering with numbers that are known."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randint(self, most: int, size: tuple[int, ...], **_: Any) -> Tensor:
        return torch.tensor([int(self.numbers.pop(0) * most) for _ in range(size[0])])

    def rand(self, size: tuple[int, ...]) -> Tensor:
        return torch.tensor([self.numbers.pop(0) for _ in range(size[0])])


@pytest.mark.parametrize(
    ("operation", "theirs"),
    [
        (RandAugment(), autoaugment.RandAugment()),
        (RandAugment(3, 5, 11), autoaugment.RandAugment(3, 5, 11)),
        (TrivialAugment(), autoaugment.TrivialAugmentWide()),
        (AutoAugment("cifar-10"), autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy("cifar10"))),
        (AutoAugment("imagenet"), autoaugment.AutoAugment()),
    ],
)
def test_a_policy_is_torchvisions_for_the_same_draws(
    operation: Any, theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, drawn = view(COLOURED, (operation,), 3, 0), uniforms(64, operation.draws)
    for image, mine, row in zip(COLOURED, made, drawn.tolist(), strict=True):
        monkeypatch.setattr(autoaugment, "torch", Told(_asked_for(operation, row)))
        close(mine, theirs(image), row)
        monkeypatch.undo()


def _asked_for(operation: Any, row: list[float]) -> list[float]:
    """What torchvision asks for: it draws a direction and a size only where a change has them."""
    if isinstance(operation, AutoAugment):
        return row
    if isinstance(operation, TrivialAugment):
        number = int(row[0] * 14)
        sized = [row[1]] if policies._SIGNED[number] or number in (10, 11) else []
        return [row[0], *sized, *([1 - row[2]] if policies._SIGNED[number] else [])]
    told = []
    for change, direction in zip(row[::2], row[1::2], strict=True):
        told += [change, *([1 - direction] if policies._SIGNED[int(change * 14)] else [])]
    return told


def test_auto_augment_leaves_some_images_as_they_are() -> None:
    """One of them as often as not: those that are changed are changed as ever."""
    images, drawn = COLOURED.repeat(8, 1, 1, 1), uniforms(8 * len(COLOURED), 6)
    operation = AutoAugment("cifar-10", chance=0.5)
    assert operation.draws == 6
    always = AutoAugment("cifar-10").of(images, drawn[:, :5])
    expected = torch.where((drawn[:, 5] < 0.5)[:, None, None, None], always, images)
    assert torch.equal(operation.of(images, drawn), expected)
    assert not torch.equal(expected, always)
    with pytest.raises(StreamlabError, match="auto-augment's chance is 2"):
        AutoAugment(chance=2)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_an_affine_map_is_torchvisions(interpolation: str) -> None:
    columns = uniforms(64, 5) * 2 - 1
    degrees, slants, sizes = 90 * columns[:, 0], 40 * columns[:, 1], 1.2 + 0.5 * columns[:, 2]
    across, down = (10 * columns[:, n].round() for n in (3, 4))
    maps = inverse_maps(torch.deg2rad(degrees), torch.deg2rad(slants), sizes, across, down)
    made = warped(COLOURED, maps, interpolation)
    mode = InterpolationMode(interpolation)
    rows = zip(COLOURED, made, degrees.tolist(), slants.tolist(), sizes.tolist(), across, down, strict=True)
    for image, mine, degree, slant, size, x, y in rows:
        theirs = their.affine(image, degree, [int(x), int(y)], size, [slant, 0.0], mode)
        close(mine, theirs, (degree, slant, size))


def test_moves_are_drawn_as_torchvisions() -> None:
    """Each number in its range, shifts in whole pixels."""
    operation = Affine(rotate=20, shear=10, scale=(0.8, 1.2), shift=0.25)
    made, drawn = view(COLOURED, (operation,), 3, 0), uniforms(64, 5)
    for image, mine, row in zip(COLOURED, made, drawn.tolist(), strict=True):
        degree, slant, size = 20 * (2 * row[0] - 1), 10 * (2 * row[1] - 1), 0.8 + 0.4 * row[2]
        shift = [round((2 * row[3] - 1) * 8), round((2 * row[4] - 1) * 6)]
        theirs = their.affine(image, degree, shift, size, [slant, 0.0], InterpolationMode.BILINEAR)
        close(mine, theirs, row)


def test_a_blur_is_torchvisions_of_the_same_deviation() -> None:
    operation, drawn = Blur(5, (0.3, 2.0), 0.7), uniforms(64, 2)
    made = operation.of(COLOURED, drawn)
    for image, mine, (chance, share) in zip(COLOURED, made, drawn.tolist(), strict=True):
        theirs = their.gaussian_blur(image, [5, 5], [0.3 + 1.7 * share]) if chance < 0.7 else image
        assert int((mine.int() - theirs.int()).abs().max()) <= 1


def test_a_crop_may_be_smaller_than_the_image() -> None:
    made, drawn = view(COLOURED, (Crop(2, 16),), 3, 0), uniforms(64, 2)
    for image, mine, (top, left) in zip(COLOURED, made, drawn.tolist(), strict=True):
        bordered = their.pad(image, [2, 2])
        assert torch.equal(mine, their.crop(bordered, int(top * 13), int(left * 21), 16, 16))


@pytest.mark.parametrize("size", [56, 10, 4])
def test_a_resized_crop_may_be_larger_or_smaller_than_the_image(size: int) -> None:
    operation, drawn = ResizedCrop((0.05, 1.0), size=size), uniforms(64, 40)
    made = view(COLOURED, (operation,), 3, 0)
    boxes = resized_crop_box(operation.scale, operation.ratio, (24, 32), drawn)
    for image, mine, box in zip(COLOURED, made, boxes.tolist(), strict=True):
        theirs = their.resized_crop(image, *box, [size, size], antialias=True)
        assert int((mine.int() - theirs.int()).abs().max()) <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 60), (16, 16)])
def test_a_resize_is_torchvisions(size: tuple[int, int], interpolation: str) -> None:
    theirs = their.resize(COLOURED, list(size), InterpolationMode(interpolation), antialias=True)
    assert int((brought(COLOURED, size, interpolation).int() - theirs.int()).abs().max()) <= 1


@pytest.mark.parametrize("shape", [(300, 200), (60, 90)])
def test_preprocessing_is_the_fields_on_pictures(shape: tuple[int, int]) -> None:
    """Resize 256, centre crop 224, bicubic, a mean and a deviation a channel: on Pillow's pictures, to a level."""
    draws = np.random.default_rng(1)
    coarse = draws.integers(0, 256, (4, 8, 8, 3), np.uint8)
    pixels = [
        np.asarray(Image.fromarray(one).resize(shape[::-1], Image.Resampling.BILINEAR)) for one in coarse
    ]
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs = Compose([
        their_transforms.Resize(256, InterpolationMode.BICUBIC), their_transforms.CenterCrop(224),
        ToTensor(), Normalize(mean, deviation),
    ])  # fmt: skip
    asked = PreprocessConfig(256, 224, "bicubic", mean, deviation)
    asked.check((3, *shape))
    net = build_network(
        {"name": "convnet", "width": 4}, (3, *shape), 5, PixelStatistics(0.1, 0.9), preprocess=asked
    )
    made = net.scaled(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    expected = torch.stack([theirs(Image.fromarray(one)) for one in pixels])
    assert made.shape == (4, 3, 224, 224)
    levels = torch.tensor(deviation)[:, None, None] * 255
    assert float(((made - expected) * levels).abs().max()) < 1.01
    view_of_it = torch.full((1, 3, 224, 224), 255, dtype=torch.uint8)  # what has the network's size stays
    torch.testing.assert_close(
        net.scaled(view_of_it)[0, :, 0, 0], (1 - torch.tensor(mean)) / torch.tensor(deviation)
    )


def test_a_transformer_expects_what_the_recipe_says() -> None:
    options = {
        "name": "vit",
        "patch_size": 4,
        "width": 8,
        "depth": 1,
        "heads": 1,
        "mean": 0.3,
        "deviation": 0.7,
    }
    asked = PreprocessConfig(mean=(0.5,), deviation=(0.25,))
    for preprocess, value in ((None, (1 - 0.3) / 0.7), (asked, (1 - 0.5) / 0.25)):
        net = build_network(options, (1, 8, 8), 3, PixelStatistics(0.1, 0.9), preprocess=preprocess)
        white = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
        shown = as_transformer("vit", net.backbone).adapted(net.scaled(white))
        torch.testing.assert_close(shown, torch.full((1, 1, 8, 8), value))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": {"operations": [{"name": "crop", "size": 40}]}}, "augment: crop's size is 40, and images are 8 x 8 with a border of 4"),
        ({"augment": {"operations": [{"name": "blur", "size": 17}]}}, "augment: blur's size is 17, too wide for images of 8 pixels"),
        ({"augment": {"operations": [{"name": "blur", "size": 4}]}}, "blur's size is 4, and must be odd"),
        ({"augment": {"operations": [{"name": "grey"}]}}, "augment: grey needs colour, and the images are grey"),
        ({"augment": {"operations": [{"name": "jitter", "hue": 0.1}]}}, "jitter's hue needs colour"),
        ({"augment": {"operations": [{"name": "rand-augment", "magnitude": 40}]}}, "magnitude is 40, and must lie in 0..30"),
        ({"augment": {"operations": [{"name": "shear"}]}}, "operation of augment"),
        ({"augment": {"pipeline": "cifer"}}, "did you mean 'cifar'"),
        ({"augment": {"pipeline": "pretrained"}}, "it makes 224 x 224 of images of 8 x 8; say what the network takes"),
        ({"preprocess": {"crop": 10}}, "preprocess: crop is 10, and images are 8 x 8; resize them first"),
        ({"preprocess": {"mean": "0.5,0.5,0.5", "deviation": "1,1,1"}}, "mean has 3 numbers, and images have 1 channels"),
        ({"preprocess": {"mean": "0.5"}}, "mean and deviation go together"),
        ({"preprocess": {"resize": 10, "crop": 8}}, "have the network's size already"),
        ({"augment": {"operations": [{"name": "crop", "size": 4}]}, "preprocess": {"crop": 6}}, "it makes 4 x 4, and the network takes 6 x 6"),
        ({"augment": {"operations": [{"name": "resize"}]}}, "augment resize: size is not given"),
        ({"optimizer": {"label_smoothing": 2}}, "label_smoothing is 2"),
    ],
)  # fmt: skip
def test_what_images_cannot_bear_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(StreamlabError, match=message):
        resolved(make_source(), "er", settings=settings)


def test_colours_are_asked_of_three_channels() -> None:
    asked = AugmentConfig(operations=({"name": "jitter", "hue": 0.1},))
    with pytest.raises(StreamlabError, match="jitter's hue needs colour, and the images have 8 channels"):
        asked.check((8, 16, 16))
    three = PreprocessConfig(mean=(0.5,) * 3, deviation=(0.5,) * 3)
    with pytest.raises(
        StreamlabError, match="mean has 3 numbers, and the backbone takes images of 1 channel"
    ):
        build_network({"name": "glyph-vit"}, (3, 28, 28), 3, PixelStatistics(0.1, 0.9), preprocess=three)


def test_episodes_take_views_of_another_size() -> None:
    from streamlab.augmentation.views import Views

    generator = torch.Generator().manual_seed(0)
    support, query = (
        torch.randint(256, (2, n, 3, 8, 8), generator=generator, dtype=torch.uint8) for n in (3, 4)
    )
    batch = EpisodeBatch(support, torch.zeros(2, 3).long(), query, torch.zeros(2, 4).long(), 3)
    shown = batch.viewed(Views((Resize(size=12),), 0, 0))
    assert shown.support.shape == (2, 3, 3, 12, 12)
    torch.testing.assert_close(shown.query[1, 2], brought(query[1, 2:3], (12, 12), "bilinear")[0])


def test_views_of_another_size_are_learned_from_and_evaluated_beside() -> None:
    """A pipeline that enlarges, and preprocessing that does so too: one network takes both."""
    settings = {
        "augment": {"operations": [{"name": "resized-crop", "size": 12}, {"name": "flip"}]},
        "preprocess": {"resize": 12, "mean": "0.5", "deviation": "0.25"},
        "stream": {"batch_size": 10},
    }
    ran = simulate(make_source(), ExperienceReplay, settings=settings, budget="20ex")
    assert ran.strategy.net.entry.size == (12, 12)
    assert ran.strategy.account.buffers[0].images.shape[1:] == (1, 8, 8)
    assert ran.progress.samples_seen == ran.total_samples


def test_every_operation_is_one_call_on_a_batch_and_takes_the_numbers_that_it_says() -> None:
    for name, kind in OPERATIONS.items():
        operation = kind(size=9) if kind is Resize else kind()
        made = operation.of(COLOURED, torch.rand(64, operation.draws))
        assert made.dtype == torch.uint8, name
        assert made.shape[2:] == operation.check((24, 32)), name
        config = AugmentConfig(operations=({"name": name, **({"size": 9} if kind is Resize else {})},))
        assert config.steps == (operation,)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_is_torchvisions_for_the_same_draws(name: str) -> None:
    from torchvision.transforms import v2

    labels = torch.arange(64) % 7
    theirs = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[name](alpha=0.7, num_classes=7)
    for seed in range(8):
        torch.manual_seed(seed)
        made = getattr(mixing, name)(COLOURED, labels, 0.7)
        torch.manual_seed(seed)
        images, targets = theirs(COLOURED.float(), labels)
        assert float((made.images.float() - images).abs().max()) <= 0.51
        logits = torch.randn(64, 7)
        torch.testing.assert_close(made.loss(logits), torch.nn.functional.cross_entropy(logits, targets))


@pytest.mark.parametrize("size", [16, 7])
def test_cutout_blackens_a_square_around_a_pixel(size: int) -> None:
    """As DeVries and Taylor's code: the middle is any pixel, and the border cuts the square off."""
    drawn = uniforms(64, 2)
    made = Cutout(size).of(COLOURED, drawn)
    for number, (down, across) in enumerate(drawn.tolist()):
        row, column, expected = int(down * 24), int(across * 32), COLOURED[number].clone()
        expected[
            :, max(0, row - size // 2) : row + size // 2, max(0, column - size // 2) : column + size // 2
        ] = 0
        assert torch.equal(made[number], expected)
    with pytest.raises(StreamlabError, match="cutout's size is 1, and must be at least 2"):
        Cutout(1)
