"""Class-incremental and online methods equal their authors' code: losses, steps, and what a session leaves.

Vectors: tests/vectors/method_*, described in docs/explanation/vectors.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from authors import (
    Experience,
    Given,
    cases,
    close,
    each,
    float64,
    layers,
    load,
    make,
    put,
    total,
    with_layers,
)

from streamlab.batch import Batch
from streamlab.memory.policies import herding
from streamlab.nets.network import Entry
from streamlab.parts.prototypes import Prototypes
from streamlab.strategies import agem, bic, foster, gdumb, gem, ranpac
from streamlab.strategy import Strategy

SESSION = {"lr": 0.1, "momentum": 0.9, "weight_decay": 2e-4}


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    with float64():
        yield


def steps(z: dict[str, torch.Tensor], images: str = "images", labels: str = "labels") -> list[Batch]:
    return [Batch(x, y) for x, y in zip(z[images], z[labels], strict=True)]


def begun(strategy: Strategy, old: int) -> None:
    """A session after the first: those seen from `old` on are the current ones."""
    strategy.current_classes.copy_(strategy.exposed)
    strategy.current_classes[:old] = False


@each("herding")
def test_herding_chooses_icarls_rows_and_its_mean(file: str) -> None:
    z = load(file)
    chosen = herding(z["features"], len(z["chosen"]))
    assert chosen == z["chosen"].tolist()
    strategy = make("icarl", 2, (1, 1, z["features"].shape[1]), backbone={"name": "pixels"})
    strategy.embed = lambda images: images
    units = z["features"] / z["features"].norm(dim=1, keepdim=True)
    mean = units[chosen].mean(0)
    close(mean / mean.norm(), z["class_mean"], 1e-7)  # the authors add 1e-8 to every length


def distilling(file: str, name: str, coefficient: float, **options: object) -> tuple[dict, Strategy]:
    """Run a session's steps, comparing the losses in their cross-entropy form and the steps' end."""
    z = load(file)
    strategy = with_layers(name, z, options=options, optimizer=SESSION)
    old = z["old_classes"]
    begun(strategy, old)
    teacher = strategy.make_network()
    put(teacher, z, "teacher_")
    strategy.teacher.take(teacher, torch.arange(z["total_classes"]) < old)
    if "alpha" in z:
        strategy.alpha, strategy.beta = z["alpha"], z["beta"]
    for number, batch in enumerate(steps(z)):
        numbers = total(strategy.observe(batch))
        close(numbers + coefficient * z["teacher_entropy"][number], z["losses"][number])
    return z, strategy


@each("lwf_session")
def test_lwf_learns_as_pycil(file: str) -> None:
    z, strategy = distilling(file, "lwf", 3.0)
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])
    strategy.end_experience(Experience(z["images"][0], z["labels"][0]))
    assert strategy.teacher.classes.all()
    close(strategy.teacher.network.head.weight, z["end_w2"])


@each("lwf_seen")
def test_lwf_among_all_seen_is_van_de_vens(file: str) -> None:
    z = load(file)
    seen, old = z["student"].shape[1], z["teacher"].shape[1]
    strategy = make("lwf", seen, (1, 1, 4), {"among": "seen", "weight": z["temperature"] ** 2, "heads": "shared",
                    "temperature": z["temperature"]}, backbone={"name": "pixels"})  # fmt: skip
    student = z["student"].requires_grad_()
    strategy.net = torch.nn.Identity()
    strategy.net.features, strategy.net.head = torch.nn.Identity(), torch.nn.Identity()
    teacher = torch.cat([z["teacher"], torch.randn(len(student), seen - old)], 1)
    strategy.teacher.take(torch.nn.Linear(seen, seen), torch.arange(seen) < old)
    strategy.teacher.network = lambda images: teacher
    kd = strategy.losses(Batch(student, torch.zeros(len(student), dtype=torch.int64)))["distillation"]
    close(kd + z["teacher_entropy_T2"], z["loss"])
    close(torch.autograd.grad(kd, student)[0], z["grad_student"])


@each("wa_session")
def test_wa_learns_and_aligns_as_pycil(file: str) -> None:
    share = (lambda z: z["old_classes"] / z["total_classes"])(load(file))
    z, strategy = distilling(file, "wa", share, alignment="paper")
    found = layers(strategy.net)
    for name in ("w1", "b1", "b2"):
        close(found[name], z[f"end_{name}"])
    close(found["w2"], z["end_w2_unaligned"])
    strategy.end_experience(Experience(z["images"][0], z["labels"][0]))
    close(strategy.net.head.weight, z["end_w2"])
    close(strategy.teacher.network.head.weight, z["end_w2"])


@each("bic_session")
def test_bics_first_stage_is_pycils(file: str) -> None:
    share = (lambda z: z["old_classes"] / z["total_classes"])(load(file))
    z, strategy = distilling(file, "bic", share)
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])
    images = z["images"][0]
    with torch.no_grad():
        close(strategy.predict(images), strategy.alpha * strategy.net(images) + strategy.beta)


@each("bic_correction")
def test_bics_second_stage_finds_the_optimum(file: str) -> None:
    z = load(file)
    new = torch.arange(z["logits"].shape[1]) >= z["old_classes"]
    for penalty, name in (("none", "plain"), ("authors", "authors"), ("ridge", "product_ridge")):
        found = bic.bias_correction(z["logits"], z["labels"], new, penalty)
        close(torch.tensor(found), z[name], 1e-7)  # BFGS stopped at a gradient of 1e-12


@each("icarl_session")
def test_icarl_learns_as_its_authors(file: str) -> None:
    z = load(file)
    strategy = with_layers("icarl", z, optimizer={"lr": 0.05})
    old = z["old_classes"]
    strategy.exposed[z["total_classes"] :] = False
    begun(strategy, old)
    teacher = strategy.make_network()
    put(teacher, z, "teacher_")
    strategy.teacher.take(teacher, torch.arange(len(strategy.exposed)) < old)
    for number, batch in enumerate(steps(z)):
        close(total(strategy.observe(batch)), z["losses_sum"][number])
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])


@each("der_session")
def test_expandable_der_learns_as_pycil(file: str) -> None:
    z = load(file)
    old, total_classes, width = z["old_classes"], z["total_classes"], len(z["e0_w"])
    strategy = make(
        "expandable-der", total_classes, z["images"].shape[-3:],
        {"alignment": "paper", "auxiliary": z["auxiliary"]}, SESSION, {"name": "mlp", "widths": (width,)},
    )  # fmt: skip
    strategy.net.entry = Entry((float(z["scale"]),), (float(z["shift"]),))
    first = strategy.net.backbone.newest.layers[1]
    with torch.no_grad():
        first.weight.copy_(z["e0_w"]), first.bias.copy_(z["e0_b"])
    was = strategy.net.head.weight.detach().clone(), strategy.net.head.bias.detach().clone()
    experience = Experience(z["images"].flatten(0, 1), z["labels"].flatten(), 1)
    strategy.extractors.old_classes[:old] = True
    strategy.begin_experience(experience)
    head = strategy.net.head
    close(head.weight[:old, :width], was[0][:old])  # what old classes know is inherited
    close(head.bias[:old], was[1][:old])
    assert not torch.isclose(head.weight[old:, :width], was[0][old:]).any()  # the rest is drawn anew
    newest, auxiliary = strategy.net.backbone.newest.layers[1], strategy.extractors.auxiliary.head
    with torch.no_grad():
        close(newest.weight, z["e0_w"])  # the new extractor begins as a copy
        newest.weight.copy_(z["e1_w"]), newest.bias.copy_(z["e1_b"])
        head.weight.copy_(z["head_w"]), head.bias.copy_(z["head_b"])
        order = [total_classes, *range(old, total_classes)]  # theirs: old classes as one first
        auxiliary.weight[order] = z["aux_w"]
        auxiliary.bias[order] = z["aux_b"]
    begun(strategy, old)
    for number, batch in enumerate(steps(z)):
        close(total(strategy.observe(batch)), z["losses"][number])
    close(newest.weight, z["end_e1_w"])
    close(newest.bias, z["end_e1_b"])
    close(first.weight, z["e0_w"])
    close(head.weight, z["end_head_w_unaligned"])
    close(auxiliary.weight[order], z["end_aux_w"])
    close(auxiliary.bias[order], z["end_aux_b"])
    strategy.end_experience(experience)
    close(head.weight, z["end_head_w"])
    close(head.bias, z["end_head_b"])


@each("memo_session")
def test_memo_learns_as_its_authors(file: str) -> None:
    z = load(file)
    start = {name.removeprefix("start_"): array for name, array in z.items() if name.startswith("start_")}
    width, old = len(start["backbone_general_0_weight"]), z["old_classes"]
    trains = "train_general" not in z or bool(z["train_general"])
    frozen_general = file.endswith("_c.npz")
    strategy = make(
        "memo", len(start["head_bias"]), z["images"].shape[-3:],
        {"alignment": "paper", "auxiliary": z["auxiliary"], "train_general": trains and not frozen_general},
        SESSION, {"name": "convnet", "blocks": 2, "width": width},
    )  # fmt: skip
    strategy.net.entry = Entry((float(z["scale"]),), (float(z["shift"]),))
    experience = Experience(z["images"].flatten(0, 1), z["labels"].flatten(), 1)
    strategy.exposed[z["total_classes"] :] = False
    strategy.extractors.old_classes[:old] = True
    strategy.begin_experience(experience)
    named = {name.replace(".", "_"): p for name, p in strategy.net.named_parameters()}
    named |= {f"auxiliary_head_{n}": p for n, p in strategy.extractors.auxiliary.head.named_parameters()}
    with torch.no_grad():
        for name, value in start.items():
            named[name].copy_(value)
    begun(strategy, old)
    for number, batch in enumerate(steps(z)):
        close(total(strategy.observe(batch)), z["losses"][number])
    strategy.end_experience(experience)
    close(strategy.net.head.weight[: z["total_classes"]], z["end_head_weight"])
    close(strategy.net.head.bias[: z["total_classes"]], z["end_head_bias"])
    for part in ("general", "newest"):
        module = getattr(strategy.net.backbone, part)
        close(torch.cat([p.flatten() for p in module.parameters()]), z[f"end_{part}"])


@pytest.mark.parametrize("kind", ["authors", "paper"])
def test_foster_boosts_as_its_authors(kind: str) -> None:
    for file in cases(f"foster_boost_{kind}"):
        z = load(file)
        old, width = z["old_classes"], len(z["e0_w"])
        decay = 5e-4 if kind == "authors" else 0.0
        strategy = make(
            "foster", z["total_classes"], z["images"].shape[-3:],
            {"classifier": "whole" if kind == "authors" else "new", "beta_boost": z["beta"],
             "temperature": z["temperature"]},
            {"lr": 0.1, "momentum": 0.9, "weight_decay": decay}, {"name": "mlp", "widths": (width,)},
        )  # fmt: skip
        net = strategy.net
        net.entry = Entry((float(z["scale"]),), (float(z["shift"]),))
        with torch.no_grad():
            net.backbone.layers[1].weight.copy_(z["e0_w"]), net.backbone.layers[1].bias.copy_(z["e0_b"])
            net.head.weight[:old], net.head.bias[:old] = z["old_w"], z["old_b"]
        strategy.old_classes[:old] = True
        strategy.begin_experience(Experience(z["images"].flatten(0, 1), z["labels"].flatten(), 1))
        head, newest = strategy.net.head, strategy.net.backbone.newest.layers[1]
        close(head.old.weight[:old], z["old_w"])  # what the old network knows is inherited
        close(head.new.bias[:old], z["old_b"])
        assert kind == "authors" or not head.old.weight[old:].any()
        with torch.no_grad():
            newest.weight.copy_(z["e1_w"]), newest.bias.copy_(z["e1_b"])
            head.old.weight.copy_(z["fc_w"][:, :width]), head.new.weight.copy_(z["fc_w"][:, width:])
            head.new.bias.copy_(z["fc_b"])
            strategy.enhancement.weight.copy_(z["fe_w"]), strategy.enhancement.bias.copy_(z["fe_b"])
        strategy.counts = z["counts"]
        close(foster.class_weights(z["counts"], z["beta"]), z["class_weights"])
        begun(strategy, old)
        for number, batch in enumerate(steps(z)):
            close(total(strategy.observe(batch)) + z["teacher_entropy"][number], z["losses"][number])
        close(torch.cat([head.old.weight, head.new.weight], 1), z["end_fc_w"])
        close(head.new.bias, z["end_fc_b"])
        close(newest.weight, z["end_e1_w"])
        close(strategy.enhancement.weight, z["end_fe_w"])
        strategy.train_mode(False)
        with torch.no_grad():
            close(strategy.predict(z["probe"]), z["probe_logits"])  # both networks are judged


@each("foster_compress")
def test_foster_compresses_as_its_authors(file: str) -> None:
    z = load(file)
    width, images = len(z["w"]), z["images"].flatten(0, 1)
    strategy = make(
        "foster", z["total_classes"], images.shape[1:],
        {"beta_compress": z["beta"], "temperature": z["temperature"], "compression_epochs": 1,
         "compression_batch": z["images"].shape[1]},
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}, {"name": "mlp", "widths": (width,)},
    )  # fmt: skip
    student, strategy.counts = strategy.make_network(), z["counts"]
    student.entry = Entry((float(z["scale"]),), (float(z["shift"]),))
    with torch.no_grad():
        student.backbone.layers[1].weight.copy_(z["w"]), student.backbone.layers[1].bias.copy_(z["b"])
        student.head.weight.copy_(z["head_w"]), student.head.bias.copy_(z["head_b"])
    told = iter(z["teacher_logits"])
    strategy.net.forward = lambda images: next(told)  # what both networks say
    strategy.compress(student, Experience(images, z["labels"].flatten()))
    close(student.backbone.layers[1].weight, z["end_w"])
    close(student.head.weight, z["end_head_w"])
    close(student.head.bias, z["end_head_b"])
    teacher = z["teacher_logits"][0]
    close(foster.class_weights(z["counts"], z["beta"]), z["class_weights"])
    assert foster.balanced_distillation(teacher, teacher, torch.ones(teacher.shape[1]), 2.0) > 0


@each("er_ace")
def test_er_ace_learns_by_equation_4(file: str) -> None:
    z = load(file)
    strategy = with_layers("er-ace", z)
    strategy.exposed[z["seen"] :] = False
    strategy.buffer = Given(steps(z, "replay_images", "replay_labels"))
    for number, batch in enumerate(steps(z)):
        close(total(strategy.observe(batch)), z["losses"][number])
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])


@each("der_plus_plus")
def test_der_plus_plus_learns_and_stores_as_mammoth(file: str) -> None:
    z = load(file)
    strategy = with_layers("der++", z, options={"alpha": z["alpha"], "beta": z["beta"]})
    draws = []
    for number in range(len(z["images"])):
        nobody = torch.zeros(len(z["dark_images"][number]), dtype=torch.int64)
        draws += [Batch(z["dark_images"][number], nobody, {"logits": z["dark_logits"][number]})]
        draws += [Batch(z["plain_images"][number], z["plain_labels"][number])]
    strategy.buffer = Given(draws)
    for number, batch in enumerate(steps(z)):
        close(total(strategy.observe(batch)), z["losses"][number])
        strategy.remember(batch)
        close(strategy.buffer.added[-1].extras["logits"], z["stored_logits"][number])
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])


@each("agem")
def test_agem_projects_as_mammoth(file: str) -> None:
    z = load(file)
    strategy = with_layers("agem", z)
    references = steps(z, "reference_images", "reference_labels")
    strategy.buffer = Given(references)
    for number, batch in enumerate(steps(z)):
        close(strategy.observe(batch)["task"], z["losses"][number])
    assert (z["products"] < 0).any()
    assert references != []
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])
    g, r = torch.randn(2, 9)
    close(agem.project(g, r * torch.sign(g @ r)), g)


@each("gem_projection")
def test_gem_solves_its_quadratic_program(file: str) -> None:
    z = load(file)
    close(gem.project(z["gradient"], z["references"], z["margin"]), z["projected"])


@each("gem_steps")
def test_gem_learns_as_mammoth(file: str) -> None:
    z = load(file)
    strategy = with_layers("gem", z, optimizer={"lr": 0.05})
    strategy.buffer.keep([], len(z["memory_images"]))
    memory = Batch(z["memory_images"], z["memory_labels"], {"task": z["memory_tasks"]})
    strategy.buffer.add(memory)
    strategy.begin_experience(Experience(z["images"][0], z["labels"][0], int(z["memory_tasks"].max()) + 1))
    for number, batch in enumerate(steps(z)):
        close(strategy.observe(batch)["task"], z["losses"][number])
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])


@each("mir")
def test_mir_replays_what_is_interfered_most(file: str) -> None:
    z = load(file)
    size = z["chosen"].shape[1]
    for combine, lr in (("joint", 0.1), ("sum", 0.05)):
        options = {"replay_size": size, "candidates": len(z["candidate_images"][0]), "combine": combine}
        strategy = with_layers("mir", z, options=options, optimizer={"lr": lr})
        candidates = steps(z, "candidate_images", "candidate_labels")
        strategy.buffer = Given(candidates)
        if combine == "joint":  # whose virtual step is the real one's length, as in the vectors
            for number, batch in enumerate(steps(z)):
                chosen = strategy.most_interfered(batch, candidates[number])
                assert chosen.tolist() == z["chosen"][number].tolist()
                strategy.observe(batch)
            for name, weights in layers(strategy.net).items():
                close(weights, z[f"end_{name}"])
        else:
            batch, drawn = next(zip(steps(z), candidates, strict=True))
            picked = drawn.at(strategy.most_interfered(batch, drawn))
            cross_entropy = torch.nn.functional.cross_entropy
            means = [cross_entropy(strategy.net(b.images), b.labels) for b in (batch, picked)]
            close(total(strategy.losses(batch)), sum(means))


@each("gdumb")
def test_gdumbs_rate_restarts_as_its_authors(file: str) -> None:
    z = load(file)
    options = gdumb.Options(max_lr=z["max_lr"], min_lr=z["min_lr"])
    close(torch.tensor([gdumb.learning_rate(epoch, options) for epoch in range(len(z["rates"]))]), z["rates"])


@each("gdumb_training")
def test_gdumb_trains_as_its_authors(file: str) -> None:
    z = load(file)
    strategy = with_layers("gdumb", z, options={"batch_size": 8})
    orders = list(z["orders"])
    gdumb.train(
        strategy.net, strategy.trained_parameters(), Batch(z["images"], z["labels"]), orders, strategy.options
    )
    for name, weights in layers(strategy.net).items():
        close(weights, z[f"end_{name}"])


def fishers(z: dict, which: str) -> list[torch.Tensor]:
    return [z[f"{which}_{name}"] for name in ("w1", "b1", "w2", "b2")]


@each("ewc")
def test_ewcs_fisher_and_penalty_are_the_authors(file: str) -> None:
    z = load(file)
    for fisher in ("predicted", "empirical"):
        options = {"fisher": fisher, "decay": 0.9, "strength": 100.0}
        strategy = with_layers("ewc", z, options=options)
        strategy.exposed[z["total_classes"] :] = False
        strategy.end_experience(Experience(z["images"], z["labels"]))
        for found, expected in zip(
            strategy.regulariser.importance, fishers(z, f"fisher_{fisher}"), strict=True
        ):
            close(found, expected)
        if fisher == "empirical":
            continue
        with torch.no_grad():
            for name, weights in layers(strategy.net).items():
                weights.copy_(z[f"at2_{name}"])
        strategy.end_experience(Experience(z["images2"], z["labels2"]))
        for found, expected in zip(strategy.regulariser.importance, fishers(z, "fisher_online"), strict=True):
            close(found, expected)
        with torch.no_grad():
            for name, weights in layers(strategy.net).items():
                weights.copy_(z[f"at3_{name}"])
        penalty = strategy.losses(Batch(z["images"][:4], z["labels"][:4]))["penalty"]
        close(penalty, z["penalty"])
        gradients = torch.autograd.grad(penalty, list(layers(strategy.net).values()))
        for found, expected in zip(gradients, fishers(z, "penalty_grad"), strict=True):
            close(found, expected)


@each("mas")
def test_mass_importance_and_penalty_are_the_authors(file: str) -> None:
    z = load(file)
    strategy = with_layers("mas", z, options={"strength": 1.0})
    strategy.end_experience(Experience(z["images"], z["labels"]))
    for found, expected in zip(strategy.regulariser.importance, fishers(z, "omega"), strict=True):
        close(found, expected)
    with torch.no_grad():
        for name, weights in layers(strategy.net).items():
            weights.copy_(z[f"at_{name}"])
    penalty = strategy.losses(Batch(z["images"][:4], z["labels"][:4]))["penalty"]
    gradients = torch.autograd.grad(penalty, list(layers(strategy.net).values()))
    for found, expected in zip(gradients, fishers(z, "penalty_grad"), strict=True):
        close(found, expected)


@each("si")
@pytest.mark.parametrize("clamp", ["total", "none"])
def test_si_gathers_importance_as_its_authors(file: str, clamp: str) -> None:
    z, case = load(file), "relu" if clamp == "total" else "noclamp"
    about = {
        name: z.get(name, default)
        for name, default in (("strength", 1.0), ("damping", 1e-3), ("momentum", 0.0), ("lr", 0.1))
    }
    strategy = with_layers(
        "si", z, options={"clamp": clamp, "strength": about["strength"], "damping": about["damping"]},
        optimizer={"lr": about["lr"], "momentum": about["momentum"]},
    )  # fmt: skip
    for task in range(len(z["images"])):
        for images, labels in zip(z["images"][task], z["labels"][task], strict=True):
            strategy.observe(Batch(images, labels))
        strategy.end_experience(Experience(z["images"][task, 0], z["labels"][task, 0]))
        found = torch.cat([part.flatten() for part in strategy.regulariser.importance])
        close(found, z[f"importance_{case}"][task])
    close(torch.cat([w.flatten() for w in layers(strategy.net).values()]), z[f"end_params_{case}"])


@each("pass")
def test_prototype_replay_learns_as_pass(file: str) -> None:
    z = load(file)
    strategy = with_layers("prototype-replay", z)
    old_net = strategy.make_network()
    put(old_net, {**z, "old_w2": z["w2"], "old_b2": z["b2"]}, "old_")
    strategy.teacher = old_net.backbone
    strategy.prototypes.means[: len(z["prototypes"])] = z["prototypes"]
    strategy.radius = torch.tensor(z["radius"])
    strategy.draw = lambda batch: (strategy.around(z["which"], z["noise"]), z["which"])
    losses = strategy.losses(Batch(z["images"], z["labels"]))
    close(losses["task"], z["task_temp01"])
    close(losses["prototypes"] / 10, z["proto_temp01"])
    close(losses["features"] / 10, z["features"])
    close(total(losses), z["loss_temp01"])
    weights = layers(strategy.net)
    for name, found in zip(weights, torch.autograd.grad(total(losses), list(weights.values())), strict=True):
        close(found, z[f"grad_{name}"])
    prototypes = Prototypes(2, z["class_features"].shape[1], torch.device("cpu"))
    prototypes.replace(1, z["class_features"])
    close(prototypes.spreads[1], z["class_spread"])


def test_prototype_replays_radius_is_the_first_experiences_for_ever() -> None:
    strategy = make("prototype-replay", 4, (1, 2, 2), backbone={"name": "mlp", "widths": (3,)})
    images = torch.randint(0, 256, (40, 1, 2, 2), dtype=torch.uint8)
    strategy.end_experience(Experience(images[:20], torch.arange(20) % 2))
    spreads = [
        strategy.features_of(images[:20][torch.arange(20) % 2 == label]).T.cov().trace() / 3
        for label in (0, 1)
    ]
    radius = strategy.radius.clone()
    close(radius, (sum(spreads) / 2).sqrt())
    strategy.end_experience(Experience(images[20:], 2 + torch.arange(20) % 2, 1))
    assert torch.equal(strategy.radius, radius)
    strategy.draw(Batch(images[20:24], torch.tensor([2, 3, 2, 3])))
    drawn, labels = strategy.draw(Batch(images[20:26], torch.tensor([2, 3, 2, 3, 2, 3])))
    assert len(drawn) == 6
    assert set(labels.tolist()) <= {0, 1}


@each("slda")
def test_slda_equals_its_authors_sample_by_sample(file: str) -> None:
    z = load(file)
    strategy = make(
        "slda",
        len(z["means"]),
        (1, 1, z["features"].shape[1]),
        {"shrinkage": z["shrinkage"]},
        backbone={"name": "pixels"},
    )
    strategy.embed = lambda images: images
    for rows in torch.arange(len(z["labels"])).split(7):
        strategy.observe(Batch(z["features"][rows], z["labels"][rows]))
    strategy.consolidate()
    close(strategy.means, z["means"])
    close(strategy.scatter / len(z["labels"]), z["covariance"])
    close(strategy.predict(z["query"]), z["scores"])


@each("ncm")
def test_ncm_scores_by_distance(file: str) -> None:
    z = load(file)
    strategy = make("ncm", len(z["means"]), (1, 1, z["features"].shape[1]), backbone={"name": "pixels"})
    strategy.embed = lambda images: images
    for rows in torch.arange(len(z["labels"])).split(5):
        strategy.observe(Batch(z["features"][rows], z["labels"][rows]))
    close(strategy.prototypes.means, z["means"])
    close(strategy.predict(z["query"]), z["scores"])


@pytest.mark.parametrize("file", [file for file in cases("ranpac") if "pilot" not in file])
def test_ranpac_equals_its_authors(file: str) -> None:
    z = load(file)
    width, classes = z["projection"].shape[1], z["weights"].shape[1]
    strategy = make(
        "ranpac",
        classes,
        (1, 1, len(z["projection"])),
        {"projections": width, "ridge": z["ridge"]},
        backbone={"name": "pixels"},
    )
    strategy.embed = lambda images: images
    strategy.projection = z["projection"]
    for rows in torch.arange(len(z["labels"])).split(16):
        strategy.remember(Batch(z["features"][rows], z["labels"][rows]))
    close(strategy.gram, z["gram"])
    close(strategy.prototypes, z["prototypes"])
    strategy.consolidate()
    close(strategy.weights, z["weights"], 1e-6)  # solved through eigenvectors; the ridge may be tiny
    close(strategy.predict(z["query"]), z["scores"], 1e-7)
    hidden = strategy.project(z["features"])
    assert ranpac.ridge_by_holdout(hidden, z["labels"], classes) == pytest.approx(z["ridge_holdout"])


@each("ranpac_pilot")
def test_ranpac_chooses_a_ridge_by_each_task_as_its_authors(file: str) -> None:
    z = load(file)
    width, classes = z["projection"].shape[1], z["num_classes"]
    strategy = make(
        "ranpac",
        classes,
        (1, 1, len(z["projection"])),
        {"projections": width, "ridge_by": "holdout"},
        backbone={"name": "pixels"},
    )
    strategy.embed = lambda images: images
    strategy.projection = z["projection"]
    for task in range(3):
        features, labels = z[f"task{task}.features"], z[f"task{task}.labels"]
        strategy.remember(Batch(features, labels))
        chosen = ranpac.ridge_by_holdout(strategy.project(features), labels, classes)
        assert chosen == pytest.approx(z[f"task{task}.ridge"])
        strategy.held_out_ridge = chosen
        strategy.consolidate()
        close(strategy.weights.T, z[f"task{task}.weights"], 1e-7)
        close(strategy.predict(z["test.features"]), z[f"task{task}.test_scores"], 1e-7)
        strategy.held_out_ridge = 0.0
        strategy.end_experience(Experience(features, labels, task))
        assert strategy.held_out_ridge in ranpac.RIDGES  # of another order of the same samples
