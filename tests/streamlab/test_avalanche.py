"""Avalanche, both ways: our plans train theirs unchanged, theirs stand in our table, and both count alike."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import make_source, resolved, simulate
from torch import nn
from typer.testing import CliRunner

import streamlab
from streamlab.check.subject import Subject
from streamlab.cli.main import app
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.evaluation.accuracy import a_last
from streamlab.evaluation.libraries import as_libraries
from streamlab.evaluation.record import accuracy_matrix
from streamlab.interop.avalanche import from_benchmark, to_benchmark
from streamlab.simulator import events

pytest.importorskip("avalanche")
pytestmark = pytest.mark.filterwarnings("ignore")

TASKS: dict[str, Any] = {"scenario": {"tasks": 3}, "stream": {"batch_size": 10}}
SESSIONS: dict[str, Any] = {
    "scenario": {"tasks": 3, "kind": "sessions"},
    "stream": {"batch_size": 10, "epochs": 2},
}
THEIRS = {
    "Naive": {},
    "Replay": {"mem_size": 60},
    "EWC": {"ewc_lambda": 10},
    "LwF": {"alpha": 1.0, "temperature": 2.0},
    "ICaRL": {"memory_size": 60, "fixed_memory": True},
    "GDumb": {"mem_size": 60},
    "AGEM": {"patterns_per_exp": 20},
    "SynapticIntelligence": {"si_lambda": 1.0},
}


@pytest.fixture(scope="module")
def longer() -> Source:
    return make_source(classes=6, train=60, test=20, contrast=60)


def made(name: str, **options: Any) -> Any:
    """One of their strategies as their users make it."""
    import avalanche.training.supervised as supervised
    from avalanche.evaluation.metrics import accuracy_metrics, bwt_metrics, forgetting_metrics
    from avalanche.training.plugins import EvaluationPlugin

    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
    head = nn.Linear(64, 6)
    model = nn.Sequential(body, head)
    metrics = (
        accuracy_metrics(experience=True, stream=True),
        forgetting_metrics(experience=True, stream=True),
        bwt_metrics(stream=True),
    )
    common = {
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.05), "train_mb_size": 10, "eval_mb_size": 60,
        "evaluator": EvaluationPlugin(*metrics, loggers=[]),
    }  # fmt: skip
    if name == "ICaRL":
        return supervised.ICaRL(
            feature_extractor=body, classifier=head, buffer_transform=None, **common, **options
        )
    return getattr(supervised, name)(model=model, criterion=nn.CrossEntropyLoss(), **common, **options)


# Ours in theirs


@pytest.mark.parametrize("batch_size", [10, None])
def test_a_benchmark_serves_the_plan_sample_for_sample(longer: Source, batch_size: int | None) -> None:
    plan = streamlab.plan("si-blurry", longer, seed=1, tasks=3)
    benchmark = to_benchmark(plan, longer, batch_size)
    pairs = [sample for experience in benchmark.train_stream for sample in experience.dataset]
    assert [int(label) for _, label, *_ in pairs] == longer.train_labels[plan.stream].tolist()
    mean, deviation = longer.mean_and_deviation
    images = torch.stack([image for image, *_ in pairs])
    expected = (longer.train_images[plan.stream] / 255 - mean) / deviation
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-5)
    sizes = [len(experience.dataset) for experience in benchmark.train_stream]
    if batch_size is None:
        assert sizes == [len(experience.indices) for experience in plan.experiences]
    else:
        assert max(sizes) == batch_size
    for experience, own in zip(benchmark.test_stream, plan.experiences, strict=True):
        assert [int(s[1]) for s in experience.dataset] == longer.test_labels[own.test_indices].tolist()


def test_the_notebook_of_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]
    exec(compile(code, "migrating.md", "exec"), {})
    assert "Top1_Acc_Stream/eval_phase/test_stream" in capsys.readouterr().out


@pytest.mark.parametrize("name", THEIRS)
def test_their_strategies_train_on_a_si_blurry_plan_unchanged(longer: Source, name: str) -> None:
    plan = streamlab.plan("si-blurry", longer, seed=0, tasks=3)
    benchmark = to_benchmark(plan, longer, batch_size=20 if name == "Replay" else None)
    strategy = made(name, **THEIRS[name])
    for experience in benchmark.train_stream:
        strategy.train(experience)
    found = strategy.eval(benchmark.test_stream)
    assert 0.1 < found["Top1_Acc_Stream/eval_phase/test_stream"] <= 1


def test_what_no_benchmark_can_be_is_refused_with_the_reason(longer: Source) -> None:
    options = {
        "way": 2,
        "train_way": 2,
        "query": 3,
        "train_classes": 2,
        "validation_classes": 2,
        "test_classes": 2,
    }
    episodes = streamlab.plan("episodes", longer, **options)
    with pytest.raises(StreamlabError, match=r"^a plan of episodes is no Avalanche benchmark: .*learn2learn"):
        to_benchmark(episodes, longer)
    with pytest.raises(StreamlabError, match="permuted transforms its images"):
        to_benchmark(streamlab.plan("permuted", longer, tasks=2), longer)


# Theirs in ours


@pytest.mark.parametrize("kind", ["online", "sessions"])
@pytest.mark.parametrize(
    "name", ["Naive", "Replay", "LwF:alpha=1.0,temperature=2.0", "ICaRL:fixed_memory=true"]
)
def test_their_strategies_are_judged_and_counted_as_ours(longer: Source, name: str, kind: str) -> None:
    heard: list[events.Evaluated] = []

    def hear(event: events.Event) -> None:
        if isinstance(event, events.Evaluated) and event.task_ends:
            heard.append(event)

    settings = TASKS if kind == "online" else SESSIONS
    given = {"scenario": "class-incremental", "budget": "60ex", "settings": settings}
    simulation = simulate(longer, f"avalanche:{name}", hear, **given)
    own = simulate(longer, "finetune", settings=settings, scenario="class-incremental")
    assert len(heard) == 3
    held = heard[-1].held
    assert held["model"] + held["head"] == sum(own.strategy.account.ledger().bytes_by_kind.values())
    if name == "Replay":
        assert heard[-1].exemplars == 60
        assert held["exemplars"] == 60 * (64 + 8)
        assert a_last(simulation.record()) > a_last(own.record()) + 0.2
    if name.startswith("LwF"):
        assert held["extra models"] == held["model"] + held["head"]
    if name.startswith("ICaRL"):
        assert 0 < heard[-1].exemplars <= 60
        assert held["exemplars"] == heard[-1].exemplars * 64 * 4  # theirs are float32
    again = simulate(longer, f"avalanche:{name}", **given)
    for one, other in zip(simulation.evaluations, again.evaluations, strict=True):
        np.testing.assert_array_equal(one.predictions, other.predictions)


def test_a_budget_of_bytes_buys_their_exemplars(longer: Source) -> None:
    strategy = simulate(
        longer, "avalanche:Replay", scenario="class-incremental", budget="80kB", settings=TASKS
    ).strategy
    network = sum(tensor.nbytes for tensor in strategy.net.parameters())
    assert len(strategy.theirs.plugins[0].storage_policy.buffer) <= (80_000 - network) // 72
    assert strategy.account.ledger().total <= 80_000
    assert strategy.account.ledger().exemplars_held == (80_000 - network) // 72


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("avalanche:Repaly", "unknown strategy of Avalanche 'Repaly'; did you mean 'Replay'"),
        ("avalanche:EWC", r"it needs ewc_lambda \(--strategy avalanche:EWC:ewc_lambda=VALUE\)"),
        (
            "avalanche:Replay:memsize=3",
            "unknown option of avalanche:Replay 'memsize'; did you mean 'mem_size'",
        ),
        ("avalanche:EWC:ewc_lambda=much", "ewc_lambda is 'much', and should be a valid number"),
    ],
)
def test_a_mistake_is_one_sentence(tiny: Source, name: str, said: str) -> None:
    with pytest.raises(StreamlabError, match=said):
        simulate(tiny, name, scenario="class-incremental")


def test_what_cannot_be_resumed_is_said_before_the_run_and_begins_anew(tiny: Source, tmp_path: Path) -> None:
    names = ("avalanche:Replay", "avalanche:Naive")
    (note,) = resolved(tiny, *names, scenario="class-incremental").notes
    assert note == (
        "avalanche:Replay: what Avalanche's plugins hold cannot be checkpointed; a run of it that is killed begins anew"
    )
    given = ["run", "class-incremental", "--strategy", "avalanche:Replay", "--strategy", "er", "--seeds", "1"]
    given += ["--set", "scenario.samples_per_class=2", "--workers", "0", "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert done.stderr.strip() == note
    assert "avalanche:Replay seed 0: done" in done.stdout  # in one table with ours
    assert not list((tmp_path / "o").rglob("checkpoint-*"))


@pytest.mark.parametrize("name", ["avalanche:Naive", "avalanche:Replay"])
@pytest.mark.slow
def test_a_bridged_strategy_keeps_its_promises(name: str) -> None:
    from streamlab.check.outcomes import check_strategy

    subject = Subject.named(name)
    known = list(subject.strategy.known_failures.items())
    outcomes = [(o.check, o.message) for o in check_strategy(subject) if o.status != "kept"]
    assert outcomes == known


# Their benchmarks, and truth


def test_batches_of_an_online_stream_are_parts_of_one_data_set(longer: Source) -> None:
    """Theirs joins what its buffer holds at every step: parts of one set join to a list of numbers."""
    ran: Any = simulate(longer, "avalanche:Replay", scenario="class-incremental", budget="50ex")
    policy = ran.strategy.theirs.plugins[0].storage_policy
    held = policy.buffer
    (images,) = {id(part): part for part in held._flat_data._datasets}.values()
    assert images is ran.strategy.shelf.images
    assert len(held) == 50
    served = ran.strategy.shelf.used
    assert served == len(longer.train_labels)
    scaled = ran.strategy.net.scaled(torch.from_numpy(longer.train_images[ran.plan.stream]))
    torch.testing.assert_close(images.images[:served], scaled)


def test_their_benchmark_becomes_a_plan_and_a_source_and_back(longer: Source, tmp_path: Path) -> None:
    for batch_size, kind in ((None, "sessions"), (10, "online")):
        plan = streamlab.plan("si-blurry", longer, seed=0, tasks=3)
        benchmark = to_benchmark(plan, longer, batch_size, standardise=False)
        found, source = from_benchmark(benchmark)
        assert found.kind == kind
        np.testing.assert_array_equal(source.train_images, longer.train_images[plan.stream])
        np.testing.assert_array_equal(source.train_labels, longer.train_labels[plan.stream])
        lengths = [len(experience.indices) for experience in plan.experiences]
        assert [len(experience.indices) for experience in found.experiences] == lengths
    path = tmp_path / "plan.safetensors"
    found.save(path)
    saved = {"scenario": {"plan_file": str(path)}}
    ran = streamlab.run(
        "saved", source, ["er"], seeds=1, settings=saved, out=tmp_path / "o", workers=0, show=False
    )
    assert ran.runs[0].spec.plan_fingerprint == found.fingerprint
    with pytest.raises(StreamlabError, match=r"^saved: .* is of 6 classes and needs 360 training"):
        streamlab.plan("saved", make_source(classes=3), plan_file=str(path))


def test_a_benchmark_of_theirs_from_pictures() -> None:
    from avalanche.benchmarks import nc_benchmark
    from avalanche.benchmarks.utils import as_classification_dataset
    from torch.utils.data import TensorDataset

    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)
    sets = []
    for part in (images[:30], images[30:]):
        data = TensorDataset(part.float() / 255, torch.arange(len(part)) % 4)
        data.targets = (torch.arange(len(part)) % 4).tolist()
        sets.append(as_classification_dataset(data))
    benchmark = nc_benchmark(*sets, n_experiences=2, task_labels=False, seed=1)
    plan, source = from_benchmark(benchmark)
    assert [experience.classes for experience in plan.experiences] == [
        tuple(sorted(experience.classes_in_this_experience)) for experience in benchmark.train_stream
    ]
    assert sorted(source.train_images.sum((1, 2, 3)).tolist()) == sorted(images[:30].sum((1, 2, 3)).tolist())
    for number, experience in enumerate(plan.experiences):
        assert set(source.test_labels[experience.test_indices]) <= set(plan.experiences[number].classes)


def test_the_same_predictions_have_the_same_metrics(longer: Source) -> None:
    """Their evaluator and ours on one network: accuracy, forgetting, backward transfer, to 1e-6."""
    simulation = simulate(longer, "avalanche:Naive", scenario="class-incremental", settings=SESSIONS)
    plan = simulation.plan
    strategy = simulation.strategy
    benchmark = to_benchmark(plan, longer)
    judge = made("Naive")
    judge.model = strategy.theirs.model
    ours = accuracy_matrix(simulation.record())
    # The last row anew, by their evaluator: all classes compete at the end, there as here.
    last = judge.eval(benchmark.test_stream)
    name = "Top1_Acc_Exp/eval_phase/test_stream/Exp{:03}"
    for task in range(3):
        assert last[name.format(task)] == pytest.approx(ours[-1, task], abs=1e-6)
    weights = [len(experience.test_indices) for experience in plan.experiences]
    stream = float(np.average(ours[-1], weights=weights))
    assert last["Top1_Acc_Stream/eval_phase/test_stream"] == pytest.approx(stream, abs=1e-6)
    assert simulation.evaluations[-1].accuracy == pytest.approx(stream, abs=1e-6)


def test_forgetting_as_avalanche_reports_it_is_what_it_reports(longer: Source) -> None:
    """A run of theirs, evaluated by them after every session; our table made of its accuracies says the same."""
    plan = streamlab.plan("class-incremental", longer, tasks=3, kind="sessions")
    benchmark = to_benchmark(plan, longer)
    strategy = made("Naive")
    matrix = np.full((3, 3), np.nan)
    found: dict[str, float] = {}
    for row, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        found = strategy.eval(benchmark.test_stream)
        for task in range(3):
            matrix[row, task] = found[f"Top1_Acc_Exp/eval_phase/test_stream/Exp{task:03}"]
    forgetting, transfer = as_libraries(matrix)["Avalanche"]
    assert found["StreamForgetting/eval_phase/test_stream"] == pytest.approx(forgetting, abs=1e-6)
    assert found["StreamBWT/eval_phase/test_stream"] == pytest.approx(transfer, abs=1e-6)


def test_starting_up_imports_nothing_of_avalanche() -> None:
    code = (
        "import sys; from streamlab.cli.main import app; from streamlab import plugins; "
        "[plugins.installed(kind) for kind in plugins.KINDS]; "
        "print([m for m in ('avalanche', 'torch') if m in sys.modules])"
    )
    with warnings.catch_warnings():
        shown = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    assert shown == "[]\n"
