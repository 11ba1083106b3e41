"""Promises of the kernel that were broken once, each as a user met it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from making import make_source, resolved, simulate
from mutants import MUTANTS, ROOT

import streamlab
from streamlab import plugins
from streamlab.base_training import CosineBase
from streamlab.batch import Batch
from streamlab.config import Budget, StreamConfig
from streamlab.data.source import Source
from streamlab.errors import CorruptFile, StreamlabError
from streamlab.evaluation.record import Evaluation, load_evaluation, save_evaluation
from streamlab.memory.ledger import Ledger, measure
from streamlab.nets.network import PixelStatistics, build_network
from streamlab.nets.optimizer import SGD, build_optimizer
from streamlab.plans.stream import StreamPlan
from streamlab.runs.folder import provenance
from streamlab.runs.identity import differences, identity
from streamlab.runs.spec import RunSpec
from streamlab.simulator import events
from streamlab.simulator.fit import FitConfig, FitData, Samples, fit
from streamlab.strategies.er import ExperienceReplay
from streamlab.strategies.mir import MaximallyInterferedRetrieval
from streamlab.strategies.teen import PrototypeCalibration
from streamlab.strategy import Strategy
from streamlab.training import OptimizerConfig

HALVING = {"schedule": "step", "unit": "step", "every": 5, "gamma": 0.5, "over": "stream"}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_torchs_schedulers_work_on_a_strategys_optimizer(name: str) -> None:
    rates = {}
    for ours in (True, False):
        parameters = [torch.nn.Parameter(torch.ones(3))]
        made = build_optimizer(OptimizerConfig(name, 0.1, 0.9 if name == "sgd" else 0.0), parameters)
        if not ours:
            make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
            made = make(parameters, 0.1, **({"momentum": 0.9} if name == "sgd" else {"weight_decay": 0.0}))
        assert isinstance(made, torch.optim.Optimizer)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(made, 5)
        for _ in range(4):
            made.zero_grad()
            parameters[0].square().sum().backward()
            made.step()
            schedule.step()
        rates[ours] = (made.param_groups[0]["lr"], parameters[0].tolist())
    assert rates[True] == rates[False]


def test_plain_sgd_takes_groups_and_imports_no_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from streamlab.nets.optimizer import SGD\n"
        "made = SGD([torch.nn.Parameter(torch.ones(2))], 0.1, 0.9)\n"
        "made.param_groups[0]['params'][0].sum().backward(); made.step(); made.zero_grad()\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    slow, fast = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    made = SGD([{"params": [slow], "lr": 0.1}, {"params": [fast]}], lr=1.0)
    (slow + fast).sum().backward()
    made.step()
    assert (slow.item(), fast.item()) == (pytest.approx(-0.1), -1.0)


class Cosine(CosineBase):
    """The same name, another loss."""

    def loss(self, network: Any, images: Any, labels: Any, among: Any) -> torch.Tensor:
        return -super().loss(network, images, labels, among)


FEW = {
    "scenario": {"base_classes": 4, "sessions": 1, "way": 2, "shot": 2},
    "backbone": {"name": "mlp", "widths": "8"},
    "base": {"epochs": 2, "batch_size": 16},
}


def test_a_base_that_trains_otherwise_is_not_served_anothers_network() -> None:
    class Edited(PrototypeCalibration):
        base = Cosine()

    source = make_source()
    nets = [
        simulate(source, cls, scenario="fscil", settings=FEW).strategy.net
        for cls in (PrototypeCalibration, Edited)
    ]
    assert nets[0].backbone.layers[1].weight.ne(nets[1].backbone.layers[1].weight).any()


def test_the_base_epoch_is_chosen_on_images_that_are_not_learned() -> None:
    """Labels that say nothing: what is learned by heart is no better than chance on held-out images."""
    source = make_source(classes=6, train=60)
    labels = np.random.default_rng(0).permutation(source.train_labels)
    noise = dataclasses.replace(source, train_labels=labels)
    settings = {**FEW, "backbone": {"name": "mlp", "widths": "64"}, "base": {"epochs": 60, "batch_size": 16, "rotate": 0,
                "shear": 0, "scale": "1,1", "shift": 0, "validation": 0.3}}  # fmt: skip
    told = simulate(noise, "teen", scenario="fscil", settings=settings).progress.base
    assert told["chosen_on"] == "held-out base images"
    assert told["accuracy"] < 60  # of 4 classes; on the images learned it is above 90


def test_the_moving_average_moves() -> None:
    source = make_source(classes=3, train=8)
    network = build_network({"name": "mlp", "widths": (4,)}, (1, 8, 8), 3, PixelStatistics(0.5, 0.3))
    began = network.head.weight.detach().clone()
    train = Samples.of(torch.from_numpy(source.train_images), torch.from_numpy(source.train_labels))
    recipe = FitConfig(epochs=1, batch_size=24, average=0.9)
    shown, _ = fit(network, FitData(train), recipe, OptimizerConfig("sgd", 0.1), 0)
    keep = min(0.9, (1 + 1) / (10 + 1))  # faster in the first steps
    torch.testing.assert_close(shown.head.weight, keep * began + (1 - keep) * network.head.weight)
    assert shown is not network


def test_two_classes_of_one_name_are_refused(tiny: Source) -> None:
    def made() -> type[Strategy]:
        class Mine(ExperienceReplay):
            pass

        return Mine

    with pytest.raises(StreamlabError, match="strategy 'Mine' is named twice"):
        streamlab.run("si-blurry", tiny, [made(), made()], seeds=1, show=False)


def test_a_saved_plan_must_fit_both_splits(tmp_path: Path) -> None:
    file = tmp_path / "plan.safetensors"
    streamlab.plan("class-incremental", make_source(train=20, test=10), 0, tasks=3).save(file)
    settings = {"scenario": {"plan_file": str(file)}, "backbone": {"name": "pixels"}}
    simulate(make_source(train=20, test=10), "ncm", scenario="saved", settings=settings)
    with pytest.raises(
        StreamlabError, match="needs 120 training and 60 test samples; the source has 6 classes, 120 and 24"
    ):
        simulate(make_source(train=20, test=4), "ncm", scenario="saved", settings=settings)
    streamlab.plan("permuted", make_source(train=20, test=10), 0, tasks=2).save(file)
    with pytest.raises(StreamlabError, match="the source has 6 classes, 60 and 60 under 2 transforms"):
        simulate(make_source(train=10, test=10), "ncm", scenario="saved", settings=settings)


@pytest.mark.parametrize("scenario", ["class-incremental", "episodes"])
def test_a_saved_plan_of_other_labels_is_refused(scenario: str, tmp_path: Path) -> None:
    """As many images and classes, in another order: its figures would mean nothing."""
    mine, other = make_source(classes=12, seed=0), make_source(classes=12, seed=1)
    options: dict[str, object] = {"tasks": 2}
    if scenario == "episodes":
        options = {"train_classes": 5, "validation_classes": 0, "test_classes": 5, "query": 3, "keep": "last"}
        options |= {"validation_episodes": 0, "test_episodes": 3, "episodes": 3}
    path = str(tmp_path / "plan.safetensors")
    streamlab.plan(scenario, mine, **options).save(path)
    assert streamlab.plan("saved", mine, plan_file=path)
    with pytest.raises(StreamlabError, match="was made of other labels"):
        streamlab.plan("saved", other, plan_file=path)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.safetensors"
    streamlab.plan("class-incremental", make_source(), tasks=2).save(path)
    whole = path.read_bytes()
    for old, new in ((b"000001.classes", b"000001.klasses"), (b"class_counts", b"klass_counts")):
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(CorruptFile, match="is not a saved plan"):
            streamlab.plan("saved", make_source(), plan_file=str(path))


def test_forty_thousand_classes_are_kept_as_they_are(tmp_path: Path) -> None:
    """Labels were kept in 16 bits, and became negative."""
    labels = np.array([5, 40_000, 32_768], np.int64)
    made = Evaluation(7, (0,), True, np.ones(50_000, np.bool_), np.arange(3), labels, labels[::-1].copy())
    save_evaluation(made, tmp_path / "a.safetensors")
    found = load_evaluation(tmp_path / "a.safetensors", 50_000)
    assert found.labels.tolist() == labels.tolist()
    assert found.predictions.tolist() == labels[::-1].tolist()


def test_a_saved_plan_may_be_of_episodes(tmp_path: Path) -> None:
    source, file = make_source(classes=12, train=8, test=4), tmp_path / "plan.safetensors"
    options = {"way": 2, "shot": 1, "query": 2, "episodes": 4, "test_episodes": 5, "validation_episodes": 0}
    plan = streamlab.plan("episodes", source, 0, **options)
    plan.save(file)
    settings = {
        "scenario": {"plan_file": str(file)},
        "backbone": {"name": "convnet", "width": 8, "blocks": 2},
    }
    run = simulate(source, "protonet", scenario="saved", settings=settings)
    assert run.plan.fingerprint == plan.fingerprint


def test_bytearrays_are_counted_one_by_one() -> None:
    held = {"first": bytearray(1000), "second": bytearray(1000), "third": [bytearray(1000)]}
    assert measure(held, dict.fromkeys(held, "statistics")).total == 3000


def test_a_closure_is_called_as_torchs_optimizer_calls_it() -> None:
    losses = []
    for make in (SGD, torch.optim.SGD):
        weight = torch.nn.Parameter(torch.tensor([3.0]))
        optimizer = make([weight], lr=0.1)

        def loss(weight: torch.nn.Parameter = weight, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            square = weight.square().sum()
            square.backward()
            return square.detach()

        losses.append((float(optimizer.step(loss)), float(weight)))
    assert losses[0] == losses[1] == (9.0, pytest.approx(2.4))


def test_buffers_in_lists_and_dicts_get_room(tiny: Source) -> None:
    class ABufferAClass(Strategy):
        def setup(self) -> None:
            self.buffers_of = {label: self.make_buffer() for label in range(self.setting.num_classes)}

        def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
            return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}

        def remember(self, batch: Batch) -> None:
            for label, buffer in self.buffers_of.items():
                rows = torch.nonzero(batch.labels == label).flatten()
                buffer.add(batch.at(rows))

    made = simulate(tiny, ABufferAClass, budget="12ex").strategy
    assert [len(buffer) for buffer in made.buffers_of.values()] == [2] * 6
    ledger = made.account.ledger()
    assert ledger.exemplars_held == 12
    most = simulate(tiny, ABufferAClass, budget=f"{ledger.total}B").strategy  # what twelve need, in bytes
    assert [len(buffer) for buffer in most.buffers_of.values()] == [2] * 6


def test_the_survey_counts_prompts_beside_parameters_of_the_network_alone() -> None:
    held = {"model": 400, "classifier head": 80, "prompts": 7, "keys": 11, "masks": 13, "exemplars": 990}
    ledger = Ledger(held, 0, exemplars_held=10, pixels=900, parameters=100, frozen_parameters=60)
    survey = Budget(accounting="survey")
    assert ledger.counted(survey) == 4 * 100 + 7 + 11 + 13 + 900
    assert ledger.counted(dataclasses.replace(survey, count_frozen=False)) == 4 * 40 + 7 + 11 + 13 + 900
    assert ledger.counted(Budget()) == sum(held.values())


def test_mirs_virtual_step_is_of_the_rate_that_the_optimizer_has(tiny: Source) -> None:
    settings = {"optimizer": {"lr": 0.4, **HALVING}, "stream": {"batch_size": 10}}
    strategy = simulate(tiny, "mir:replay_size=5,candidates=40", settings=settings).strategy
    assert isinstance(strategy, MaximallyInterferedRetrieval)
    assert strategy.rate() < 0.4 / 8
    batch, drawn = strategy.buffer.draw(6), strategy.buffer.draw(40)
    gradients = torch.autograd.grad(
        F.cross_entropy(strategy.net(batch.images), batch.labels), strategy.parameters
    )
    with torch.no_grad():
        before = F.cross_entropy(strategy.net(drawn.images), drawn.labels, reduction="none")
        for parameter, gradient in zip(strategy.parameters, gradients, strict=True):
            parameter -= strategy.rate() * gradient
        rises = F.cross_entropy(strategy.net(drawn.images), drawn.labels, reduction="none") - before
        for parameter, gradient in zip(strategy.parameters, gradients, strict=True):
            parameter += strategy.rate() * gradient
    assert set(strategy.most_interfered(batch, drawn).tolist()) == set(rises.topk(5).indices.tolist())


@pytest.mark.parametrize(
    "command", [["runs", "list"], ["run", "--strategy", "errr"], ["run", "si-blury"], ["list", "sources"]]
)
def test_a_command_that_needs_no_torch_does_not_import_it(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['streamlab', *{command!r}]\n"
        "from streamlab.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_mutant_has_a_line_to_break() -> None:
    """`python tests/mutants.py` breaks them one at a time; a line that has moved would be broken nowhere."""
    for name, (file, old, new, _) in MUTANTS.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name}: {file} has {old!r} {text.count(old)} times"
        assert new != old


def test_the_kernel_names_no_strategy() -> None:
    """But where it speaks to a person of the quickstart, and in examples."""
    root = Path(streamlab.__file__).parent
    named = [f'"{name}"' for name in plugins.names("strategies")]
    allowed = {"check/subject.py", "experiments/request.py"}
    for path in root.rglob("*.py"):
        inside = path.relative_to(root).as_posix()
        if inside not in allowed:
            code = path.read_text(encoding="utf-8")
            assert [name for name in named if f"strategy={name}" in code or f"== {name}" in code] == [], (
                inside
            )


def test_an_ambiguous_name_is_answered_with_all_that_it_may_mean() -> None:
    with pytest.raises(
        StreamlabError, match=r"strategy 'der' may mean 'der\+\+' \(Dark Exp.*\) or 'expandable-der' \(DER"
    ):
        plugins.find("strategies", "der")


class Watching(Strategy):
    """Remembers the classes of every batch."""

    seen: ClassVar[list[set[int]]] = []

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        Watching.seen.append(set(batch.label_list))
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}


@pytest.mark.parametrize("boundaries", ["hidden", "shown"])
def test_no_batch_spans_two_tasks_and_a_tasks_end_is_judged_before_the_next(boundaries: str) -> None:
    Watching.seen.clear()
    ended: list[tuple[int, float]] = []
    scenario = {"tasks": 3, "boundaries": boundaries}
    run = simulate(
        make_source(train=25), Watching, scenario="class-incremental", eval_every=1000,
        settings={"scenario": scenario, "stream": {"batch_size": 16}},
        hear=lambda event: ended.append((event.experience, event.samples_seen))
        if isinstance(event, events.ExperienceEnded) else None,
    )  # fmt: skip
    classes = [set(experience.classes) for experience in run.plan.experiences]
    assert all(any(seen <= own for own in classes) for seen in Watching.seen)
    assert [seen for _, seen in ended] == [50, 100, 150]
    for number, evaluation in enumerate(e for e in run.evaluations if e.task_ends):
        assert set(np.flatnonzero(evaluation.exposed)) == set().union(*classes[: number + 1])


@pytest.mark.parametrize(("order", "expected"), [("clean", [40, 80, 120]), ("reference", [48, 88])])
def test_the_reference_order_evaluates_strictly_past_a_multiple(order: str, expected: list[int]) -> None:
    scenario = {"tasks": 1, "disjoint_percent": 100, "order": order}
    run = simulate(
        make_source(train=20), "finetune", eval_every=40,
        settings={"scenario": scenario, "stream": {"batch_size": 8}},
    )  # fmt: skip
    assert [e.samples_seen for e in run.evaluations if e.periodic] == expected
    plan = run.plan
    assert isinstance(plan, StreamPlan)
    assert plan.points == ("past" if order == "reference" else "at")
    assert (
        dataclasses.replace(plan, points="at").fingerprint
        != dataclasses.replace(plan, points="past").fingerprint
    )


def test_text_numbers_and_defaults_are_one_run(tiny: Source) -> None:
    """However it is written, the same run has the same identity, and is not run again."""
    said = [
        {"stream": {"batch_size": "10"}, "er": {"replay_size": "5"}, "optimizer": {"lr": "0.05"}},
        {"stream": {"batch_size": 10}, "er": {"replay_size": 5.0}, "optimizer": {"name": "sgd", "lr": 0.05}},
        {"stream": {"batch_size": 10, "epochs": 1}, "er": {"replay_size": 5, "selection": "reservoir"},
         "backbone": {"name": "mlp", "widths": "256"}, "base": {"epochs": "20"}, "scenario": {"tasks": "5"}},
    ]  # fmt: skip
    specs = [resolved(tiny, "er", settings=settings).cells[0].spec for settings in said]
    row = resolved(tiny, "er:replay_size=5", settings={"stream": {"batch_size": 10}}).cells[0]
    specs.append(dataclasses.replace(row.spec, label="er"))
    assert specs[0].stream == StreamConfig(batch_size=10, updates_per_batch=1, epochs=1)
    assert [spec for spec in specs if spec != specs[0]] == []
    assert RunSpec.from_plain(json.loads(json.dumps(specs[0].to_plain()))) == specs[0]
    made = provenance()
    for spec in specs[1:]:
        assert differences(identity(specs[0], made), identity(spec, made)) == []
    other = resolved(tiny, "er", settings={**said[0], "er": {"replay_size": 6}}).cells[0].spec
    assert differences(identity(specs[0], made), identity(other, made)) == ["strategy_options"]
