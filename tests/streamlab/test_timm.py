"""timm's models as backbones: their features, their weights by any name, what learns, and what is kept of them."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from making import make_source
from safetensors.torch import load_file, save_file
from torch import nn

import streamlab
from streamlab import plugins
from streamlab.errors import CorruptFile, StreamlabError
from streamlab.experiments.rows import parse_backbone
from streamlab.nets.convert import convert
from streamlab.nets.network import Network, PixelStatistics, build_network
from streamlab.nets.timm_model import learning
from streamlab.nets.transformer import PromptedTransformer
from streamlab.preprocess import PreprocessConfig
from streamlab.randomness import global_randomness
from streamlab.runs.checkpoints import load_checkpoint
from streamlab.simulator import events

# Of each family the smallest; the size is the least that it takes.
MODELS = {
    "resnet10t.c3_in1k": 32,
    "vit_tiny_patch16_224.augreg_in21k": 32,
    "deit_tiny_patch16_224.fb_in1k": 32,
    "convnext_atto.d2_in1k": 32,
    "tf_efficientnet_lite0.in1k": 32,
    "mobilenetv3_small_050.lamb_in1k": 32,
}
TINY = "resnet10t.c3_in1k"


def network(name: str, shape: tuple[int, int, int] = (3, 40, 40), **options: Any) -> Network:
    given = {"name": f"timm:{name}", "weights": "random", **options}
    preprocess = given.pop("preprocess", None)
    with global_randomness(0, "test"):
        return build_network(given, shape, 5, PixelStatistics(0.5, 0.25), preprocess=preprocess)


def test_a_resnet_is_cut_before_its_last_stage() -> None:
    net = network("resnet10t.c3_in1k", size=64, train="all").eval()
    general, special = net.backbone.split()
    images = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        early = general(images)
        assert early.shape[2] == 4  # a sixteenth of 64 pixels
        assert torch.equal(special(early), net.backbone(images))
    with pytest.raises(StreamlabError, match=r"not cut into .* and ResNets are, timm's too"):
        network("convnext_atto.d2_in1k", size=32).backbone.split()


@pytest.mark.parametrize("name", MODELS)
def test_features_are_timms(name: str) -> None:
    """Resized by the weights' own rule and normalised by their own numbers."""
    net = network(name, size=MODELS[name]).eval()
    images = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8)
    about = timm.get_pretrained_cfg(name)
    resized = F.interpolate(images / 255, (MODELS[name],) * 2, mode=about.interpolation, antialias=True)
    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in (about.mean, about.std))
    with torch.no_grad():
        features = net.features(images)
        expected = net.backbone.get_submodule("model")((resized - mean) / deviation)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert features.shape == (3, net.backbone.feature_size)
    assert isinstance(net.backbone, PromptedTransformer) == name.startswith(("vit", "deit"))
    assert not any(parameter.requires_grad for parameter in net.backbone.parameters())


def test_a_tag_has_a_normalisation_of_its_own_and_can_be_overridden() -> None:
    one, other = (network(f"vit_tiny_patch16_224.{tag}") for tag in ("augreg_in21k", "augreg_in21k_ft_in1k"))
    assert one.backbone.mean.flatten().tolist() == [0.5] * 3 == other.backbone.mean.flatten().tolist()
    resnet = network(TINY)
    assert resnet.backbone.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    plain = network(TINY, preprocess=PreprocessConfig(mean=(0.0,), deviation=(1.0,)))
    assert plain.backbone.mean.flatten().tolist() == [0.0]


def test_grey_images_are_seen_in_every_channel() -> None:
    net = network(TINY, (1, 32, 32), size=32).eval()
    grey = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(net.features(grey), net.features(grey.expand(-1, 3, -1, -1)))


def as_elsewhere(state: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """EfficientNet's tensors as efficientnet-pytorch names them: blocks numbered through."""
    flat = [(s, p, block) for s, held in enumerate(model.blocks) for p, block in enumerate(held)]
    names = {}
    for number, (stage, place, block) in enumerate(flat):
        inner = (
            {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
             "conv_pwl": "_project_conv", "bn3": "_bn2"}
            if hasattr(block, "conv_pwl")
            else {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
        )  # fmt: skip
        for ours, theirs in inner.items():
            names[f"blocks.{stage}.{place}.{ours}"] = f"_blocks.{number}.{theirs}"
    names |= {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    return {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in state.items()}


def test_weights_are_taken_by_timms_names_and_by_their_authors(tmp_path: Path) -> None:
    name = "tf_efficientnet_lite0"
    with global_randomness(1, "weights"):
        theirs = timm.create_model(name, num_classes=0)
    state = theirs.state_dict()
    save_file({**state, "classifier.weight": torch.zeros(9, 1280)}, tmp_path / "a.safetensors")
    elsewhere = as_elsewhere(state, theirs) | {"_fc.weight": torch.zeros(9, 1280)}
    assert len(elsewhere) == len(state) + 1
    save_file(elsewhere, tmp_path / "b.safetensors")
    for file in ("a", "b"):
        net = network(name, weights=str(tmp_path / f"{file}.safetensors"))
        for key, value in net.backbone.get_submodule("model").state_dict().items():
            assert torch.equal(value, state[key]), key


def test_weights_of_a_transformer_under_its_authors_names_are_converted(tmp_path: Path) -> None:
    """CLIP's image tower, as OpenAI names it: timm's own conversion is asked."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    deit = timm.create_model("deit_tiny_patch16_224", num_classes=0)
    nested = {key: value + 1 for key, value in deit.state_dict().items()}
    flat = nested["patch_embed.proj.weight"].reshape(192, -1).clone()  # DINO's and others' linear patches
    save_file({**nested, "patch_embed.proj.weight": flat}, tmp_path / "w.safetensors")
    expected = checkpoint_filter_fn({**nested, "patch_embed.proj.weight": flat}, deit)
    net = network("deit_tiny_patch16_224", weights=str(tmp_path / "w.safetensors"))
    for key, value in net.backbone.get_submodule("model").state_dict().items():
        assert torch.equal(value, expected[key])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "timm:resnet18.a1_in2k"}, "did you mean 'resnet18.a1_in1k'"),
        ({"name": f"timm:{TINY}", "train": "everything"}, "should be nothing, norms, blocks:N or all"),
        ({"name": f"timm:{TINY}", "train": "blocks:9"}, "train is blocks:9, and ResNet has 4 blocks"),
        (
            {"name": f"timm:{TINY}", "weights": "{wrong}"},
            "does not fit resnet10t.c3_in1k: it has no tensor conv1",
        ),
        ({"name": f"timm:{TINY}", "weights": "{narrow}"}, "has shape (7,), and should have"),
        ({"name": f"timm:{TINY}", "weights": "{pickle}"}, "`streamlab convert"),
        (
            {"name": f"timm:{TINY}", "weights": "none.safetensors"},
            "there is no weights file none.safetensors",
        ),
        ({"name": f"timm:{TINY}", "weights": "timm"}, "cannot be had"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(
    options: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    save_file({"a": torch.zeros(1)}, tmp_path / "wrong")
    state = timm.create_model(TINY, num_classes=0).state_dict()
    first = next(key for key in state if key.endswith("bn1.weight"))
    save_file({**state, first: torch.zeros(7)}, tmp_path / "narrow")
    torch.save(state, tmp_path / "pickle")
    files = {name: str(tmp_path / name) for name in ("wrong", "narrow", "pickle")}
    given = {"weights": "random", **{key: value.format(**files) for key, value in options.items()}}
    with pytest.raises(StreamlabError) as told:
        build_network(given, (3, 32, 32), 5, PixelStatistics(0.5, 0.25))
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_what_learns_is_what_was_named() -> None:
    def learned(train: str, name: str = "vit_tiny_patch16_224") -> set[str]:
        model = network(name, train=train).backbone.get_submodule("model")
        return {key for key, parameter in model.named_parameters() if parameter.requires_grad}

    everything = {
        key for key, _ in network("vit_tiny_patch16_224").backbone.get_submodule("model").named_parameters()
    }
    assert learned("all") == everything
    assert learned("nothing") == set()
    assert learned("norms") == {key for key in everything if "norm" in key}
    assert learned("blocks:2") == {key for key in everything if key.startswith(("blocks.10.", "blocks.11."))}
    assert all(key.startswith("layer4.") for key in learned("blocks:1", TINY))
    assert len(learning(nn.Linear(2, 2), "all")) == 2


def test_the_statistics_of_what_is_frozen_do_not_move() -> None:
    net = network(TINY, train="blocks:1", size=32)
    net.train()
    model: Any = net.backbone.get_submodule("model")
    before = {key: value.clone() for key, value in model.state_dict().items() if "running_mean" in key}
    net(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8))
    moved = {key for key, value in before.items() if not torch.equal(value, model.state_dict()[key])}
    assert moved
    assert all(key.startswith("layer4.") for key in moved)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    with global_randomness(2, "weights"):
        save_file(timm.create_model(TINY, num_classes=0).state_dict(), path)
    return path


def options(weights: Path, train: str) -> dict[str, Any]:
    backbone = {"name": f"timm:{TINY}", "weights": str(weights), "size": 32, "train": train}
    return {"scenario": {"tasks": 2}, "backbone": backbone}


@pytest.mark.parametrize("train", ["nothing", "blocks:1"])
def test_a_checkpoint_holds_what_differs_from_the_weights_and_ends_in_the_same_bits(
    train: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    source = make_source(classes=4, train=8, test=3, size=32)

    def run(out: str, hear: Any = None) -> streamlab.Run:
        made = streamlab.run(
            "class-incremental", source, ["er"], seeds=1, workers=0, out=tmp_path / out, show=False,
            settings=options(weights, train), record=("network",), hear=hear,
        )  # fmt: skip
        return made.runs[0]

    def stop(spec: Any, event: events.Event) -> None:
        if isinstance(event, events.ExperienceEnded):
            raise KeyboardInterrupt

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", stop)
    (folder,) = (tmp_path / "cut").glob("*/*/er/seed-0")
    kept = load_checkpoint(folder)
    cut = run("cut")
    assert cut.metrics == whole.metrics
    sizes = [run_.folder / "network.safetensors" for run_ in (cut, whole)]
    held = [load_file(file) for file in sizes]
    assert held[0].keys() == held[1].keys()
    assert all(torch.equal(held[0][key], held[1][key]) for key in held[0])
    parameters = {
        f"net.backbone.model.{key}" for key, _ in timm.create_model(TINY, num_classes=0).named_parameters()
    }
    there = {key for key in held[0] if key in parameters}
    expected = {key for key in parameters if train != "nothing" and ".layer4." in key}
    assert there == expected
    if kept is not None:
        assert not {key for key in kept.tensors if key in parameters} - expected
    loaded = streamlab.load_network(whole.folder)
    record: Any = whole.record
    last = record.evaluations[-1]
    with torch.no_grad():
        found = loaded(torch.from_numpy(source.test_images[last.test_indices])).argmax(1)
    np.testing.assert_array_equal(found.numpy(), last.predictions)


def test_other_weights_under_the_same_name_make_another_run(weights: Path, tmp_path: Path) -> None:
    source = make_source(classes=4, train=6, test=2, size=32)
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights.read_bytes())
    lines: list[str] = []

    def run() -> None:
        streamlab.run(
            "class-incremental", source, ["ncm"], seeds=1, workers=0, out=tmp_path / "o", show=False,
            settings=options(path, "nothing"),
        )  # fmt: skip

    run()
    state = load_file(path)
    save_file({key: value + 1 if value.is_floating_point() else value for key, value in state.items()}, path)
    run()
    (about,) = (tmp_path / "o/superseded").rglob("run.json")
    assert json.loads(about.read_text())["identity"]["weights"]
    assert not lines


def test_pickled_weights_are_converted_without_running_them(tmp_path: Path) -> None:
    state = {"module.a.weight": torch.ones(2, 3).T, "module.b": torch.zeros(1)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pth")
    assert convert(tmp_path / "a.pth", tmp_path / "a.safetensors") == 2
    found = load_file(tmp_path / "a.safetensors")
    assert torch.equal(found["a.weight"], torch.ones(3, 2))
    with pytest.raises(StreamlabError, match="is there already"):
        convert(tmp_path / "a.pth", tmp_path / "a.safetensors")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil"),))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stored = io.BytesIO()
    pickle.dump({"weights": Evil()}, stored)
    (tmp_path / "evil.pth").write_bytes(stored.getvalue())
    torch.save({"state_dict": {"a": torch.zeros(1)}, "evil": Evil()}, tmp_path / "evil-2.pth")
    torch.save([1, 2], tmp_path / "none.pth")
    for name in ("evil.pth", "evil-2.pth"):
        with pytest.raises(CorruptFile, match="torch cannot read it without running code"):
            convert(tmp_path / name, tmp_path / "out.safetensors")
    with pytest.raises(CorruptFile, match="it holds no tensors by name"):
        convert(tmp_path / "none.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnet32", {"name": "resnet32"}),
        ("resnet32:width=8,norm=group", {"name": "resnet32", "width": "8", "norm": "group"}),
        ("timm:resnet50.a1_in1k", {"name": "timm:resnet50.a1_in1k"}),
        ("timm:resnet50.a1_in1k,train=all", {"name": "timm:resnet50.a1_in1k", "train": "all"}),
    ],
)
def test_a_backbone_is_named_in_one_word(text: str, expected: dict[str, str]) -> None:
    assert parse_backbone(text) == expected


def test_a_member_of_timm_is_an_option_of_the_plugin() -> None:
    assert plugins.named_backbone({"name": "timm:a.b", "size": 3}) == ("timm", {"size": 3, "model": "a.b"})
