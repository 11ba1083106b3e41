"""Backbones: their sizes are the literature's, and preprocessing is one formula."""

from __future__ import annotations

import pytest
import torch
from authors import close, each, fill, float64, load

from streamlab.errors import StreamlabError
from streamlab.nets.network import Entry, PixelStatistics, build_network

PIXELS = PixelStatistics(0.25, 0.5)


def parameters(shape: tuple[int, int, int], **options: object) -> int:
    network = build_network(options, shape, 10, PIXELS)
    return sum(parameter.numel() for parameter in network.backbone.parameters())


def test_resnet32_has_the_surveys_463504_parameters() -> None:
    assert parameters((3, 32, 32), name="resnet32") == 463_504


def test_resnet18_has_the_literatures_sizes() -> None:
    assert parameters((3, 32, 32), name="resnet18", norm="batch") == 11_168_832
    assert parameters((3, 32, 32), name="resnet18", norm="batch", width=20) == 1_093_140


@pytest.mark.parametrize("name", ["pixels", "mlp", "convnet", "resnet12", "resnet18", "resnet32"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_every_backbone_turns_pixels_into_its_features(name: str, shape: tuple[int, int, int]) -> None:
    width = {"resnet12": {"width": 8}, "resnet18": {"width": 8}, "resnet32": {"width": 8}}.get(name, {})
    network = build_network({"name": name, **width}, shape, 7, PIXELS).eval()
    images = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    assert network.features(images).shape == (3, network.backbone.feature_size)
    assert network(images).shape == (3, 7)


@each("resnet12")
def test_resnet12_is_nc_fscils(file: str) -> None:
    """Features in training and evaluation, and gradients; each of its parameters a sine, as the vector's."""
    z = load(file)
    with float64():
        net = build_network({"name": "resnet12", "width": 8}, (3, 16, 16), 2, PIXELS).double()
    net.entry = Entry((z["scale"],), (z["shift"],))
    theirs = {
        f"{layer}.0.{part}": f"blocks.{number}.{mine}"
        for number, layer in enumerate(("layer1", "layer2", "layer3", "layer4"))
        for part, mine in {
            "conv1.weight": "body.0.weight", "norm1.weight": "body.1.weight", "norm1.bias": "body.1.bias",
            "conv2.weight": "body.3.weight", "norm2.weight": "body.4.weight", "norm2.bias": "body.4.bias",
            "conv3.weight": "body.6.weight", "norm3.weight": "body.7.weight", "norm3.bias": "body.7.bias",
            "downsample.0.weight": "shortcut.0.weight", "downsample.1.weight": "shortcut.1.weight",
            "downsample.1.bias": "shortcut.1.bias",
        }.items()
    }  # fmt: skip
    ours = dict(net.backbone.named_parameters())
    for place, (name, mine) in enumerate(theirs.items()):
        parameter = ours[mine]
        sines = torch.sin(0.7 * torch.arange(parameter.numel(), dtype=torch.float64) + place)
        level = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
        fill(parameter, sines.view(parameter.shape) * parameter[0].numel() ** -0.5 + level)
    with float64():
        features = net.train().features(z["images"])
        close(features, z["features"])
        (features * z["cotangent"]).sum().backward()
        close(ours["blocks.0.body.0.weight"].grad, z["early"])
        close(ours["blocks.3.shortcut.0.weight"].grad[:8, :8], z["late"])
        close(net.eval().features(z["images"]), z["evaluated"])


def test_resnet12_begins_as_its_codes() -> None:
    """Normal, of the deviation that keeps a leaky ReLU's gradients; its published size."""
    torch.manual_seed(0)
    net = build_network({"name": "resnet12"}, (3, 32, 32), 2, PIXELS).backbone
    assert sum(parameter.numel() for parameter in net.parameters()) == 12_424_320
    weight = net.get_parameter("blocks.2.body.3.weight")
    wanted = torch.nn.init.calculate_gain("leaky_relu") / (weight.shape[0] * 9) ** 0.5
    assert abs(float(weight.detach().std()) / wanted - 1) < 0.01
    with pytest.raises(StreamlabError, match="halves images four times, and these are 8 pixels wide"):
        build_network({"name": "resnet12"}, (3, 8, 8), 2, PIXELS)


def test_pixels_are_in_0_to_1_and_others_standardised() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    assert build_network({"name": "pixels"}, (1, 1, 2), 2, PIXELS).features(images).tolist() == [[0, 1]]
    network = build_network({"name": "mlp", "widths": ()}, (1, 1, 2), 2, PIXELS)
    assert network.features(images).tolist() == [[-0.5, 1.5]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "mpl"}, r"unknown backbone 'mpl'; did you mean 'mlp'\? \(streamlab list backbones\)"),
        ({"name": "mlp", "widths": "0"}, "backbone mlp: widths are \\(0,\\), and each must be at least 1"),
        ({"name": "convnet", "blocks": 5}, "use at most 4 blocks"),
        ({"name": "resnet12", "width": 7}, "width is 7, and must be even"),
        ({"name": "convnet", "pooling": "max"}, "pooling is 'max', and should be 'none' or 'mean'"),
        ({"name": "convnet", "norm": "layer"}, "norm is 'layer', and should be 'group' or 'batch'"),
    ],
)
def test_refusals(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(StreamlabError, match=sentence):
        build_network(options, (1, 28, 28), 10, PIXELS)
