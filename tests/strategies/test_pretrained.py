"""Methods on pretrained networks: adapters equal to PILOT's, SimpleCIL and APER to their definitions."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from authors import close, make
from making import VECTORS, make_source, resolved, simulate
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from streamlab.batch import Batch
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.nets.adapters import KINDS, Adapting, Branch, Scaled, adapt
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.nets.transformer import Prefixed, PromptedTransformer

TINY = {"name": "vit", "patch_size": 4, "width": 16, "depth": 3, "heads": 2}
SESSIONS = {"tasks": 3, "kind": "sessions"}


@pytest.fixture
def in_double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", ["adapter", "ssf", "vpt-shallow", "vpt-deep"])
@pytest.mark.parametrize("path", sorted(VECTORS.glob("method_adapters_*.npz")), ids=lambda path: path.stem)
def test_adapted_features_are_pilots(path: Path, kind: Any, in_double: None) -> None:
    z = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
    state = {name.removeprefix("base."): tensor for name, tensor in z.items() if name.startswith("base.")}
    model = VisionTransformer(img_size=16, patch_size=4, embed_dim=32, depth=3, num_heads=4, num_classes=0)
    model.load_state_dict(state)
    backbone = PromptedTransformer(model).eval()
    plain = backbone(z["images"])
    adaptation = adapt("test", backbone, kind, Adapting(width=8, prompts=4))
    given = [z[name] for name in sorted(z) if name.startswith(f"{kind}.0")]
    assert len(given) == len(adaptation.parameters)
    with torch.no_grad():
        for parameter, value in zip(adaptation.parameters, given, strict=True):
            parameter.copy_(value)
        backbone.eval()
        close(backbone(z["images"]), z[f"{kind}.features"])
        close(adaptation.without(backbone, z["images"]), plain)
    assert not torch.allclose(z[f"{kind}.features"], plain, atol=1e-3)


def adapted(kind: Any, **options: Any) -> tuple[PromptedTransformer, Any]:
    torch.manual_seed(0)
    backbone: Any = build_network({**TINY, **options}, (3, 8, 8), 5, PixelStatistics(0.5, 0.25)).backbone
    return backbone, adapt("test", backbone, kind, Adapting(width=8, prompts=4))


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_was_put_in_learns_and_it_begins_as_the_papers_say(kind: Any) -> None:
    backbone, adaptation = adapted(kind)
    images = torch.rand(4, 3, 8, 8)
    learning = {id(p) for p in backbone.parameters() if p.requires_grad}
    assert learning == {id(p) for p in adaptation.parameters}
    backbone.eval()
    with torch.no_grad():
        before, after = adaptation.without(backbone, images), backbone(images)
    if kind in ("adapter", "lora", "fine-tuning"):  # nothing is added at first
        torch.testing.assert_close(before, after, rtol=0, atol=1e-6)
    else:
        assert not torch.allclose(before, after, atol=1e-5)
    for module in backbone.modules():
        if isinstance(module, Branch):
            assert not module.up.weight.any()
            assert module.down.weight.abs().max() <= (1 / 16) ** 0.5  # Kaiming uniform, a = √5
        if isinstance(module, Scaled):
            assert 0 < module.scale.std() < 0.06
            assert abs(module.scale.mean().item() - 1) < 0.02
            assert abs(module.shift.mean().item()) < 0.02
    if kind.startswith("vpt"):
        assert backbone.visual_prompts.rows.shape == (3 if kind == "vpt-deep" else 1, 4, 16)
        assert not backbone.visual_prompts.rows.any()


def test_ssf_scales_what_every_layer_gives() -> None:
    """A linear layer, written out; and every convolution of an EfficientNet."""
    layer = nn.Linear(3, 2)
    scaled = Scaled(layer, 2)
    x = torch.randn(5, 3)
    torch.testing.assert_close(scaled(x), layer(x) * scaled.scale + scaled.shift)
    torch.testing.assert_close(F.linear(x, scaled.weight, scaled.bias), scaled(x))
    scaled.on = False
    assert torch.equal(scaled(x), layer(x))
    net = build_network(
        {"name": "timm:tf_efficientnet_lite0", "weights": "random", "size": 32}, (3, 32, 32), 5,
        PixelStatistics(0.5, 0.25),
    ).eval()  # fmt: skip
    count = sum(isinstance(module, nn.Conv2d) for module in net.backbone.modules())
    images = torch.rand(2, 3, 32, 32)
    before = net.backbone(images)
    adaptation = adapt("test", net.backbone, "ssf", Adapting())
    assert len(adaptation.parameters) == 2 * count
    torch.testing.assert_close(adaptation.without(net.backbone, images), before)
    assert not torch.allclose(net.backbone(images), before, rtol=1e-3)


@pytest.mark.parametrize("layers", [("qkv",), ("qkv", "proj", "fc1")])
def test_lora_is_pefts_by_hand(layers: tuple[str, ...], in_double: None) -> None:
    """Features and three steps; and the network before, while the terms are off."""
    images = torch.rand(4, 3, 16, 16)
    torch.manual_seed(0)
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4, "num_classes": 0}
    plain = VisionTransformer(**size)
    backbone, by_hand = PromptedTransformer(copy.deepcopy(plain)), copy.deepcopy(plain)
    torch.manual_seed(1)
    adaptation = adapt("test", backbone, "lora", Adapting(rank=4, alpha=6, layers=layers))
    torch.manual_seed(1)
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=6, target_modules=list(layers)), by_hand)
    learning = [parameter for parameter in by_hand.parameters() if parameter.requires_grad]
    assert len(adaptation.parameters) == len(learning) >= 3 * 2 * len(layers)
    ours, theirs = torch.optim.SGD(adaptation.parameters, 0.1), torch.optim.SGD(learning, 0.1)
    for _ in range(3):
        for optimizer, features in ((ours, backbone(images)), (theirs, by_hand(images))):
            optimizer.zero_grad()
            (features**2 * torch.arange(32)).sum().backward()
            optimizer.step()
    with torch.no_grad():
        close(backbone(images), by_hand(images))
        close(adaptation.without(backbone, images), plain(images))
        rows = torch.rand(4, 2, 32)
        prompted = backbone(images, {1: Prefixed(rows, rows)})
        assert not torch.allclose(prompted, backbone(images))
        merged = copy.deepcopy(by_hand)
        for parent in list(merged.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, LoraLayer):
                    child.merge()
                    setattr(parent, name, child.base_layer)
        close(PromptedTransformer(merged)(images, {1: Prefixed(rows, rows)}), prompted)


def test_lora_stands_beside_layers_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    net = build_network(
        {"name": "timm:convnext_atto", "weights": "random", "size": 32},
        (3, 32, 32),
        5,
        PixelStatistics(0.5, 0.25),
    )
    with pytest.raises(StreamlabError, match=r"LoRA beside qkv, and .* it has .*fc1, fc2"):
        adapt("test", net.backbone, "lora", Adapting())
    adaptation = adapt("test", net.backbone, "lora", Adapting(layers=("fc1", "fc2")))
    assert {parameter.requires_grad for parameter in adaptation.parameters} == {True}
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(StreamlabError, match="LoRA needs peft"):
        adapt("test", net.backbone, "lora", Adapting(layers=("fc1",)))


@pytest.fixture(scope="module")
def source() -> Source:
    return make_source(classes=6, train=12, test=4, size=8)


def test_simplecil_is_the_cosine_to_class_means(source: Source) -> None:
    run = simulate(
        source,
        "simplecil",
        scenario="class-incremental",
        settings={"backbone": TINY, "scenario": {"tasks": 3}},
    )
    strategy: Any = run.strategy
    features = strategy.features_of(torch.from_numpy(source.train_images))
    labels = torch.from_numpy(source.train_labels)
    means = torch.stack([features[labels == label].mean(0) for label in range(6)])
    torch.testing.assert_close(strategy.prototypes.means, means, rtol=1e-4, atol=1e-5)
    images = torch.from_numpy(source.test_images)
    expected = F.cosine_similarity(strategy.features_of(images)[:, None], means[None], dim=2)
    torch.testing.assert_close(strategy.predict(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_aper_adapts_in_the_first_session_alone_and_classifies_by_both(kind: str, source: Source) -> None:
    settings = {"backbone": TINY, "scenario": SESSIONS, "first": {"epochs": 3}, "stream": {"batch_size": 4}}
    run = simulate(
        source, f"aper:adapt={kind},width=4,prompts=2", scenario="class-incremental", settings=settings
    )
    strategy: Any = run.strategy
    assert not strategy.first.under_way
    assert strategy.optimizer is None
    assert not any(parameter.requires_grad for parameter in strategy.net.parameters())
    images, labels = torch.from_numpy(source.train_images), torch.from_numpy(source.train_labels)
    torch.manual_seed(0)
    strategy.train_mode(False)
    with torch.no_grad():
        both = torch.cat([strategy.first.before(strategy, images), strategy.net.features(images)], dim=1)
    assert not torch.allclose(both[:, :16], both[:, 16:], atol=1e-4)
    means = torch.stack([both[labels == label].mean(0) for label in range(6)])
    torch.testing.assert_close(strategy.prototypes.means, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        strategy.score(both, images), F.normalize(both) @ F.normalize(means).T, rtol=1e-4, atol=1e-5
    )


def test_aper_learns_under_a_cosine_classifier_with_a_learned_scale() -> None:
    """One step, written out: among the session's classes alone."""
    strategy = make("aper", 4, (1, 8, 8), {"width": 4}, {"lr": 0.1}, backbone=TINY)
    strategy.current_classes[:] = torch.tensor([True, True, False, False])
    strategy.train_mode(False)  # no dropout
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    weight, scale = strategy.net.head.weight, strategy.net.head.scale
    assert scale.item() == 1
    assert scale.requires_grad
    features = strategy.net.features(images)
    logits = scale * F.normalize(features) @ F.normalize(weight).T
    (loss,) = strategy.losses(Batch(images, labels)).values()
    torch.testing.assert_close(loss, F.cross_entropy(logits[:, :2], labels))
    before = {name: p.detach().clone() for name, p in strategy.net.named_parameters()}
    strategy.step({"task": loss})
    moved = {name for name, p in strategy.net.named_parameters() if not torch.equal(before[name], p)}
    assert moved
    assert all("branch" in name or name.startswith("head.") for name in moved)
    assert "head.scale" in moved


def test_small_learners_cost_their_own_bytes_and_fine_tuning_a_copy(source: Source) -> None:
    def held(kind: str) -> dict[str, int]:
        run = simulate(
            source, f"aper:adapt={kind},width=4,prompts=2", scenario="class-incremental",
            settings={"backbone": TINY, "scenario": SESSIONS},
        )  # fmt: skip
        found: dict[str, int] = run.progress.held
        return found

    plain = simulate(
        source, "simplecil", scenario="class-incremental", settings={"backbone": TINY, "scenario": SESSIONS}
    )
    network = sum(plain.progress.held.values()) - plain.progress.held["statistics"]
    small, copied = held("adapter"), held("fine-tuning")
    branches = 3 * 4 * (16 * 4 + 4 + 4 * 16 + 16)
    head = 4 * (6 * 16 + 1)
    assert sum(small.values()) - small["statistics"] == network + branches + head
    assert sum(copied.values()) - copied["statistics"] == 2 * network + head


@pytest.mark.parametrize(
    ("strategy", "backbone", "said"),
    [
        (
            "aper",
            {"name": "convnet", "blocks": 2},
            "has no blocks of a transformer; ssf, lora and fine-tuning take any",
        ),
        ("aper:adapt=vpt-deep", {"name": "mlp"}, "has no blocks of a transformer"),
        ("aper:adapt=ssf", {"name": "pixels"}, "has no layer to scale"),
    ],
)
def test_a_backbone_that_cannot_be_adapted_is_refused(
    strategy: str, backbone: dict[str, Any], said: str, source: Source
) -> None:
    with pytest.raises(StreamlabError, match=said):
        simulate(
            source,
            strategy,
            scenario="class-incremental",
            settings={"backbone": backbone, "scenario": SESSIONS},
        )


@pytest.mark.parametrize("kind", ["adapter", "ssf"])
def test_ranpac_may_adapt_in_the_first_session_and_counts_each_sample_once(kind: str, source: Source) -> None:
    """The Gram matrix and the prototypes, written out, of the adapted features as samples lie."""
    run = simulate(
        source, f"ranpac:adapt={kind},width=4,projections=20", scenario="class-incremental",
        settings={
            "backbone": TINY, "scenario": SESSIONS, "first": {"epochs": 3}, "stream": {"batch_size": 4, "epochs": 2},
            "augment": {"operations": [{"name": "flip"}]},
        },
    )  # fmt: skip
    strategy: Any = run.strategy
    assert not any(parameter.requires_grad for parameter in strategy.net.parameters())
    images, labels = torch.from_numpy(source.train_images), torch.from_numpy(source.train_labels)
    hidden = F.relu(strategy.features_of(images) @ strategy.projection)
    assert strategy.count == len(labels)
    torch.testing.assert_close(strategy.gram, hidden.T @ hidden, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        strategy.prototypes, hidden.T @ F.one_hot(labels, 6).to(hidden.dtype), rtol=1e-3, atol=1e-3
    )
    before = strategy.first.before(strategy, images[:4])
    assert not torch.allclose(before, strategy.features_of(images[:4]), atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "is_frozen"),
    [
        ({"name": "pixels"}, True),
        ({"name": "vit"}, True),
        ({"name": "glyph-vit"}, True),
        ({"name": "timm:resnet10t"}, True),
        ({"name": "timm:resnet10t", "train": "blocks:1"}, False),
        ({"name": "vit", "trained": True, "patch_size": 4}, False),
        ({"name": "mlp"}, False),
        ({}, False),
    ],
)
def test_who_learns_a_whole_network_is_refused_a_frozen_one_before_the_run(
    backbone: dict[str, Any], is_frozen: bool, source: Source
) -> None:
    settings = {"scenario": SESSIONS, "backbone": backbone}
    if not is_frozen:
        resolved(source, "slca", scenario="class-incremental", settings=settings)
        return
    with pytest.raises(
        StreamlabError, match=r"^slca learns a whole network, and the backbone \S+ is frozen$"
    ):
        resolved(source, "slca", scenario="class-incremental", settings=settings)
