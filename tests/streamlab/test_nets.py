"""Backbones: their sizes are the literature's, and preprocessing is one formula."""

from __future__ import annotations

import pytest
import torch

from streamlab.errors import StreamlabError
from streamlab.nets.network import PixelStatistics, build_network

PIXELS = PixelStatistics(0.25, 0.5)


def parameters(shape: tuple[int, int, int], **options: object) -> int:
    network = build_network(options, shape, 10, PIXELS)
    return sum(parameter.numel() for parameter in network.backbone.parameters())


def test_resnet32_has_the_surveys_463504_parameters() -> None:
    assert parameters((3, 32, 32), name="resnet32") == 463_504


def test_resnet18_has_the_literatures_sizes() -> None:
    assert parameters((3, 32, 32), name="resnet18", norm="batch") == 11_168_832
    assert parameters((3, 32, 32), name="resnet18", norm="batch", width=20) == 1_093_140


@pytest.mark.parametrize("name", ["pixels", "mlp", "convnet", "resnet18", "resnet32"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_every_backbone_turns_pixels_into_its_features(name: str, shape: tuple[int, int, int]) -> None:
    width = {"resnet18": {"width": 8}, "resnet32": {"width": 8}}.get(name, {})
    network = build_network({"name": name, **width}, shape, 7, PIXELS).eval()
    images = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    assert network.features(images).shape == (3, network.backbone.feature_size)
    assert network(images).shape == (3, 7)


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
        ({"name": "convnet", "pooling": "max"}, "pooling is 'max', and should be 'none' or 'mean'"),
        ({"name": "convnet", "norm": "layer"}, "norm is 'layer', and should be 'group' or 'batch'"),
    ],
)
def test_refusals(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(StreamlabError, match=sentence):
        build_network(options, (1, 28, 28), 10, PIXELS)
