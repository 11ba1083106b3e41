"""Listeners with the real libraries, offline: each has what the run's log has, also after a resume."""

from __future__ import annotations

import json
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from making import make_source

import streamlab
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.experiments.held import HeldRun
from streamlab.listeners import listening
from streamlab.simulator import events

SETTINGS = {"scenario": {"tasks": 2}}


@pytest.fixture(scope="module")
def source() -> Source:
    return make_source(classes=4, train=20, test=5)


def run(source: Source, out: Path, log: str) -> streamlab.Experiment:
    return streamlab.run(
        "class-incremental", source, ["ncm", "er"], seeds=1, settings=SETTINGS, workers=0, eval_every=20,
        out=out, show=False, log=(log,),
    )  # fmt: skip


def expected(made: streamlab.Experiment, label: str) -> list[tuple[int, float]]:
    (run,) = [run for run in made.runs if run.spec.label == label]
    return [(e["samples_seen"], e["accuracy"]) for e in run.events if e["event"] == "Evaluated"]


def test_tensorboard(source: Source, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made = run(source, tmp_path / "e", "tensorboard")
    for label in ("ncm", "er"):
        (folder,) = (tmp_path / "e/tensorboard").glob(f"*/*/{label}/seed-0")
        board = accumulator.EventAccumulator(str(folder)).Reload()
        found = [(point.step, point.value) for point in board.Scalars("accuracy")]
        assert found == [(step, pytest.approx(value)) for step, value in expected(made, label)]


def offline_records(path: Path) -> Iterator[Any]:
    """What an offline file of Weights & Biases holds: a log of LevelDB's form, blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    content, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def is_whole(file: Path) -> bool:
    """Whether their service has written a run's last record."""
    from google.protobuf.message import DecodeError

    try:
        return any(record.HasField("exit") for record in offline_records(file))
    except (DecodeError, struct.error):
        return False


def test_weights_and_biases_offline(source: Source, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    made = run(source, tmp_path / "e", "wandb:mode=offline,project=mine")
    files = list((tmp_path / "e/wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    deadline = time.monotonic() + 60
    while not all(map(is_whole, files)):
        assert time.monotonic() < deadline, "their service has not written its last record"
        time.sleep(0.1)
    told: dict[str, list[tuple[int, float]]] = {}
    for file in files:
        name, rows = "", []
        for record in offline_records(file):
            name = record.run.display_name or name
            values = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            if "samples_seen" in values:
                rows.append((int(values["samples_seen"]), float(values["accuracy"])))
        told[name.split("/")[2]] = rows
    for label in ("ncm", "er"):
        assert told[label] == [(step, pytest.approx(value)) for step, value in expected(made, label)]


def test_mlflow(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "theirs").as_uri()
    made = run(source, tmp_path / "e", f"mlflow:uri={uri},experiment=mine")
    client = tracking.MlflowClient(uri)
    number = client.get_experiment_by_name("mine").experiment_id
    found = {one.data.params["label"]: one for one in client.search_runs([number])}
    assert set(found) == {"ncm", "er"}
    for label, one in found.items():
        assert one.info.status == "FINISHED"
        history = client.get_metric_history(one.info.run_id, "accuracy")
        assert [(point.step, point.value) for point in history] == expected(made, label)
        (ours,) = [ours for ours in made.runs if ours.spec.label == label]
        assert one.data.metrics["a_last"] == ours.metrics["a_last"]


def test_trackio(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    for module in ("trackio.utils", "trackio.sqlite_storage"):
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "theirs")
    made = run(source, tmp_path / "e", "trackio:project=mine")
    with sqlite3.connect(tmp_path / "theirs/mine.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
    for label in ("ncm", "er"):
        found = [(step, json.loads(text)) for name, step, text in rows if f"/{label}/" in name]
        curve = [(step, numbers["accuracy"]) for step, numbers in found if "accuracy" in numbers]
        assert curve == expected(made, label)


def test_a_resumed_run_goes_on_in_the_same_place(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "theirs").as_uri()
    log = (f"mlflow:uri={uri},experiment=mine",)

    def go_on(hear: Any = None) -> streamlab.Experiment:
        return streamlab.run(
            source=source, strategies=["er"], seeds=1, workers=0, eval_every=20, settings=SETTINGS,
            out=tmp_path / "e", show=False, log=log, hear=hear,
        )  # fmt: skip

    def stop(spec: Any, event: events.Event) -> None:
        if isinstance(event, events.Evaluated) and event.samples_seen >= 40:
            raise KeyboardInterrupt

    client = tracking.MlflowClient(uri)
    with pytest.raises(KeyboardInterrupt):
        go_on(stop)
    number = client.get_experiment_by_name("mine").experiment_id
    (one,) = client.search_runs([number])
    assert (one.info.status, one.data.tags["failure"]) == ("FAILED", "stopped")
    made = go_on()
    (one,) = client.search_runs([number])
    assert one.info.status == "FINISHED"
    steps = [point.step for point in client.get_metric_history(one.info.run_id, "accuracy")]
    assert set(steps) == {step for step, _ in expected(made, "er")}


class Broken:
    """Raises at its second event."""

    heard = 0

    def begin(self, experiment: Path) -> Broken:
        return self

    def hear(self, run: HeldRun, event: events.Event) -> None:
        type(self).heard += 1
        if self.heard > 1:
            raise OSError("no route to host")

    def close(self) -> None:
        raise OSError("gone")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from streamlab import plugins

    load: Callable[[str, str], Any] = plugins.load
    made = dataclasses.dataclass(frozen=True)(Broken)
    monkeypatch.setattr(plugins, "load", lambda kind, name: made if name == "broken" else load(kind, name))


def test_a_listener_that_fails_is_told_of_once_and_stops_no_run(broken: None, tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "a"
    with listening(["broken"], tmp_path, lines.append) as hear:
        for _ in range(4):
            hear(HeldRun(path, "s", "b", "r", 0), events.ClassesArrived((1,), 0))
    assert lines == [
        "--log broken listens no longer: OSError: no route to host",
        "--log broken listens no longer: OSError: gone",
    ]
    assert Broken.heard == 2


def test_unknown_names_and_missing_libraries_are_refused_before_a_run(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StreamlabError, match="unknown listener 'wandbb'; did you mean 'wandb'"):
        run(source, tmp_path / "e", "wandbb")
    with pytest.raises(StreamlabError, match=r"listener trackio.*projekt"):
        run(source, tmp_path / "e", "trackio:projekt=a")
    import streamlab.listeners as module

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(module, "import_module", missing)
    with pytest.raises(StreamlabError, match=r"wandb is not installed; pip install 'streamlab-cl\[wandb\]'"):
        run(source, tmp_path / "e", "wandb")
    assert not (tmp_path / "e").exists()
