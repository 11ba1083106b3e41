"""Strategies of episodes: equal to reference numbers, to learn2learn by hand, and to plain loops."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from comparing import Listening
from making import VECTORS, laid_out, make_source, resolved, simulate

import streamlab
from streamlab.batch import EpisodeBatch
from streamlab.cli.episode_results import print_episodes
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.evaluation.episode_metrics import by_condition
from streamlab.evaluation.episode_record import EpisodeRecord
from streamlab.evaluation.geometry import curve, measure_geometry, measure_groups
from streamlab.evaluation.intervals import bootstrap, normal_interval
from streamlab.experiments.request import Request
from streamlab.experiments.run import run_experiment
from streamlab.nets.network import PixelStatistics
from streamlab.parts.metric_losses import (
    VARIANTS,
    MetricTerms,
    Variant,
    icnn_loss,
    icnn_score,
    icnn_score_of,
    proto_triplet_loss,
    prototypes_of,
)
from streamlab.planning import make_plan
from streamlab.plans.episodes import EpisodePlan
from streamlab.runs.folder import RunFolder
from streamlab.strategies.protonet import Options, PrototypicalNetwork
from streamlab.strategy import Setting

NAMES: dict[str, Variant] = {
    "support": "support",
    "query_vs_support": "query-support",
    "query_vs_prototypes": "query-prototypes",
    "full": "all",
}
SMALL = {
    "backbone": {"name": "convnet", "width": 8, "blocks": 2},
    "scenario": {
        "way": 3, "shot": 2, "query": 3, "episodes": 12, "validation_episodes": 4, "test_episodes": 10
    },
    "base": {"epochs": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def source() -> Source:
    return make_source(classes=20, train=12, test=4)


def _close(found: torch.Tensor, reference: np.ndarray, dtype: torch.dtype) -> None:
    bound = 1e-9 if dtype == torch.float64 else 1e-5
    off = np.abs(found.detach().double().numpy() - reference).max()
    assert off <= bound * max(np.abs(reference).max(), 1e-300), off


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("file", sorted(VECTORS.glob("icnn_prototriplet_*.npz")), ids=lambda p: p.stem)
def test_losses_equal_the_authors_code_gradients_included(file: Path, dtype: torch.dtype) -> None:
    with np.load(file) as held:
        given = dict(held)
    support, query = (
        torch.tensor(given[name], dtype=dtype).requires_grad_() for name in ("support", "query")
    )
    labels, answers = (torch.tensor(given[f"{name}_labels"]) for name in ("support", "query"))
    way, compared = int(given["way"]), 0
    for name in sorted(given):
        if name.startswith("icnn_score") and "grad" not in name:
            variant = NAMES[name.removeprefix("icnn_score_")]
            value = icnn_score_of(variant, support, labels, query, answers, way)
        elif name.startswith("proto_triplet") and "grad" not in name:
            means = prototypes_of(support, labels, way)
            value = proto_triplet_loss(query, answers, means, float(name.rpartition("_")[2]))
        else:
            continue
        _close(value, given[name], dtype)
        gradients = torch.autograd.grad(value, (support, query), allow_unused=True)
        for part, gradient in zip(("support", "query"), gradients, strict=True):
            if f"{name}_grad_{part}" in given:
                assert gradient is not None
                _close(gradient, given[f"{name}_grad_{part}"], dtype)
                compared += 1
    assert compared >= 8


@pytest.mark.parametrize("variant", VARIANTS)
def test_episodes_side_by_side_lose_what_they_lose_alone(variant: Variant) -> None:
    torch.manual_seed(0)
    support, query = torch.randn(4, 10, 6, dtype=torch.float64), torch.randn(4, 15, 6, dtype=torch.float64)
    labels, answers = torch.arange(5).repeat_interleave(2), torch.arange(5).repeat_interleave(3)
    together = icnn_loss(support, labels.expand(4, -1), query, answers.expand(4, -1), 5, variant)
    alone = [icnn_loss(s, labels, q, answers, 5, variant) for s, q in zip(support, query, strict=True)]
    assert together == pytest.approx(float(torch.stack(alone).mean()), abs=1e-12)
    hinges = [
        proto_triplet_loss(q, answers, prototypes_of(s, labels, 5))
        for s, q in zip(support, query, strict=True)
    ]
    means = prototypes_of(support, labels.expand(4, -1), 5)
    hinge = proto_triplet_loss(query, answers.expand(4, -1), means)
    assert hinge == pytest.approx(float(torch.stack(hinges).mean()), abs=1e-12)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_losses_are_stable_in_half_precision(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    points = (300 * torch.randn(2, 20, 8)).to(kind).requires_grad_()
    labels = torch.arange(4).repeat_interleave(5).expand(2, -1)
    wide = points.detach().float()
    exact = icnn_loss(wide, labels, wide, labels, 4)
    value = icnn_loss(points, labels, points, labels, 4) + proto_triplet_loss(
        points, labels, prototypes_of(points, labels, 4)
    )
    value.backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()
    assert icnn_loss(points.detach(), labels, points.detach(), labels, 4) == pytest.approx(float(exact))


def test_the_corrected_score_counts_the_nearest_target() -> None:
    targets = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [13.0]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    origins, own = torch.tensor([[0.1]]), torch.tensor([0])
    reference = icnn_score(origins, own, targets, labels)
    corrected = icnn_score(origins, own, targets, labels, drops_nearest=False)
    assert corrected > reference
    with pytest.raises(StreamlabError, match="2 points are too few"):
        icnn_score(origins, own, targets[:2], labels[:2])


def test_perfect_clusters_score_one_and_mixed_ones_less() -> None:
    labels = torch.arange(4).repeat_interleave(8)
    tight = torch.eye(4)[labels] * 100 + 0.01 * torch.randn(32, 4)
    mixed = torch.randn(32, 4)
    assert icnn_score(tight, labels, tight, labels) > 0.95
    assert icnn_score(mixed, labels, mixed, labels) < 0.7


def _batch(source: Source, way: int = 3, shot: int = 2) -> EpisodeBatch:
    plan = make_plan("episodes", source.labels, 0, {"way": way, "shot": shot, "query": 3})
    assert isinstance(plan, EpisodePlan)
    images = torch.from_numpy(np.concatenate([source.train_images, source.test_images]))
    support, query, labels, answers = plan.train.parted(plan.train.draw(torch.arange(2)))
    return EpisodeBatch(images[support], labels.expand(2, -1), images[query], answers.expand(2, -1), way)


def _setting(source: Source, way: int = 3) -> Setting:
    pixels = PixelStatistics(*source.mean_and_deviation)
    return Setting(20, source.image_shape, 0, torch.device("cpu"), pixels, SMALL["backbone"], way=way)


def test_protonets_temperature_divides_squared_distances_in_its_loss_and_its_scores(source: Source) -> None:
    batch = _batch(source)
    plain, warm = (PrototypicalNetwork(_setting(source), Options(temperature=t)) for t in (1.0, 4.0))
    with torch.no_grad():
        distances, scores = (
            one.predict_episodes(batch.support, batch.support_labels, batch.query).log_softmax(-1)
            for one in (plain, warm)
        )
    torch.testing.assert_close(scores, (distances / 4).log_softmax(-1))
    loss = F.nll_loss(scores.flatten(0, 1), batch.query_labels.flatten())
    torch.testing.assert_close(warm.episode_losses(batch)["cross-entropy"], loss)


def test_protonet_classifies_by_squared_distance_to_prototypes(source: Source) -> None:
    strategy, batch = PrototypicalNetwork(_setting(source)), _batch(source)
    with torch.no_grad():
        scores = strategy.predict_episodes(batch.support, batch.support_labels, batch.query)
        for number in range(2):
            support, query = (strategy.net.features(part[number]) for part in (batch.support, batch.query))
            means = torch.stack(
                [support[batch.support_labels[number] == label].mean(0) for label in range(3)]
            )
            plain = -(query[:, None] - means[None]).square().sum(-1)
            assert torch.allclose(scores[number].log_softmax(1), plain.log_softmax(1), atol=1e-4)


def test_a_mix_is_the_plain_mean_of_its_losses_unless_weights_are_given(source: Source) -> None:
    batch, setting = _batch(source), _setting(source)
    alone = {
        name: float(PrototypicalNetwork(setting, Options(loss=name)).episode_losses(batch)[name])
        for name in ("cross-entropy", "proto-triplet", "icnn")
    }
    mixed = PrototypicalNetwork(setting, Options(loss="cross-entropy+proto-triplet+icnn"))
    for name, value in mixed.episode_losses(batch).items():
        assert float(value) == pytest.approx(alone[name] / 3)
    weighed = PrototypicalNetwork(setting, Options(loss="cross-entropy+icnn", weights=(1.0, 0.2)))
    assert float(weighed.episode_losses(batch)["icnn"]) == pytest.approx(0.2 * alone["icnn"])


@pytest.mark.parametrize(
    ("strategy", "scenario", "message"),
    [
        ("protonet:loss=icn", {}, "unknown loss of protonet 'icn'; did you mean 'icnn'"),
        ("protonet:icnn=every", {}, "unknown icnn variant of protonet 'every'"),
        ("maml", {"train_way": 4}, "maml has an output for each class of an episode"),
        ("er", {}, "er learns from an online stream or sessions, and episodes is episodes"),
        ("joint", {}, "joint learns from"),
    ],
)
def test_what_does_not_fit_episodes_is_refused(
    source: Source, strategy: str, scenario: dict[str, int], message: str
) -> None:
    with pytest.raises(StreamlabError, match=message):
        streamlab.run(
            "episodes", source, [strategy], settings={**SMALL, "scenario": {**SMALL["scenario"], **scenario}}
        )


def test_an_icnn_of_one_shot_supports_says_what_it_lacks(source: Source, tmp_path: Path) -> None:
    scenario = {**SMALL["scenario"], "shot": 1}
    done = streamlab.run(
        "episodes", source, ["protonet:loss=icnn,icnn=support"], seeds=1, out=tmp_path / "r", show=False,
        settings={**SMALL, "scenario": scenario}, workers=0,
    )  # fmt: skip
    assert "a support of one shot has none" in str(done.runs[0].failure)


def test_environments_are_tested_and_reported_by_condition_and_severity(
    source: Source, tmp_path: Path
) -> None:
    scenario = {**SMALL["scenario"], "environments": "occlusion,low-light:5", "corrupted": "both"}
    done = streamlab.run(
        "episodes", source, ["protonet", "simpleshot"], seeds=1, out=tmp_path / "r", show=False,
        settings={**SMALL, "scenario": scenario}, workers=0, record=["geometry"],
    )  # fmt: skip
    for run in done.runs:
        record = run.record
        assert isinstance(record, EpisodeRecord)
        table = by_condition(record)
        assert {name: sorted(own) for name, own in table.items()} == {
            "occlusion": [1, 2, 3, 4, 5],
            "low-light": [5],
        }
        clean = record.tested()
        assert clean is not None
        corrupted = np.mean([tested.accuracy.mean() for tested in record.environments.values()])
        assert run.metrics["environment_accuracy"] == pytest.approx(corrupted)
        assert run.metrics["relative_drop"] == pytest.approx(
            (clean.accuracy.mean() - corrupted) / clean.accuracy.mean()
        )
        assert clean.confusion.sum() == 10 * 3 * 3
        assert run.metrics["episode_accuracy"] == pytest.approx(np.trace(clean.confusion) / 90)
        assert 0 < run.metrics["icnn_score"] <= 1
        assert "episodes" in run.result["not_defined"]["a_auc"]


def test_the_weights_that_were_best_on_meta_validation_are_tested(source: Source, tmp_path: Path) -> None:
    """They are those of a run that ended where the best evaluation was taken."""

    def run(name: str, **scenario: object) -> tuple[EpisodeRecord, float]:
        done = streamlab.run(
            "episodes", source, ["protonet"], seeds=1, out=tmp_path / name, show=False, workers=0, eval_every=3,
            settings={**SMALL, "scenario": {**SMALL["scenario"], **scenario}, "optimizer": {"name": "sgd", "lr": 1.0}},
        )  # fmt: skip
        record = done.runs[0].record
        assert isinstance(record, EpisodeRecord)
        return record, done.runs[0].metrics["episode_accuracy"]

    record, best = run("best", keep="best")
    judged = [e for e in record.evaluations if e.phase == "validation"]
    accuracies = [e.interval.mean for e in judged]
    at = judged[accuracies.index(max(accuracies))].samples_seen
    assert at < 12  # so large a rate makes it worse
    assert run("short", keep="last", episodes=at)[1] == best
    assert run("last", keep="last")[1] != best


@pytest.mark.parametrize("strategy", ["protonet", "simpleshot"])
def test_killed_at_any_instant_and_resumed_episodes_end_with_the_same_bits(
    source: Source, tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamlab.simulator import events
    from streamlab.simulator.episode_simulation import EpisodeSimulation
    from streamlab.simulator.execute import execute

    class Gone(BaseException):
        pass

    settings = {**SMALL, "scenario": {**SMALL["scenario"], "environments": "blur"}}
    request = {"settings": settings, "seeds": 1, "show": False, "workers": 0}
    whole = streamlab.run("episodes", source, [strategy], out=tmp_path / "whole", **request).runs[0]

    from streamlab.data.source import share

    grid = resolved(source, strategy, scenario="episodes", settings=settings)
    laid_out(grid, tmp_path / "cut")
    folder, shared = tmp_path / "cut" / grid.cells[0].folder, share(source)
    calls = [0]

    def always(self: EpisodeSimulation) -> None:
        self.write_checkpoint()
        calls[0] += 1
        if calls[0] in (3, 9, 16):
            assert self.folder is not None
            self.folder.close_log()
            raise Gone

    monkeypatch.setattr(EpisodeSimulation, "checkpoint_if_due", always)
    for _ in range(4):
        with contextlib.suppress(Gone):
            if execute(folder, shared, lambda event: None).complete:
                break
    monkeypatch.undo()
    assert RunFolder(folder).result is not None
    for path in sorted((whole.folder / "evaluations").iterdir()):
        assert path.read_bytes() == (folder / "evaluations" / path.name).read_bytes(), path.name
    timed = ("train_seconds", "evaluation_seconds", "seconds")
    ours, theirs = (
        [{k: v for k, v in event.items() if k not in timed and k != "resources"} for event in own]
        for own in (whole.events, RunFolder(folder).events())
    )
    assert ours == theirs
    assert events.from_plain(ours[-1] | {"resources": {}})


def test_the_learning_rate_halves_by_training_episodes(source: Source) -> None:
    halving = {"lr": 0.01, "name": "adam", "schedule": "step", "unit": "step", "every": 2, "gamma": 0.5}
    rates = []

    class Told(PrototypicalNetwork):
        def episode_losses(self, episodes: EpisodeBatch) -> dict[str, torch.Tensor]:
            assert self.optimizer is not None
            rates.append(self.optimizer.param_groups[0]["lr"])
            return super().episode_losses(episodes)

    settings = {**SMALL, "optimizer": halving}
    simulate(source, Told, scenario="episodes", settings=settings)
    assert rates[:5] == [0.01, 0.01, 0.005, 0.005, 0.0025]


@pytest.mark.parametrize("strategy", ["protonet", "simpleshot"])
def test_keeping_no_features_changes_no_answer(source: Source, tmp_path: Path, strategy: str) -> None:
    shares = []
    for cache in ("1GiB", "0"):
        scenario = {**SMALL["scenario"], "environments": "occlusion:2", "shots": "linear", "most_shot": 4}
        done = streamlab.run(
            "episodes", source, [strategy], seeds=1, out=tmp_path / cache, show=False, workers=0,
            settings={**SMALL, "scenario": scenario, "compute": {"cache": cache}},
        )  # fmt: skip
        record = done.runs[0].record
        assert isinstance(record, EpisodeRecord)
        shares.append([evaluation.accuracy.tolist() for evaluation in record.evaluations])
    assert shares[0] == shares[1]


# Streams


def test_a_stream_strategy_takes_a_metric_term(source: Source, tmp_path: Path) -> None:
    done = streamlab.run(
        "class-incremental", source, ["er", "er:icnn=0.5,proto_triplet=0.1"], seeds=1, out=tmp_path / "r",
        show=False, workers=0, settings={"scenario": {"tasks": 2}},
    )  # fmt: skip
    named = [
        {name for event in run.events if event["event"] == "Evaluated" for name in event["losses"]}
        for run in done.runs
    ]
    assert named == [{"task"}, {"task", "icnn", "proto_triplet"}]


def test_terms_leave_out_batches_that_are_too_small() -> None:
    terms = MetricTerms(icnn=1.0, proto_triplet=1.0)
    assert terms.of(torch.randn(2, 4), torch.tensor([1, 1])) == {}
    assert set(terms.of(torch.randn(3, 4), torch.tensor([1, 1, 5]))) == {"icnn", "proto_triplet"}


# Diagnostics and intervals


def test_a_stream_keeps_its_geometry_at_task_ends(source: Source, tmp_path: Path) -> None:
    done = streamlab.run(
        "class-incremental", source, ["er", "slda"], seeds=1, out=tmp_path / "r", show=False, workers=0,
        settings={"scenario": {"tasks": 4}}, record=["geometry"],
    )  # fmt: skip
    for run, own in zip(done.runs, (6, 4), strict=True):
        found = curve(run.record, "nc1")
        assert [seen for seen, _ in found] == [60, 120, 180, 240]
        named = {
            name for name in run.metrics if name[:2] == "nc" or name in ("icnn_score", "intra_inter_ratio")
        }
        assert len(named) >= own, named
        assert run.metrics["nc1"] == found[-1][1]


def test_collapsed_features_have_no_neural_collapse_left_to_do() -> None:
    labels = torch.arange(4).repeat_interleave(10)
    means = torch.eye(4, dtype=torch.float64) - 0.25
    found = measure_geometry(means[labels], labels, weights=3 * means, predictions=labels)
    assert {name: round(value, 6) for name, value in found.items() if name[:2] == "nc"} == {
        "nc1": 0.0, "nc2": 0.0, "nc3": 0.0, "nc4": 0.0
    }  # fmt: skip
    assert found["intra_inter_ratio"] == pytest.approx(0, abs=1e-9)
    spread = measure_geometry(torch.randn(40, 4), labels, torch.randn(4, 4), torch.zeros(40).long())
    assert spread["nc1"] > 1
    assert min(spread[name] for name in ("nc2", "nc3", "nc4")) > 0.1


def test_uniformity_and_tolerance_are_of_pairs() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    points = torch.randn(6, 3, dtype=torch.float64)
    found = measure_geometry(points, labels)
    unit = [row / row.norm() for row in points]
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    near = [math.exp(-2 * float((unit[i] - unit[j]).square().sum())) for i, j in pairs]
    assert found["uniformity"] == pytest.approx(math.log(sum(near) / len(near)))
    alike = [float(unit[i] @ unit[j]) for i, j in pairs if labels[i] == labels[j]]
    assert found["tolerance"] == pytest.approx(sum(alike) / len(alike))
    assert "tolerance" not in measure_geometry(points[[0, 3, 5]], labels[[0, 3, 5]])


def test_base_and_novel_classes_collapse_apart() -> None:
    """Base classes are collapsed, novel ones are not; each is measured among its own."""
    labels = torch.arange(5).repeat_interleave(10)
    features = 3 * torch.eye(5, dtype=torch.float64)[labels]
    features[30:] += torch.randn(20, 5, dtype=torch.float64)
    found = measure_groups(features, labels, torch.arange(5) < 3)
    assert found["base nc1"] == pytest.approx(0, abs=1e-9)
    assert found["novel nc1"] > 0.01
    alone = measure_geometry(features[30:], labels[30:])
    assert [found[f"novel {name}"] for name in ("nc1", "nc2")] == [alone["nc1"], alone["nc2"]]


def test_few_shot_sessions_keep_both_groups_curves(source: Source, tmp_path: Path) -> None:
    done = streamlab.run(
        "fscil", source, ["proto-cosine"], seeds=1, out=tmp_path / "r", show=False, workers=0,
        settings={"scenario": {"base_classes": 14, "sessions": 3, "way": 2, "shot": 3}, "backbone": {"name": "pixels"}},
        record=["geometry"],
    )  # fmt: skip
    record = done.runs[0].record
    assert len(curve(record, "base nc1")) == 4
    assert len(curve(record, "novel nc1")) == 3
    assert {"uniformity", "tolerance"} <= done.runs[0].metrics.keys()


def test_intervals_over_episodes_and_bootstrap_over_seeds() -> None:
    values = [0.2, 0.4, 0.6, 0.8]
    shown = normal_interval(values)
    assert shown.mean == pytest.approx(0.5)
    assert shown.half_width == pytest.approx(1.96 * np.std(values, ddof=1) / 2)
    low, high = bootstrap(values)
    assert 0.2 < low < 0.5 < high < 0.8
    assert (low, high) == bootstrap(values)
    assert bootstrap([0.3, 0.3]) == pytest.approx((0.3, 0.3))


# learn2learn


def test_without_learn2learn_the_docs_page_is_named() -> None:
    code = (
        "import sys; sys.modules['learn2learn'] = None\n"
        "from streamlab.interop.learn2learn import library\n"
        "from streamlab.errors import StreamlabError\n"
        "try: library()\n"
        "except StreamlabError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "docs/how-to/install.md says how to install it" in done.stdout


def _learn2learn() -> Any:
    from streamlab.interop.learn2learn import library

    try:
        return library()
    except StreamlabError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("first_order", [False, True])
def test_mamls_gradient_is_the_one_derived_by_hand_on_a_linear_model(first_order: bool) -> None:
    """One step on a squared error: w' = w - a X'(Xw - y)·2/n; dL/dw = (I - a·2/n·X'X) · dL/dw'."""
    l2l = _learn2learn()
    torch.manual_seed(0)
    x, y, xq, yq = (torch.randn(*shape, dtype=torch.float64) for shape in ((6, 3), (6, 1), (5, 3), (5, 1)))
    model = torch.nn.Linear(3, 1, bias=False).double()
    learner = l2l.algorithms.MAML(model, 0.1, first_order)
    own = learner.clone()
    own.adapt(F.mse_loss(own(x), y), first_order=first_order)
    F.mse_loss(own(xq), yq).backward()
    w = model.weight.detach().T
    adapted = w - 0.1 * 2 / 6 * x.T @ (x @ w - y)
    outer = 2 / 5 * xq.T @ (xq @ adapted - yq)
    if not first_order:
        outer = (torch.eye(3, dtype=torch.float64) - 0.1 * 2 / 6 * x.T @ x) @ outer
    assert model.weight.grad is not None
    assert torch.allclose(model.weight.grad.T, outer, atol=1e-12)


@pytest.mark.parametrize("first_order", [False, True])
def test_maml_steps_as_learn2learn_by_hand(source: Source, first_order: bool) -> None:
    l2l = _learn2learn()
    from streamlab.parts.adapted import InnerLoop
    from streamlab.strategies.maml import ModelAgnosticMetaLearning

    batch = _batch(source)
    strategy = ModelAgnosticMetaLearning(_setting(source), InnerLoop(first_order=first_order, inner_steps=2))
    by_hand = ModelAgnosticMetaLearning(_setting(source), InnerLoop()).net
    learner = l2l.algorithms.MAML(by_hand, 0.1, first_order)
    losses = []
    for number in range(2):
        own = learner.clone()
        for _ in range(2):
            own.adapt(F.cross_entropy(own(batch.support[number]), batch.support_labels[number]))
        losses.append(F.cross_entropy(own(batch.query[number]), batch.query_labels[number]))
    torch.stack(losses).mean().backward()
    strategy.episode_losses(batch)["task"].backward()
    for mine, its in zip(strategy.net.parameters(), by_hand.parameters(), strict=True):
        assert mine.grad is not None
        assert its.grad is not None
        assert torch.equal(mine.grad, its.grad)


def test_tasks_are_the_same_through_learn2learn_and_back(source: Source, tmp_path: Path) -> None:
    """MAML trained on our task set, and on learn2learn's read as ours: the same tasks, so the same losses."""
    l2l = _learn2learn()
    from streamlab.interop.learn2learn import as_task_set, from_task_set

    plan = make_plan("episodes", source.labels, 0, {"way": 3, "shot": 2, "query": 3, "episodes": 5})
    assert isinstance(plan, EpisodePlan)
    tasks = as_task_set(plan, source)
    assert len(tasks) == 5
    images, labels = tasks.sample()
    episode = plan.train[0]
    everything = np.concatenate([source.train_images, source.test_images])
    first = images.view(3, 5, *images.shape[1:])[:, :2].flatten(0, 1)
    assert np.array_equal((first * 255).round().byte().numpy(), everything[episode.support])
    assert labels.tolist() == np.repeat(np.arange(3), 5).tolist()

    pictures = torch.from_numpy(source.train_images).float() / 255
    data = torch.utils.data.TensorDataset(pictures, torch.from_numpy(source.train_labels))
    meta = l2l.data.MetaDataset(data)
    theirs = l2l.data.TaskDataset(
        meta,
        [
            l2l.data.transforms.NWays(meta, 3),
            l2l.data.transforms.KShots(meta, 5),
            l2l.data.transforms.LoadData(meta),
        ],
        num_tasks=4,
    )
    held, table = from_task_set(theirs, 4)
    np.savez(tmp_path / "tasks.npz", train=table)
    own = make_plan("episodes", held.labels, 0, {"way": 3, "query": 3, "listed": str(tmp_path / "tasks.npz")})
    assert isinstance(own, EpisodePlan)
    again = as_task_set(own, held)
    losses = {}
    for name, given in (("theirs", theirs), ("ours", again)):
        torch.manual_seed(0)
        learner = l2l.algorithms.MAML(torch.nn.Linear(64, 3), 0.5)
        outer = torch.optim.SGD(learner.parameters(), 0.1)
        losses[name] = []
        for number in range(4):
            x, y = given[number]
            rows = torch.cat([(y == label).nonzero().flatten() for label in dict.fromkeys(y.tolist())])
            x = x[rows].flatten(1)
            y = torch.arange(3).repeat_interleave(5)
            clone = learner.clone()
            clone.adapt(F.cross_entropy(clone(x), y))
            loss = F.cross_entropy(clone(x), y)
            outer.zero_grad()
            loss.backward()
            outer.step()
            losses[name].append(float(loss.detach()))
    assert losses["theirs"] == pytest.approx(losses["ours"], abs=1e-6)


def test_what_classifies_queries_together_says_so(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    request = Request(
        scenarios=("episodes",), source=source.name, strategies=("laplacianshot", "pt-map", "simpleshot"),
        seeds=1, workers=0, settings=SMALL,
    )  # fmt: skip
    assert run_experiment(
        request, tmp_path, lambda grid, title: Listening(grid), told.append, {source.name: source}
    )
    noted = [line.split(" is transductive")[0] for line in told if "transductive" in line]
    assert noted == ["laplacianshot", "pt-map"]
    print_episodes(tmp_path)
    shown = capsys.readouterr().out
    assert shown.count("transductive: the queries of an episode are classified together") == 2
