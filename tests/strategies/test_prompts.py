"""L2P and DualPrompt, the references on a frozen backbone, and what the kernel keeps for them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from making import make_source, simulate
from torch import Tensor

from streamlab.errors import StreamlabError
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.nets.precision import LossScale
from streamlab.nets.transformer import as_transformer
from streamlab.strategies.ranpac import best_ridge
from streamlab.strategy import Batch, Setting, Strategy
from streamlab.training import OptimizerConfig

TINY = {"name": "vit", "patch_size": 4, "width": 16, "depth": 5, "heads": 2}
PLAIN = {"name": "pixels"}


@pytest.mark.parametrize("name", ["l2p:replay_size=8", "dualprompt:replay_size=8"])
def test_prompts_learn_and_the_ledger_shows_them_apart(name: str) -> None:
    settings = {"backbone": TINY, "stream": {"batch_size": 16, "updates_per_batch": 2}}
    made = simulate(make_source(classes=6, train=20, test=5), name, settings=settings).strategy
    again = build_network(TINY, (1, 8, 8), 6, PixelStatistics(0.5, 0.5)).backbone
    kinds = made.account.ledger().bytes_by_kind
    rows = 10 * 5 if "l2p" in name else 2 * 5 + 10 * 3 * 20
    assert kinds["frozen backbone"] == sum(t.nbytes for t in again.state_dict().values())
    assert (kinds["prompts"], kinds["keys"]) == (4 * rows * 16, 4 * 10 * 16)
    assert kinds["head"] == 4 * (16 * 6 + 6)
    assert kinds.keys() == {"frozen backbone", "prompts", "keys", "head", "exemplars"}
    assert all(p.grad is None for p in made.net.backbone.parameters())


def test_rows_that_go_through_have_no_position() -> None:
    net = build_network(TINY, (1, 8, 8), 6, PixelStatistics(0.5, 0.5))
    images, rows = torch.rand(3, 1, 8, 8), torch.randn(3, 4, 16)
    through = as_transformer("test", net.backbone).through
    torch.testing.assert_close(through(images, rows)[:, [2, 0, 3, 1]], through(images, rows[:, [2, 0, 3, 1]]))


def test_a_task_keeps_its_own_expert_where_boundaries_are_shown() -> None:
    source = make_source(classes=6, train=8, test=2)
    settings = {"backbone": TINY, "scenario": {"tasks": 3, "kind": "sessions"}}
    name = "dualprompt:selection=task,pool_size=4"
    made = simulate(source, name, scenario="class-incremental", settings=settings).strategy
    fresh = simulate(
        source, name, scenario="class-incremental", settings={**settings, "optimizer": {"lr": 1e-12}}
    ).strategy
    moved = (made.expert.rows - fresh.expert.rows).flatten(1).abs().amax(1) > 1e-6
    assert moved.tolist() == [True, True, True, False]
    with pytest.raises(StreamlabError, match="it has 2 expert prompts, and this is task 3; raise pool_size"):
        simulate(
            source, "dualprompt:selection=task,pool_size=2", scenario="class-incremental", settings=settings
        )
    with pytest.raises(StreamlabError, match="needs task boundaries, and si-blurry hides them"):
        simulate(source, name, settings={"backbone": TINY})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("l2p:pool_size=3", "l2p: pool_size is 3, and each image takes 5 prompts of it"),
        ("dualprompt:positions_g=7", "dualprompt: a prompt at block 7, and the backbone has 0 to 4"),
        (
            "dualprompt:selection=task,replay_size=2",
            "so that nothing can be replayed; set selection=query or replay_size=0",
        ),
    ],
)
def test_what_cannot_be_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(StreamlabError, match=sentence):
        simulate(make_source(classes=6, train=8, test=2), name, settings={"backbone": TINY})
    with pytest.raises(StreamlabError, match="needs a backbone with blocks that take prompts"):
        simulate(make_source(classes=6, train=8, test=2), name.split(":")[0], settings={"backbone": PLAIN})


def test_a_linear_probe_is_softmax_regression() -> None:
    source = make_source(classes=6, train=12, test=4)
    start, end = (
        simulate(
            source, "linear-probe", scenario="class-incremental",
            settings={
                "backbone": PLAIN, "optimizer": {"lr": rate}, "scenario": {"tasks": 1},
                "stream": {"batch_size": 72, "updates_per_batch": 2},
            },
        ).strategy.net.head.weight.detach()
        for rate in (1e-30, 0.1)
    )  # fmt: skip
    head = torch.nn.Linear(64, 6)
    head.weight.data.copy_(start)
    head.bias.data.copy_(
        simulate(
            source, "linear-probe", settings={"backbone": PLAIN, "optimizer": {"lr": 1e-30}}
        ).strategy.net.head.bias
    )
    images, labels = (
        torch.from_numpy(source.train_images).flatten(1) / 255,
        torch.from_numpy(source.train_labels),
    )
    optimizer = torch.optim.SGD(head.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(head(images), labels).backward()
        optimizer.step()
    torch.testing.assert_close(end, head.weight.detach())


def test_ranpac_is_ridge_regression_whatever_the_order() -> None:
    source = make_source(classes=6, train=30, test=4)
    made = []
    for batch in (7, 40):
        settings = {"backbone": PLAIN, "stream": {"batch_size": batch}}
        made.append(
            simulate(source, "ranpac:projections=50,ridge=10", settings=settings, plan_seed=batch).strategy
        )
    torch.testing.assert_close(made[0].weights, made[1].weights, rtol=1e-3, atol=1e-5)
    images = torch.from_numpy(source.train_images)
    hidden = made[0].project(made[0].embed(images)).double()
    targets = F.one_hot(torch.from_numpy(source.train_labels), 6).double()
    own = torch.linalg.solve(hidden.T @ hidden + 10 * torch.eye(50).double(), hidden.T @ targets)
    torch.testing.assert_close(made[0].weights.double(), own, rtol=1e-3, atol=1e-5)


def test_the_ridge_is_that_of_least_generalised_cross_validation_error() -> None:
    draws = torch.Generator().manual_seed(0)
    hidden = torch.randn(40, 12, generator=draws, dtype=torch.float64)
    targets = torch.randn(40, 3, generator=draws, dtype=torch.float64)
    targets = F.one_hot(targets.argmax(1), 3).double()
    gram, prototypes = hidden.T @ hidden, hidden.T @ targets

    def error(ridge: float) -> float:
        hat = hidden @ torch.linalg.inv(gram + ridge * torch.eye(12)) @ hidden.T
        return float((targets - hat @ targets).square().sum() / (40 - hat.trace()).square())

    values, vectors = torch.linalg.eigh(gram)
    ridges = [10.0**power for power in range(-8, 9) if 10.0**power >= 1e-6 * float(values.max())]
    assert best_ridge(values, vectors.T @ prototypes, 40) == min(ridges, key=error)


def test_ranpac_is_no_worse_with_fewer_samples_than_projections() -> None:
    """Single precision leaves noise where there are no samples; a ridge below it would blow up."""
    source = make_source(classes=6, train=20, test=20, contrast=60)
    scores = [
        simulate(source, name, settings={"backbone": PLAIN, "stream": {"batch_size": 20}}).evaluations[-1]
        for name in ("ncm", "ranpac:projections=600")
    ]
    assert scores[1].accuracy > scores[0].accuracy - 0.05


class Counting(Strategy):
    """Counts how many images it embeds."""

    frozen = True
    asked = 0

    def embed(self, images: Tensor) -> Tensor:
        Counting.asked += len(images)
        return images.flatten(1).float().mean(1, keepdim=True)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        expected = images.flatten(1).float().mean(1, keepdim=True)
        assert torch.equal(expected, embedding), "each image meets its own embedding"
        return self.net(images)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}


def test_a_test_image_is_embedded_once_a_run_and_the_cache_changes_no_bit() -> None:
    source = make_source(classes=10, train=30, test=100)
    asked, predictions = [], []
    for cache in ("1MiB", "0"):
        Counting.asked = 0
        run = simulate(source, Counting, eval_every=50, settings={"compute": {"cache": cache}})
        asked.append(Counting.asked)
        predictions.append(np.concatenate([e.predictions for e in run.evaluations]))
    assert np.array_equal(*predictions)
    judged = sum(-(-len(e.predictions) // 500) * 500 for e in run.evaluations)
    assert asked[1] >= judged
    assert asked[0] < asked[1] / 2
    with pytest.raises(StreamlabError, match="compute: cache is '5ex', and should be bytes, as 256MiB"):
        simulate(source, "er", settings={"compute": {"cache": "5ex"}})


@pytest.mark.parametrize("name", ["mvp", "l2p", "dualprompt", "linear-probe", "er"])
def test_half_precision_is_the_backbones_alone(name: str) -> None:
    source = make_source(classes=6, train=10, test=5)
    full, half = (
        simulate(source, name, settings={"backbone": TINY, "compute": {"precision": precision}})
        for precision in ("float32", "bfloat16")
    )
    assert all(t.dtype != torch.bfloat16 for t in half.strategy.account.take_state()[1].values())
    assert half.strategy.net.features(torch.from_numpy(source.test_images)).dtype == torch.float32
    apart = (full.strategy.net.head.weight - half.strategy.net.head.weight).abs().max()
    assert 0 < apart < 0.05, "computed otherwise, and nearly alike"


def test_float16_gradients_are_scaled_and_steps_that_overflow_are_left_out() -> None:
    setting = Setting(
        4, (1, 8, 8), 0, torch.device("cpu"), PixelStatistics(0.5, 0.3), {"name": "mlp"},
        OptimizerConfig("sgd", 0.1), "float16",
    )  # fmt: skip
    plain = copy.copy(setting)
    object.__setattr__(plain, "precision", "float32")
    one, two = Counting(setting), Counting(plain)
    batch = Batch(torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8), torch.arange(8) % 4)
    one.observe(batch), two.observe(batch)
    for mine, its in zip(one.net.parameters(), two.net.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-2, atol=1e-3)
    before = [p.detach().clone() for p in one.net.parameters()]
    one.step({"task": one.net.head.weight.sum() * 1e38})
    assert all(torch.equal(a, b) for a, b in zip(before, one.net.parameters(), strict=True))
    assert one.loss_scale is not None
    assert one.loss_scale.scale == LossScale().scale / 2


def test_features_kept_on_disk_are_those_of_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another permutation of the pixels is another image, though its index is the same."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = make_source(classes=6, train=10, test=10)

    def predictions(seed: int, cache: str) -> np.ndarray:
        settings = {"backbone": TINY, "scenario": {"tasks": 3}, "compute": {"cache": cache}}
        run = simulate(source, "ncm", scenario="permuted", plan_seed=seed, settings=settings)
        return np.concatenate([e.predictions for e in run.evaluations])

    for seed in (0, 1, 0):
        assert np.array_equal(predictions(seed, "1MiB"), predictions(seed, "0"))
    assert len(list((tmp_path / "streamlab/features").glob("*.safetensors"))) == 2


def test_a_frozen_backbones_batch_statistics_do_not_move() -> None:
    source = make_source(classes=6, train=10, test=10, size=16)
    settings = {"backbone": {"name": "convnet", "width": 8, "norm": "batch"}}
    made = simulate(source, "ncm", settings=settings).strategy
    means = [value for name, value in made.net.backbone.named_buffers() if name.endswith("running_mean")]
    assert means
    assert all(not mean.any() for mean in means), "as they began"
