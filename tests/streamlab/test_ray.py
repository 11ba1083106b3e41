"""Cells as tasks of a real Ray cluster: a node is killed half-way, and every cell ends, once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from comparing import asking

from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.experiments import ray_engine
from streamlab.experiments.engines import run_grid
from streamlab.experiments.grid import prepare_grid
from streamlab.experiments.layout import settle

COMMAND = str(Path(sys.executable).parent / "streamlab")


@pytest.mark.slow
def test_a_node_is_killed_and_every_cell_ends_once(tiny_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        doomed = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        out, recipe = tmp_path / "out", tmp_path / "grid.toml"
        recipe.write_text(
            'scenarios = ["si-blurry"]\nsource = "fashion-mnist"\nstrategies = ["er", "er-ace"]\n'
            f'budgets = ["1MiB", "2MiB"]\nseeds = 3\neval_every = 500\ndata = "{tiny_data}"\n'
        )
        command = [COMMAND, "compare", str(recipe), "--engine", "ray", "--address", cluster.address]
        child = subprocess.Popen(
            [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        deadline = time.monotonic() + 300
        while child.poll() is None and len(list(out.glob("si-blurry/**/result.json"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert child.poll() is None, child.communicate()[0]
        cluster.remove_node(doomed, allow_graceful=False)
        shown = child.communicate(timeout=400)[0]
    finally:
        cluster.shutdown()
    assert child.returncode == 0, shown
    local = tmp_path / "local"
    subprocess.run(
        [COMMAND, "compare", str(recipe), "--out", str(local)], capture_output=True, check=True, timeout=300
    )
    results = sorted(out.glob("si-blurry/**/result.json"))
    assert len(results) == 12
    for path in results:
        events = [json.loads(line) for line in (path.parent / "events.jsonl").read_text().splitlines()]
        assert [event["event"] for event in events].count("RunEnded") == 1
        other = json.loads((local / path.relative_to(out)).read_text())
        assert json.loads(path.read_text())["metrics"] == other["metrics"]
    assert shown.count(": done (") == 12
    assert (out / "report.html").exists()


def test_what_a_cluster_cannot_do_is_said(
    tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = prepare_grid(asking(engine="ray", address="127.0.0.1:1"), {"tiny": tiny})
    settle(grid, tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        StreamlabError, match=r"the engine ray needs a package: pip install 'streamlab-cl\[ray\]'"
    ):
        run_grid(grid, tmp_path, lambda cell, event: None)
    with pytest.raises(StreamlabError, match="is not on this node; a cluster's nodes must share"):
        ray_engine.run_cell(str(tmp_path / "elsewhere"), "tiny", "", "")
