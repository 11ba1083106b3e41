"""The line that joins a method's parts to its steps, where no authors' numbers are at hand: formulas by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from authors import Experience, Given, close, float64, make
from making import make_source, simulate
from torch import nn

from streamlab import plugins
from streamlab.batch import Batch
from streamlab.config import Budget
from streamlab.nets.network import CosineHead
from streamlab.parts.metric_losses import MetricTerms
from streamlab.parts.teacher import Teacher
from streamlab.strategies import gdumb
from streamlab.strategies.lwf import LearningWithoutForgetting
from streamlab.strategy import Strategy


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    with float64():
        yield


MLP = {"name": "mlp", "widths": (5,)}
SHAPE = (1, 2, 3)


def drawn(*labels: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), *SHAPE), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.tensor(labels))


def negative_log_softmax(logits: torch.Tensor, label: int, among: list[int]) -> torch.Tensor:
    """-log(exp z_y / sum over the competing classes of exp z_c), written out."""
    return torch.logsumexp(logits[among], 0) - logits[label]


def cross_entropy(strategy: Strategy, batch: Batch, among: list[int]) -> torch.Tensor:
    logits = strategy.net(batch.images)
    each = [negative_log_softmax(z, y, among) for z, y in zip(logits, batch.label_list, strict=True)]
    return torch.stack(each).mean()


@pytest.mark.parametrize("heads", ["shared", "own"])
@pytest.mark.parametrize("name", ["finetune", "ewc", "mas", "si", "lwf"])
def test_heads_say_which_classes_compete(name: str, heads: str) -> None:
    strategy = make(name, 6, SHAPE, {"heads": heads}, backbone=MLP)
    strategy.current_classes.zero_()[[2, 3]] = True
    batch = drawn(2, 3, 3, 2)
    expected = cross_entropy(strategy, batch, [2, 3] if heads == "own" else list(range(6)))
    close(strategy.observe(batch)["task"], expected)


def test_er_learns_from_the_batch_and_from_as_many_as_it_replays() -> None:
    strategy = make("er", 6, SHAPE, {"replay_size": 3}, backbone=MLP)
    strategy.buffer.add(drawn(0, 1, 1, 0, 1, seed=1))
    batch, replayed = drawn(2, 3), drawn(0, 1, 0, seed=2)
    sizes = []
    strategy.buffer.draw = lambda size: sizes.append(size) or replayed
    both = Batch(torch.cat([batch.images, replayed.images]), torch.cat([batch.labels, replayed.labels]))
    close(strategy.losses(batch)["task"], cross_entropy(strategy, both, list(range(6))))
    assert sizes == [3]


def test_lwf_defaults_are_pycils() -> None:
    options = make("lwf", 3, SHAPE, backbone=MLP).options
    assert (options.weight, options.temperature, options.heads, options.among) == (3.0, 2.0, "own", "old")


def test_replay_learns_new_and_old_by_one_mean() -> None:
    strategy = make("er", 6, SHAPE, {"replay_size": 3}, backbone=MLP)
    batch, replayed = drawn(2, 3), drawn(0, 1, 1, seed=1)
    strategy.buffer = Given([replayed])
    close(strategy.losses(batch)["task"], cross_entropy(strategy, batch.joined(replayed), list(range(6))))
    strategy.remember(batch)
    assert torch.equal(strategy.buffer.added[0].images, batch.images)


@pytest.mark.parametrize("name", ["joint", "fscil-finetune"])
def test_plain_training_is_cross_entropy(name: str) -> None:
    strategy = make(name, 4, SHAPE, backbone=MLP)
    among = list(range(4))
    if name == "fscil-finetune":
        strategy.exposed[3], among = False, [0, 1, 2]
    batch = drawn(0, 2, 1)
    close(strategy.losses(batch)["task"], cross_entropy(strategy, batch, among))


def test_icarl_classifies_by_the_nearest_mean_of_exemplars() -> None:
    strategy = make("icarl", 3, SHAPE, backbone=MLP)
    held = drawn(0, 0, 1, 1, 1, 2, seed=3)
    strategy.buffer.herd(Experience(held.images, held.labels), strategy.features_of)
    strategy.consolidate()
    features = F.normalize(strategy.net.features(held.images))
    means = torch.stack([features[held.labels == label].mean(0) for label in range(3)])
    means = means / means.norm(dim=1, keepdim=True)
    asked = drawn(0, 0, 0, 0, 0, 0, 0, 0, seed=4).images
    distances = torch.cdist(F.normalize(strategy.net.features(asked)), means)
    assert torch.equal(strategy.predict(asked).argmax(1), distances.argmin(1))


def test_bic_holds_equally_many_of_every_class_out_of_its_first_stage_alone() -> None:
    strategy = make("bic", 6, SHAPE, {"validation": 0.25}, {"lr": 0.0001}, backbone=MLP)
    first, second = drawn(*[0, 1] * 12), drawn(*[2, 3] * 9, seed=1)
    strategy.exposed[2:] = False
    strategy.begin_experience(Experience(first.images, first.labels))
    assert not strategy.is_held_out(first).any()  # nothing in the first session
    strategy.end_experience(Experience(first.images, first.labels))
    strategy.exposed[2:4] = True
    strategy.begin_experience(Experience(second.images, second.labels, 1))
    exemplars = strategy.buffer.everything()
    counts = [
        torch.bincount(batch.labels[strategy.is_held_out(batch)], minlength=4).tolist()
        for batch in (exemplars, second)
    ]
    assert counts == [[3, 3, 0, 0], [0, 0, 3, 3]]  # a quarter of 12 exemplars a class
    taught: list[Batch] = []
    losses = strategy.losses

    def heard(batch: Batch) -> dict[str, torch.Tensor]:
        taught.append(batch)
        return losses(batch)

    strategy.losses = heard
    strategy.observe(second)
    assert not any(strategy.is_held_out(batch).any() for batch in taught)
    assert len(taught[0]) >= 12
    before = strategy.alpha.clone()
    strategy.end_experience(Experience(second.images, second.labels, 1))
    assert torch.equal(strategy.alpha[:2], before[:2])
    assert (strategy.alpha[2:4] != 1).all()
    assert (strategy.alpha[4:] == 1).all()


def test_foster_judges_the_boosted_network_and_hands_on_the_compressed_one() -> None:
    strategy = make("foster", 4, SHAPE, {"compression_epochs": 1}, backbone=MLP)
    first, second, third = (drawn(*pair * 5, seed=n) for n, pair in enumerate([[0, 1], [2], [3]]))
    strategy.exposed[2:] = False
    views = [Experience(b.images, b.labels, n) for n, b in enumerate((first, second, third))]
    strategy.begin_experience(views[0])
    strategy.end_experience(views[0])
    strategy.exposed[2] = True
    strategy.begin_experience(views[1])
    strategy.observe(second)
    strategy.end_experience(views[1])
    images = first.images
    old, new = torch.split(strategy.net.features(images), 5, dim=1)
    head = strategy.net.head
    close(strategy.predict(images), old @ head.old.weight.T + new @ head.new.weight.T + head.new.bias)
    student = {name: tensor.clone() for name, tensor in strategy.student.state_dict().items()}
    strategy.begin_experience(views[2])
    close(strategy.net.backbone.earlier[0].layers[1].weight, student["backbone.layers.1.weight"])
    close(strategy.net.backbone.newest.layers[1].weight, student["backbone.layers.1.weight"])
    assert not any(p.requires_grad for p in strategy.net.backbone.earlier.parameters())


def test_prototype_replays_classes_and_its_teacher_follow_where_boundaries_are_hidden() -> None:
    strategy = make(
        "prototype-replay", 4, SHAPE, {"teacher_decay": 0.9}, backbone=MLP, shows_boundaries=False
    )  # fmt: skip
    batch = drawn(0, 1, 0, 1)
    strategy.observe(batch)
    first = strategy.teacher.layers[1].weight.clone()
    close(first, strategy.net.backbone.layers[1].weight)
    strategy.observe(drawn(2, 3, 2, 3, seed=1))
    close(strategy.teacher.layers[1].weight, 0.9 * first + 0.1 * strategy.net.backbone.layers[1].weight)
    assert strategy.prototypes.known.all()


def test_si_takes_the_path_of_the_task_loss_alone() -> None:
    strategy = make("si", 3, SHAPE, {"strength": 7.0}, {"lr": 0.5}, backbone=MLP)
    batch = drawn(0, 1, 2)
    strategy.observe(batch)
    strategy.end_experience(Experience(batch.images, batch.labels))
    parameters = [p.detach().clone() for p in strategy.regulariser.parameters]
    gradients = torch.autograd.grad(
        cross_entropy(strategy, batch, [0, 1, 2]), strategy.regulariser.parameters
    )
    numbers = strategy.observe(batch)
    assert float(numbers["penalty"]) == 0  # it stands where it is anchored
    for omega, gradient, before, now in zip(
        strategy.omega, gradients, parameters, strategy.regulariser.parameters, strict=True
    ):
        close(omega, -gradient * (now - before))
    regulariser = strategy.regulariser
    with torch.no_grad():
        moved = zip(regulariser.importance, regulariser.anchors, regulariser.parameters, strict=True)
        expected = 7.0 * sum((i * (p - a).square()).sum() for i, a, p in moved)  # c of eq. 4
    assert expected > 0
    close(strategy.observe(batch)["penalty"], expected)


def test_mixed_metric_terms_are_weighted_sums() -> None:
    plain = make("finetune", 4, SHAPE, backbone=MLP)
    mixed = make("finetune", 4, SHAPE, {"icnn": 0.5, "proto_triplet": 2.0}, backbone=MLP)
    batch = drawn(0, 1, 2, 0, 1, 2, 3, 3)
    losses = mixed.losses(batch)
    close(losses["task"], plain.losses(batch)["task"])
    features = mixed.net.features(batch.images)
    means = torch.stack([features[batch.labels == c].mean(0) for c in range(4)])
    gaps = ((features[:, None] - means[None]).square().sum(-1) + 1e-6).sqrt()
    own = gaps[torch.arange(8), batch.labels]
    rivals = gaps.scatter(1, batch.labels[:, None], torch.inf).amin(1)
    close(losses["proto_triplet"], 2.0 * (own - rivals + 0.5).clamp(min=0).mean())


def test_mvps_starting_values_are_the_authors() -> None:
    tiny = {"name": "vit", "patch_size": 4, "width": 32, "depth": 5, "heads": 2}
    strategy = make("mvp", 30, (1, 8, 8), {"pool_size": 20}, backbone=tiny)
    assert (strategy.masks == -1).all()
    for rows in (strategy.general.rows, strategy.expert.rows, strategy.keys):
        assert rows.mean().abs() < 0.1
        assert abs(rows.std() - 1) < 0.1
    assert abs(strategy.net.head.weight.std() - 0.02) < 0.003
    assert not strategy.net.head.bias.any()
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    scaled = strategy.net.scaled(images)
    close(strategy.embed(images), strategy.transformer.query(scaled, 4))  # before the last of 5 blocks


@pytest.mark.parametrize("name", ["l2p", "dualprompt"])
def test_the_other_prompts_begin_as_their_presets_say(name: str) -> None:
    tiny = {"name": "vit", "patch_size": 4, "width": 32, "depth": 5, "heads": 2}
    rows = {"l2p": lambda s: s.prompts, "dualprompt": lambda s: s.expert.rows}[name]
    strategy = make(name, 30, (1, 8, 8), backbone=tiny)
    for tensor in (rows(strategy), strategy.keys):
        assert tensor.min() < -0.95
        assert tensor.max() > 0.95
        assert tensor.abs().max() <= 1
        assert abs(tensor.std() - 3**-0.5) < 0.05
    assert abs(strategy.net.head.weight.std() - 0.02) < 0.003
    google = make(name, 30, (1, 8, 8), {"preset": "google"}, backbone=tiny)
    details = google.details
    if name == "l2p":
        assert rows(google).min() >= 0
        assert rows(google).max() <= 0.01
        assert (details.length, details.selection, details.pull, details.clip) == (10, 4, 1.0, 1.0)
    else:
        assert (details.length_e, details.prompting, details.selection) == (20, "prefix", "task")


def test_where_tasks_are_shown_prompts_learn_among_the_tasks_classes() -> None:
    tiny = {"name": "vit", "patch_size": 4, "width": 16, "depth": 5, "heads": 2}
    for name in ("l2p", "dualprompt"):
        losses = {}
        for shown in (True, False):
            strategy = make(name, 4, (1, 8, 8), {"pull": 0.0}, backbone=tiny, shows_boundaries=shown)
            strategy.net.head.weight.data.mul_(50)
            strategy.current_classes.fill_(not shown)[[2, 3]] = True
            images = torch.randint(
                0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
            )
            batch = Batch(images, torch.tensor([2, 3, 2, 3]))
            asked = strategy.embed(images)
            found = strategy.losses(batch)["task"]
            if name == "l2p":
                logits = strategy.prompted(images, asked, strategy.details.batchwise != "never")[0]
            else:
                experts = (asked @ F.normalize(strategy.keys).T).argmax(1)
                logits = strategy.logits(images, torch.zeros_like(experts) if shown else experts)
            among = [2, 3] if shown else [0, 1, 2, 3]
            each = [negative_log_softmax(z, y, among) for z, y in zip(logits, batch.label_list, strict=True)]
            close(found, torch.stack(each).mean())
            losses[shown] = float(found)


def test_exemplars_of_prompts_are_drawn_anew_for_each_update() -> None:
    strategy = make("linear-probe", 6, SHAPE, {"replay_size": 2}, {"lr": 0.0001}, MLP)
    strategy.buffer = Given([drawn(0, 1), drawn(2, 3), drawn(4, 5)])
    batch = drawn(0, 1, seed=7)
    for update in range(3):
        replayed = strategy.buffer.draws[0]
        expected = cross_entropy(strategy, batch.joined(replayed), list(range(6)))
        close(strategy.observe(batch)["task"], expected)
        assert len(strategy.buffer.draws) == 2 - update
    strategy.remember(batch)
    assert strategy.current.batch is None


def test_the_surveys_accounting_counts_prompts_keys_and_masks() -> None:
    tiny = {"name": "vit", "patch_size": 4, "width": 16, "depth": 5, "heads": 2}
    torch.set_default_dtype(torch.float32)
    strategy = make("mvp", 4, (1, 8, 8), backbone=tiny)
    parameters = sum(p.numel() for p in strategy.net.backbone.parameters())
    prompts = [strategy.general.rows, strategy.expert.rows, strategy.keys, strategy.masks]
    expected = 4 * (parameters + sum(p.numel() for p in prompts))
    assert strategy.account.ledger().beside_exemplars(Budget(accounting="survey")) == expected


class TwoBuffers(Strategy):
    """Keeps new samples in two buffers."""

    def setup(self) -> None:
        self.first, self.second = self.make_buffer(), self.make_buffer("balanced")

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}

    def remember(self, batch: Batch) -> None:
        self.first.add(batch)
        self.second.add(batch)


def test_two_buffers_share_a_budget_and_draw_apart() -> None:
    torch.set_default_dtype(torch.float32)
    source = make_source()
    held = simulate(source, TwoBuffers, budget="7ex").strategy
    assert [held.first.capacity, held.second.capacity] == [4, 3]
    static = simulate(source, TwoBuffers, budget="1ex").strategy.account.bytes_needed(Budget())
    each = held.first.exemplar_bytes
    bought = simulate(source, TwoBuffers, budget=f"{static + 9 * each}b").strategy
    assert [bought.first.capacity, bought.second.capacity] == [4, 4]

    class Twins(TwoBuffers):
        def setup(self) -> None:
            self.first, self.second = self.make_buffer(), self.make_buffer()

    twins = simulate(source, Twins, budget="40ex").strategy
    assert not torch.equal(twins.first.images, twins.second.images)


def test_the_current_classes_of_a_blurry_task_include_those_of_its_foreign_samples() -> None:
    torch.set_default_dtype(torch.float32)
    seen = []

    class Watching(LearningWithoutForgetting):
        def begin_experience(self, view: Experience) -> None:
            seen.append((set(view.classes), set(view.labels.tolist()), self.current_classes.clone()))

    settings = {"scenario": {"boundaries": "shown", "tasks": 3, "blurry_percent": 60}}
    simulate(make_source(), Watching, scenario="si-blurry", settings=settings)
    assert any(labels - classes for classes, labels, _ in seen)  # some samples are others'
    for classes, labels, current in seen:
        assert set(current.nonzero().flatten().tolist()) == classes | labels


def test_teens_head_is_a_cosine_of_the_papers_temperature() -> None:
    head = CosineHead(3, 2, 16.0)
    features = torch.randn(4, 3)
    expected = 16 * torch.stack(
        [nn.functional.cosine_similarity(features, row[None]) for row in head.weight], 1
    )
    close(head(features), expected)


@pytest.mark.parametrize(("clamp", "sums"), [("total", [1.0, 0.0, 5.0]), ("none", [1.0, -2.0, 3.0])])
def test_si_keeps_the_sum_of_importances_from_falling_below_zero_unless_told(
    clamp: str, sums: list[float]
) -> None:
    strategy = make("si", 2, SHAPE, {"clamp": clamp, "damping": 1.0}, backbone=MLP)
    batch = drawn(0, 1)
    for step, expected in zip((1.0, -3.0, 5.0), sums, strict=True):
        strategy.omega = [torch.full_like(omega, step) for omega in strategy.omega]
        strategy.end_experience(
            Experience(batch.images, batch.labels)
        )  # nothing has moved: += omega / damping
        close(strategy.regulariser.importance[0], torch.full_like(strategy.omega[0], expected))


def test_gdumb_clips_the_gradient_of_all_parameters_together() -> None:
    options = gdumb.Options(clip=0.01, weight_decay=0.0, batch_size=4)
    strategy = make("gdumb", 3, SHAPE, backbone=MLP)
    before = [p.detach().clone() for p in strategy.trained_parameters()]
    gdumb.train(strategy.net, strategy.trained_parameters(), drawn(0, 1, 2, 0), [torch.arange(4)], options)
    moved = torch.cat([(p - b).flatten() for p, b in zip(strategy.trained_parameters(), before, strict=True)])
    close(moved.norm(), torch.tensor(0.01 * options.max_lr * 0.1), 1e-4)  # the first pass is at a tenth


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("name", ["der++", "er-ace"])
def test_new_and_replayed_images_pass_apart_where_a_network_normalises_by_batch(name: str, norm: str) -> None:
    """The authors' codes pass each alone, so that each has a mean and a deviation of its own."""
    strategy = make(name, 6, (1, 4, 4), backbone={"name": "mlp", "widths": (5,), "norm": norm})
    draws = torch.Generator().manual_seed(0)

    def images(count: int) -> torch.Tensor:
        return torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=draws)

    batch = Batch(images(7), torch.arange(7) % 2)
    dark = Batch(images(5), torch.arange(5), {"logits": torch.randn(5, 6)})
    plain = Batch(images(5), torch.arange(5))
    strategy.exposed[:] = True
    strategy.buffer = Given([dark, plain] if name == "der++" else [plain])
    strategy.train_mode(True)
    found = strategy.losses(batch)
    logits = strategy.net(batch.images)
    if name == "der++":
        expected = {
            "task": F.cross_entropy(logits, batch.labels),
            "logits": 0.5 * F.mse_loss(strategy.net(dark.images), dark.extras["logits"]),
            "replay": 0.5 * F.cross_entropy(strategy.net(plain.images), plain.labels),
        }
    else:
        expected = {
            "task": F.cross_entropy(logits[:, :2], batch.labels),
            "replay": F.cross_entropy(strategy.net(plain.images), plain.labels),
        }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


REPLAYING = (
    "aser", "bic", "cls-er", "coil", "der++", "er", "er-ace", "expandable-der", "foster", "gss", "head-retraining",
    "icarl", "logit-adjustment", "memo", "mir", "pcr", "podnet", "scr", "wa", "wise-ft",
)  # fmt: skip
ALONE = ("finetune", "lwf", "prototype-replay")


def _with_metric_options() -> set[str]:
    found = {name: plugins.load("strategies", name).options_type() for name in plugins.names("strategies")}
    return {name for name, options in found.items() if issubclass(options, MetricTerms)}


def test_every_strategy_with_metric_terms_is_tested_here() -> None:
    assert _with_metric_options() == {*REPLAYING, *ALONE}


@pytest.mark.parametrize("name", [*REPLAYING, *ALONE])
def test_metric_terms_are_of_new_and_replayed_features(name: str) -> None:
    """Beside each method's own losses, which stay what they are: of the batch and of all that is replayed."""
    backbone = {"name": "convnet", "width": 4, "blocks": 1} if name == "podnet" else MLP
    terms = {"icnn": 0.5, "proto_triplet": 2.0, "margin": 1.0}
    plain, mixed = (make(name, 4, SHAPE, given, backbone=backbone) for given in ({}, terms))
    new, old = drawn(0, 1, 2, 0, 1, 2, 3, 3), drawn(0, 0, 1, 2)
    old = old.with_extras(logits=torch.zeros(4, 4), score=torch.zeros(4))
    replayed = [] if name in ALONE or name == "bic" else [old] * (2 if name == "der++" else 1)
    losses = []
    for strategy in (plain, mixed):
        if name in REPLAYING:
            strategy.buffer.draw = lambda size, queue=list(replayed): queue.pop(0)
        if isinstance(getattr(strategy, "teacher", None), Teacher):
            strategy.teacher.take(strategy.net, torch.arange(4) < 2)
        if name in ("pcr", "scr"):
            strategy.second.of = lambda images: images.flip(3)
        losses.append(strategy.losses(new))
    for key, value in losses[0].items():
        assert torch.equal(losses[1][key], value)
    everything = (
        [*replayed, new] if name in ("aser", "scr") else [new, *replayed]
    )  # ties go to whom comes first
    images, labels = (torch.cat([getattr(b, part) for b in everything]) for part in ("images", "labels"))
    if name == "pcr":  # views of each part, one after the other
        images = torch.cat([torch.cat([batch.images, batch.images.flip(3)]) for batch in everything])
        labels = torch.cat([batch.labels.repeat(2) for batch in everything])
    if name == "scr":
        images, labels = torch.cat([images, images.flip(3)]), labels.repeat(2)
    features = mixed.net.features(images)
    expected = MetricTerms(**terms).of(features, labels)
    assert set(losses[1]) - set(losses[0]) == set(expected) == {"icnn", "proto_triplet"}
    for key, value in expected.items():
        close(losses[1][key], value, 1e-5)


def test_weights_are_mixed_from_the_second_experience_on() -> None:
    """(1 - alpha) · before + alpha · after; rows of classes that are new stay as they were learned."""
    strategy = make("wise-ft", 4, SHAPE, {"alpha": 0.25, "replay_size": 0}, backbone=MLP)
    strategy.exposed[2:] = False

    def seen(*labels: int) -> Experience:
        batch = drawn(*labels)
        return Experience(batch.images, batch.labels)

    first = {name: value.clone() for name, value in strategy.net.state_dict().items()}
    strategy.begin_experience(seen(0, 1))
    strategy.observe(drawn(0, 1, 1, 0))
    one = {name: value.clone() for name, value in strategy.net.state_dict().items()}
    strategy.end_experience(seen(0, 1))
    assert all(torch.equal(value, one[name]) for name, value in strategy.net.state_dict().items())
    assert not torch.equal(one["head.weight"], first["head.weight"])
    strategy.begin_experience(seen(2))
    assert strategy.before is not None
    strategy.exposed[2] = True
    strategy.observe(drawn(2, 2, 2, 2))
    two = {name: value.clone() for name, value in strategy.net.state_dict().items()}
    strategy.end_experience(seen(2))
    assert strategy.before is None
    for name, value in strategy.net.state_dict().items():
        expected = 0.75 * one[name] + 0.25 * two[name]
        if name.startswith("head."):
            expected[2:] = two[name][2:]
        close(value, expected, 1e-6)
