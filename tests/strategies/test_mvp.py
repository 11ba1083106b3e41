"""MVP against the authors' code, number for number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from making import VECTORS, make_source, simulate

from streamlab.errors import CorruptFile, StreamlabError
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.nets.transformer import PromptedTransformer, PromptRows, cosine_distances
from streamlab.strategies import mvp

FILES = sorted(VECTORS.glob("mvp_*.npz"))


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    left, right = found.detach().double().numpy(), np.asarray(expected, float)
    np.testing.assert_array_equal(np.isinf(left), np.isinf(right))
    finite = np.isfinite(right)
    gap = np.abs(left[finite] - right[finite]).max(initial=0)
    assert gap <= 1e-9 * np.abs(right[finite]).max(initial=1e-300), gap


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_mvp_equals_the_authors_code(path: Path) -> None:
    from timm.models.vision_transformer import VisionTransformer

    z = np.load(path)
    tensor = {name: torch.from_numpy(z[name].copy()) for name in z.files if z[name].dtype.kind in "fi"}
    about = {name: z[name].item() for name in z.files if z[name].ndim == 0 and "." not in name}
    prefix = "projected-prefix" if about["prompt_func"] == "prefix_tuning" else "append"
    model = VisionTransformer(
        img_size=about["img"], patch_size=about["patch"], embed_dim=about["embed"], depth=about["depth"],
        num_heads=about["heads"], num_classes=about["num_classes"],
    ).double()  # fmt: skip
    model.load_state_dict(
        {k.removeprefix("init.backbone."): v for k, v in tensor.items() if k.startswith("init.backbone.")}
    )
    model.eval().requires_grad_(False)
    backbone, head = PromptedTransformer(model), model.head.requires_grad_(True)
    positions = [tuple(z[name].tolist()) for name in ("pos_g", "pos_e")]
    general = PromptRows(1, positions[0], about["len_g"], about["embed"], prefix).double()
    expert = PromptRows(about["pool_size"], positions[1], about["len_e"], about["embed"], prefix).double()
    general.rows.data.copy_(tensor["init.g_prompts"])
    expert.rows.data.copy_(tensor["init.e_prompts"])
    keys, rows = (tensor[f"init.{name}"].requires_grad_() for name in ("key", "mask"))
    counts = tensor["init.count"].double()
    hidden = torch.arange(about["num_classes"]) >= about["exposed_classes"]
    learned = {
        "key": keys, "mask": rows, "g_prompts": general.rows, "e_prompts": expert.rows,
        "backbone.head.weight": head.weight, "backbone.head.bias": head.bias,
    }  # fmt: skip
    contrastive = bool(about["use_contrastive"])

    def forward(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query = backbone.query(images)
        distance = cosine_distances(query, keys)
        choice = mvp.choose(distance, counts, contrastive)
        nobody = torch.zeros_like(choice)
        feature = backbone(images, {**general.at(nobody), **expert.at(choice)})
        masks = 2 * torch.sigmoid(rows[choice]) if about["use_mask"] else torch.ones(len(images), len(hidden))
        return query, distance, choice, feature, masks.double()

    for step in range(3):
        given = {k.removeprefix(f"step{step}."): v for k, v in tensor.items() if k.startswith(f"step{step}.")}
        close(counts, given["count_before"].numpy())
        query, distance, choice, feature, masks = forward(given["images"])
        assert choice.tolist() == given["choice"].tolist()
        close(query, given["query"].numpy())
        close(feature, given["feature"].numpy())
        if about["use_mask"]:
            close(masks, given["mask"].numpy())
        labels = given["labels"]
        logits = (head(feature) * masks).masked_fill(hidden, float("-inf"))
        close(logits, given["logits"].numpy())
        scores = mvp.ignore_scores(logits, labels, masks, feature)
        close(scores, given["ignore_score"].numpy())
        divisor = mvp.compensation_scores(feature, labels, head.weight, about["margin"])
        close(divisor, given["compensation_score"].numpy())
        if contrastive:
            prompt_loss = mvp.contrastive_prompt_loss(distance, keys, choice, counts)
        else:
            prompt_loss = distance.gather(1, choice[:, None]).mean()
        close(prompt_loss, given["prompt_loss"].numpy())
        scaled = feature / divisor[:, None] if about["use_afs"] else feature
        own = (head(scaled) * masks).masked_fill(hidden, float("-inf"))
        each = F.cross_entropy(own, labels, reduction="none")
        weights = scores if about["use_gsf"] else torch.ones_like(scores)
        task = mvp.weighted_loss(each, weights, about["alpha"], about["gamma"], "reference")
        loss = (task if about["use_gsf"] else each.mean()) + prompt_loss
        close(loss, given["loss"].numpy())
        gradients = torch.autograd.grad(loss, list(learned.values()), allow_unused=True)
        for name, gradient in zip(learned, gradients, strict=True):
            if f"grad.{name}" in given:
                close(
                    torch.zeros_like(learned[name]) if gradient is None else gradient,
                    given[f"grad.{name}"].numpy(),
                )
        counts = counts + torch.bincount(choice, minlength=len(counts))
        close(counts, given["count_after"].numpy())
    _, _, _, feature, masks = forward(tensor["predict.images"])
    close((head(feature) * masks).masked_fill(hidden, float("-inf")), z["predict.logits"])


TINY = {"name": "vit", "patch_size": 4, "width": 16, "depth": 5, "heads": 2}


def test_mvp_runs_on_a_blurry_stream_and_its_backbone_stays_frozen() -> None:
    source = make_source(classes=6, train=20, test=5)
    settings = {"backbone": TINY, "optimizer": {"name": "adam", "lr": 0.005}, "stream": {"batch_size": 16}}
    settings["stream"]["updates_per_batch"] = 3
    simulation = simulate(source, "mvp:replay_size=8", settings=settings)
    made = simulation.strategy
    again = build_network(TINY, (1, 8, 8), 6, PixelStatistics(0.5, 0.5))
    kinds = made.account.ledger().bytes_by_kind
    assert kinds["frozen backbone"] == sum(t.nbytes for t in again.backbone.state_dict().values())
    assert kinds["prompts"] == 4 * (2 * 5 * 16 + 10 * 3 * 20 * 16)
    assert (kinds["keys"], kinds["masks"], kinds["head"]) == (4 * 10 * 16, 4 * 10 * 6, 4 * (16 * 6 + 6))
    assert "model" not in kinds
    assert all(p.grad is None for p in made.net.backbone.parameters())
    lengths = [len(experience.indices) for experience in simulation.plan.experiences]
    batches = sum(-(-length // 16) for length in lengths) - 1  # none spans tasks; the first replays nothing
    assert made.counts.sum() == 3 * (120 + 8 * batches), "each sample, and each replayed one, in every update"


@pytest.mark.parametrize("part", ["mask", "contrastive", "gradient_focus", "feature_scaling"])
def test_each_part_can_be_left_out_and_changes_what_is_learned(part: str) -> None:
    source = make_source(classes=4, train=8, test=2)
    settings = {"backbone": TINY, "stream": {"batch_size": 8}, "scenario": {"tasks": 2}}
    whole = simulate(source, "mvp", settings=settings).strategy
    without = simulate(source, f"mvp:{part}=false", settings=settings).strategy
    assert not torch.equal(whole.net.head.weight, without.net.head.weight)


def test_the_order_in_which_classes_are_numbered_changes_nothing() -> None:
    """The same samples under other labels: the same losses, step by step."""
    draws = torch.Generator().manual_seed(0)
    features, weights = torch.randn(9, 5, generator=draws), torch.randn(4, 5, generator=draws)
    labels, masks = torch.randint(4, (9,), generator=draws), torch.rand(9, 4, generator=draws)
    order = torch.tensor([2, 0, 3, 1])
    logits = features @ weights.T * masks
    plain = mvp.ignore_scores(logits, labels, masks, features)
    renumbered = mvp.ignore_scores(logits[:, order], order.argsort()[labels], masks[:, order], features)
    torch.testing.assert_close(renumbered, plain)


@pytest.mark.parametrize(
    ("name", "backbone", "sentence"),
    [
        (
            "mvp",
            {"name": "mlp"},
            "mvp needs a backbone with blocks that take prompts, as vit; Perceptron has none",
        ),
        ("mvp:positions", TINY, "mvp: a prompt at block 9, and the backbone has 0 to 4"),
        ("mvp:pool_size=0", TINY, "mvp: pool_size is 0, and must be at least 1"),
        ("mvp", {**TINY, "patch_size": 3}, "images of 8 pixels cannot be cut into patches of 3"),
        ("mvp", {**TINY, "heads": 3}, "width 16 cannot be divided among 3 heads"),
        (
            "mvp",
            {"name": "timm:vit_tiny_patch16_22", "weights": "random"},
            "did you mean 'vit_tiny_patch16_224'",
        ),
        ("mvp", {**TINY, "weights": "none.safetensors"}, "there is no weights file none.safetensors"),
    ],
)
def test_what_cannot_be_prompted_is_refused(name: str, backbone: dict[str, object], sentence: str) -> None:
    source = make_source(classes=6, train=8, test=2)
    options = {"mvp": {"positions_e": "2,9"}} if "positions" in name else {}
    with pytest.raises(StreamlabError, match=sentence) as error:
        simulate(source, name.split(":positions")[0], settings={"backbone": backbone, **options})
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    def network(**changed: object) -> torch.nn.Module:
        return build_network({**TINY, **changed}, (1, 8, 8), 4, PixelStatistics(0.5, 0.5)).backbone.model

    path = tmp_path / "weights.safetensors"
    first = network()
    save_file(first.state_dict(), path)
    read = network(weights=str(path))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), read.parameters(), strict=True))
    with pytest.raises(
        StreamlabError, match=r"cls_token has shape \(1, 1, 16\), and should have \(1, 1, 32\)"
    ):
        network(weights=str(path), width=32)
    with pytest.raises(StreamlabError, match=r"has no tensor blocks\.5\."):
        network(weights=str(path), depth=6)
    path.write_bytes(b"pickled, say")
    with pytest.raises(CorruptFile, match=r"is no safetensors file .* makes one of a pickle"):
        network(weights=str(path))


def test_grey_and_small_images_become_what_the_weights_expect() -> None:
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(img_size=12, patch_size=4, embed_dim=16, depth=1, num_heads=2, num_classes=0)
    backbone = PromptedTransformer(model, ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)))
    adapted = backbone.adapted(torch.full((2, 1, 6, 6), 0.5))
    assert adapted.shape == (2, 3, 12, 12)
    torch.testing.assert_close(adapted[0, :, 3, 3], torch.tensor([0.0, 0.5, 2.0]))


@pytest.mark.parametrize(
    "extra", [{}, {"qk_norm": True, "init_values": 0.1}, {"scale_attn_norm": True}, {"qkv_bias": False}]
)
def test_without_prompts_it_is_timms_own_transformer(extra: dict[str, object]) -> None:
    """Only the wanted token goes through the last block: the same feature for less."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=12, patch_size=4, in_chans=1, embed_dim=16, depth=3, num_heads=2, num_classes=0, **extra
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.rand(5, 1, 12, 12)
    whole = model.forward_features(images)
    backbone = PromptedTransformer(model)
    torch.testing.assert_close(backbone(images), whole[:, 0])
    rows = torch.randn(5, 2, 16)
    tokens = torch.cat([backbone.tokens(images), rows], 1)
    for block in model.blocks:
        tokens = block(tokens)
    torch.testing.assert_close(backbone.through(images, rows), model.norm(tokens)[:, -2:])


def test_blocks_of_another_make_are_refused() -> None:
    from timm.layers import Mlp
    from timm.models.vision_transformer import ParallelThingsBlock, VisionTransformer

    shape = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 0}
    model = VisionTransformer(**shape, block_fn=ParallelThingsBlock, mlp_layer=Mlp)
    with pytest.raises(StreamlabError, match="ParallelThingsBlock is no pre-norm block with a fused qkv"):
        PromptedTransformer(model)
