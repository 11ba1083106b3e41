"""A run's files are as they were written, or that is said: every way to damage one, done and half done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_source, simulate
from torch import Tensor, nn

import streamlab
from streamlab.data.source import Source
from streamlab.errors import CorruptFile, StreamlabError
from streamlab.evaluation.evaluator import Evaluator
from streamlab.experiments.held import read_runs
from streamlab.experiments.measures import measure_runs
from streamlab.report.gather import gather
from streamlab.runs.folder import RunFolder
from streamlab.runs.seals import digest_of, read_sealed, write_sealed
from streamlab.simulator import events
from streamlab.strategy import Batch, Strategy

Damage = Callable[[Path], None]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def lose(path: Path) -> None:
    path.unlink()


def swap(path: Path) -> None:
    """As a file of another run, whole in itself."""
    other = next(p for p in sorted(path.parent.glob(f"*{path.suffix}")) if p != path)
    shutil.copy(other, path)


@pytest.fixture(scope="module")
def source() -> Source:
    return make_source(classes=4, train=30, test=6)


def run(source: Source, out: Path, hear: Any = None, tell: list[str] | None = None) -> streamlab.Experiment:
    return streamlab.run(
        "class-incremental", source, ["er"], seeds=1, settings={"scenario": {"tasks": 2}}, workers=0,
        eval_every=20, out=out, show=False, hear=hear,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(source, tmp_path_factory.mktemp("done") / "e").folder


FILES = ["result.json", "run.json", "plan.safetensors", "events.jsonl", "evaluations/000002.safetensors"]


@pytest.mark.parametrize(
    ("file", "damage"),
    [(file, damage) for file in FILES for damage in (flip, cut, lose)]
    + [(file, swap) for file in FILES if file not in ("plan.safetensors", "events.jsonl")],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_a_damaged_file_of_a_finished_run_is_named_and_the_run_is_run_again(
    file: str, damage: Damage, done: Path, source: Source, tmp_path: Path
) -> None:
    whole = streamlab.load_run(done).runs[0]
    shutil.copytree(done, tmp_path / "e")
    (place,) = (tmp_path / "e").glob("*/*/er/seed-0")
    damage(place / file)
    if not (
        damage is lose and file in ("result.json", "run.json")
    ):  # then it is not done, or there is no run
        name = Path(file).name
        for read in (
            lambda: gather([tmp_path / "e"]),
            lambda: measure_runs(read_runs(tmp_path / "e")),
            lambda: streamlab.load_run(tmp_path / "e").export(),
            lambda: RunFolder(place).record(),
        ):
            with pytest.raises(CorruptFile, match=name):
                read()
    again = run(source, tmp_path / "e").runs[0]
    assert again.metrics == whole.metrics
    assert RunFolder(again.folder).damage() is None
    superseded = tmp_path / "e/superseded/1"
    assert superseded.exists() == (damage is not lose or file != "result.json")


def test_a_file_too_many_is_damage_too(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "e")
    (place,) = (tmp_path / "e").glob("*/*/er/seed-0")
    shutil.copy(place / "evaluations/000000.safetensors", place / "evaluations/000099.safetensors")
    with pytest.raises(CorruptFile, match="000099"):
        RunFolder(place).record()


def half_done(source: Source, out: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: int) -> Path:
    """Stopped like a kill after this many checkpoints."""
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr("streamlab.simulator.simulation.patience", lambda cost=0.0: 0.0)
    count = 0

    def stop(spec: Any, event: events.Event) -> None:
        nonlocal count
        count += isinstance(event, events.CheckpointWritten)
        if count == checkpoints:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, out, stop)
    (place,) = out.glob("*/*/er/seed-0")
    return place


@pytest.mark.parametrize("damage", [flip, cut, lose], ids=lambda damage: damage.__name__)
def test_what_the_last_checkpoint_does_not_know_is_taken_up_from_the_one_before(
    damage: Damage, done: Path, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation between the two checkpoints is damaged: the run goes on before it, to the same end."""
    place = half_done(source, tmp_path / "e", monkeypatch, 4)  # batches of 10, evaluated at every second
    newest = sorted((place / "evaluations").iterdir())[-1]
    damage(newest)
    begins: list[int] = []
    whole = streamlab.load_run(done).runs[0]

    def hear(spec: Any, event: events.Event) -> None:
        begins.extend([event.samples_seen] if isinstance(event, events.RunStarted) else [])

    again = run(source, tmp_path / "e", hear).runs[0]
    assert again.metrics == whole.metrics
    assert RunFolder(again.folder).damage() is None
    assert begins == [30]


@pytest.mark.parametrize("damage", [flip, cut, lose], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("file", ["evaluations/000000.safetensors", "events.jsonl"])
def test_what_no_checkpoint_is_from_before_is_refused(
    damage: Damage, file: str, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was padded with zeros, or read as if nothing were."""
    place = half_done(source, tmp_path / "e", monkeypatch, 6)
    damage(place / file)
    again = run(source, tmp_path / "e").runs[0]
    assert not again.complete
    assert f"{Path(file).name} is damaged, and no checkpoint is from before it; remove" in str(again.failure)
    shutil.rmtree(place)
    assert run(source, tmp_path / "e").runs[0].complete


@pytest.mark.parametrize("damage", [flip, cut, swap], ids=lambda damage: damage.__name__)
def test_an_unfinished_run_is_looked_at_by_its_checkpoint_when_it_is_read(
    damage: Damage, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = half_done(source, tmp_path / "e", monkeypatch, 6)
    assert len(RunFolder(place).record().evaluations) > 1
    damage(place / "evaluations/000000.safetensors")
    with pytest.raises(CorruptFile, match=r"000000.safetensors is damaged; streamlab resume goes on"):
        RunFolder(place).record()


def test_a_json_file_of_gigabytes_is_refused_by_its_size(tmp_path: Path) -> None:
    with (tmp_path / "result.json").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(CorruptFile, match="3,221,225,472 bytes, and is not streamlab's"):
        read_sealed(tmp_path / "result.json")


def test_a_sealed_file_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, {"a": (1, 2), "b": {"c": 0.1}})
    assert read_sealed(path) == {"a": [1, 2], "b": {"c": 0.1}}
    for changed in ({"a": [1, 3]}, {"b": {"c": 0.2}}, {"seal": "0"}, {"more": 1}):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
        with pytest.raises(CorruptFile, match="is not as it was written"):
            read_sealed(path)
        write_sealed(path, {"a": (1, 2), "b": {"c": 0.1}})
    path.write_text('{"a": NaN}')
    with pytest.raises(CorruptFile):
        read_sealed(path)
    path.write_text("")
    with pytest.raises(CorruptFile, match="is damaged"):
        read_sealed(path)
    with pytest.raises(FileNotFoundError):
        read_sealed(tmp_path / "b.json")
    path.write_bytes(b"abcdef")
    assert digest_of(path, 3) == digest_of(_with(tmp_path / "c", b"abc"))
    assert digest_of(path, 7) == digest_of(tmp_path / "none") == ""


def _with(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_damaged_experiment_is_named(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "e")
    flip(tmp_path / "e/experiment.json")
    with pytest.raises(StreamlabError, match=r"experiment\.json is damaged"):
        read_runs(tmp_path / "e")


class Wanders(Strategy):
    """Its backbone is frozen while it is judged, and learns in between: features change with it."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.net.requires_grad_(True)
        loss = self.cross_entropy(self.net(batch.images), batch.labels)
        return {"task": loss}

    def consolidate(self) -> None:
        self.net.requires_grad_(False)


def test_features_are_kept_only_while_the_backbone_is_as_it_was(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backbone that learns nothing now is embedded once; written to, or replaced, it is embedded anew."""
    settings = {"scenario": {"tasks": 2}, "backbone": {"name": "mlp", "widths": (8,)}}

    def predictions(strategy: Any) -> list[list[int]]:
        made = simulate(source, strategy, scenario="class-incremental", settings=settings, eval_every=20)
        return [evaluation.predictions.tolist() for evaluation in made.evaluations]

    kept = predictions(Wanders)
    monkeypatch.setattr("streamlab.evaluation.evaluator.embeds_the_same", lambda strategy: strategy.frozen)
    assert predictions(Wanders) == kept
    monkeypatch.undo()
    computed: list[int] = []
    whole = Evaluator.images_of
    monkeypatch.setattr(
        Evaluator, "images_of", lambda self, places: (computed.append(len(places)), whole(self, places))[1]
    )
    made = simulate(source, "er", scenario="class-incremental", settings=settings, eval_every=20)
    embedded: list[int] = []
    features = nn.Module.__call__
    backbone = type(made.strategy.net.backbone)

    def counted(self: nn.Module, *given: Any) -> Any:
        embedded.extend([len(given[0])] if isinstance(self, backbone) else [])
        return features(self, *given)

    monkeypatch.setattr(nn.Module, "__call__", counted)
    strategy: Any = made.strategy
    strategy.net.requires_grad_(False)
    strategy.train_mode(False)
    evaluator = made.evaluator
    for _ in range(3):
        evaluator.evaluate(strategy, 0, (), True, 2, made.exposed_classes(), lambda: torch.zeros(0))
    assert len(embedded) == 1
    with torch.no_grad():
        next(iter(strategy.net.backbone.parameters())).add_(0.1)
    evaluator.evaluate(strategy, 0, (), True, 2, made.exposed_classes(), lambda: torch.zeros(0))
    assert len(embedded) == 2
