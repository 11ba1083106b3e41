"""What leaves: tables that say what the record says, and networks that predict what the run predicted."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import make_source

import streamlab
from streamlab import plugins
from streamlab.data.source import Source
from streamlab.errors import CorruptFile, StreamlabError
from streamlab.experiments.export import TABLES
from streamlab.needs import EPISODES
from streamlab.plans.episodes import EpisodePlan
from streamlab.runs.folder import RunFolder
from streamlab.runs.spec import load_strategy

FEW = {"scenario": {"tasks": 2}, "backbone": {"name": "mlp", "widths": (16,)}}


@pytest.fixture(scope="module")
def source() -> Source:
    return make_source(classes=6, train=12, test=5, size=16, contrast=60)


@pytest.fixture(scope="module")
def experiment(source: Source, tmp_path_factory: pytest.TempPathFactory) -> streamlab.Experiment:
    return streamlab.run(
        "class-incremental", source, ["er", "ncm"], seeds=2, settings={"scenario": {"tasks": 2}}, workers=0,
        eval_every=20, record=("network", "unexposed"), out=tmp_path_factory.mktemp("runs") / "a", show=False,
    )  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_say_what_the_record_says(
    experiment: streamlab.Experiment, source: Source, tmp_path: Path
) -> None:
    tables = {path.stem: read(path) for path in experiment.export(out=tmp_path)}
    assert set(tables) == {"metrics", "evaluations", "predictions"}
    run = experiment.runs[0]
    mine = {"strategy": run.spec.label, "seed": str(run.spec.seed), "budget": "500ex"}

    def of_run(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [row for row in rows if mine.items() <= row.items()]

    told = {row["metric"]: row for row in of_run(tables["metrics"])}
    assert {name: float(row["value"]) for name, row in told.items() if row["value"]} == run.metrics
    assert all(row["not_defined"] for row in told.values() if not row["value"])
    record: Any = run.record
    rows = of_run(tables["evaluations"])
    assert [float(row["accuracy"]) for row in rows if row["accuracy"]] == pytest.approx(
        [evaluation.accuracy for evaluation in record.evaluations if len(evaluation.labels)]
    )
    assert [int(row["samples_seen"]) for row in rows] == [e.samples_seen for e in record.evaluations]
    for number, evaluation in enumerate(record.evaluations):
        rows = [row for row in of_run(tables["predictions"]) if int(row["evaluation"]) == number]
        shown = [row for row in rows if row["shown"] == "true"]
        for name, values in (
            ("prediction", evaluation.predictions), ("label", evaluation.labels),
            ("test_index", evaluation.test_indices),
        ):  # fmt: skip
            assert [int(row[name]) for row in shown] == values.tolist()
        assert [row["class"] for row in rows] == [source.class_names[int(row["label"])] for row in rows]
        if evaluation.confidence is not None:
            found = np.array([float(row["confidence"]) for row in shown], np.float32)
            np.testing.assert_array_equal(found, evaluation.confidence)
        hidden = [row for row in rows if row["shown"] == "false"]
        expected = [] if evaluation.unexposed is None else evaluation.unexposed.unmasked.tolist()
        assert [int(row["unmasked"]) for row in hidden] == expected
        assert all(row["prediction"] == "" for row in hidden)


def test_parquet_has_the_same_rows_and_columns(experiment: streamlab.Experiment, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    experiment.export(out=tmp_path)
    experiment.export("parquet", tmp_path)
    for name in ("metrics", "evaluations", "predictions"):
        table = pq.read_table(tmp_path / f"{name}.parquet")
        assert table.column_names == [column.name for column in TABLES[name]]
        expected = read(tmp_path / f"{name}.csv")
        found = table.to_pylist()
        assert len(found) == len(expected)
        for row, text in zip(found[::7], expected[::7], strict=True):
            for column in TABLES[name]:
                value = row[column.name]
                if value is None:
                    assert text[column.name] == ""
                elif column.kind == "flag":
                    assert text[column.name] == str(value).lower()
                else:
                    assert type(value)(text[column.name]) == value


def test_episodes_have_a_row_each(source: Source, tmp_path: Path) -> None:
    settings = {
        "scenario": {
            "train_classes": 3, "validation_classes": 0, "test_classes": 3, "way": 3, "shot": 1, "query": 2,
            "episodes": 4, "test_episodes": 5, "validation_episodes": 0, "keep": "last",
        },
        "backbone": {"name": "mlp", "widths": (8,)},
    }  # fmt: skip
    made = streamlab.run(
        "episodes", source, ["protonet"], seeds=1, settings=settings, workers=0, out=tmp_path, show=False,
        record=("network",),
    )  # fmt: skip
    tables = {path.stem: read(path) for path in made.export()}
    assert "predictions" not in tables
    judged: Any = made.runs[0].record.tested()
    found = [float(row["accuracy"]) for row in tables["episodes"] if row["phase"] == "test"]
    np.testing.assert_allclose(found, judged.accuracy)
    plan: Any = made.runs[0].record.plan
    assert isinstance(plan, EpisodePlan)
    network = streamlab.load_network(made.runs[0].folder)
    assert network.features(torch.zeros(2, 1, 16, 16, dtype=torch.uint8)).shape == (2, 8)


def test_a_network_is_loaded_and_learns_on(
    experiment: streamlab.Experiment, source: Source, tmp_path: Path
) -> None:
    run = experiment.runs[0]
    network = streamlab.load_network(run.folder)
    assert not network.training
    images = torch.from_numpy(source.test_images)
    assert network.predict(images[:3]) == [source.class_names[i] for i in network(images[:3]).argmax(1)]
    assert "exemplars" not in json.dumps(sorted(network.state_dict()))
    network.train()
    network.net(images[:4]).sum().backward()
    assert network.net.head.weight.grad is not None
    from safetensors.torch import load_file

    plain = load_file(run.folder / "network.safetensors")
    assert not any(name.startswith("buffer") for name in plain)
    for name, value in network.state_dict().items():
        assert torch.equal(plain[name], value)
    from streamlab.trained import export_model

    folder = export_model(run.folder, tmp_path / "model")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert json.loads((folder / "config.json").read_text())["id2label"]["0"] == "class 0"
    assert (folder / "README.md").read_text().startswith("---\nlibrary_name: streamlab\n")
    assert torch.equal(streamlab.load_network(folder)(images), streamlab.load_network(run.folder)(images))


def test_what_cannot_be_loaded_is_told(experiment: streamlab.Experiment, tmp_path: Path) -> None:
    run = experiment.runs[0]
    content = (run.folder / "network.safetensors").read_bytes()
    cut = tmp_path / "network.safetensors"
    cut.write_bytes(content[:-9])
    with pytest.raises(CorruptFile, match="no whole network file"):
        streamlab.load_network(cut)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(StreamlabError, match="was not written by a run"):
        streamlab.load_network(tmp_path / "other.safetensors")
    with pytest.raises(StreamlabError, match="holds no trained network"):
        streamlab.load_network(tmp_path / "nowhere")
    with pytest.raises(StreamlabError, match="unknown form of tables 'xls'"):
        experiment.export("xls")


def test_a_run_that_kept_none_says_how_to(source: Source, tmp_path: Path) -> None:
    made = streamlab.run(source=source, strategies=["ncm"], seeds=1, workers=0, out=tmp_path, show=False)
    with pytest.raises(StreamlabError, match="kept no network; a run that is given --record network keeps"):
        streamlab.load_network(made.runs[0].folder)


def every_builtin() -> list[str]:
    return [name for name in plugins.names("strategies") if load_strategy(name).needs.kinds != EPISODES]


def _scenario(name: str) -> tuple[str, dict[str, Any]]:
    if load_strategy(name).base is not None:
        return "fscil", {"base_classes": 4, "way": 1, "shot": 3, "sessions": 2}
    kind = "sessions" if "sessions" in load_strategy(name).needs.kinds else "online"
    return "class-incremental", {"tasks": 2, "kind": kind}


@pytest.mark.slow
@pytest.mark.parametrize("name", every_builtin())
def test_every_builtin_predicts_from_its_file_as_it_did(name: str, source: Source, tmp_path: Path) -> None:
    """The last evaluation's predictions, from the file alone."""
    scenario, options = _scenario(name)
    made = streamlab.run(
        scenario, source, [name], seeds=1, settings={"scenario": options}, workers=0,
        budget="12ex", record=("network",), out=tmp_path, show=False,
    )  # fmt: skip
    (run,) = made.runs
    assert run.complete, run.failure
    network = streamlab.load_network(run.folder)
    record: Any = RunFolder(run.folder).record()
    last = record.evaluations[-1]
    with torch.no_grad():
        found = network(torch.from_numpy(source.test_images[last.test_indices])).argmax(1)
    np.testing.assert_array_equal(found.numpy(), last.predictions)
