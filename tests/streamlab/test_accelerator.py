"""Every built-in on a pretended accelerator: it runs, the same bits after resume, and what a step may ask for.

python tests/streamlab/test_accelerator.py     writes accelerator.json, the most that each may ask for
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamlab import plugins
from streamlab.check.accelerator import Asked, ask
from streamlab.errors import StreamlabError

FILE = Path(__file__).with_name("accelerator.json")
BUILT_IN = sorted(plugins.names("strategies"))


def budgets_of(asked: Asked) -> dict[str, dict[str, float]]:
    """What is held to: launches and copies of a step, waits of a step, fetches of an evaluation."""
    step, judged = asked.phases.get("step", {}), asked.phases.get("evaluation", {})
    found = {
        "step": {kind: step.get(kind, 0.0) for kind in ("launch", "slow", "to device", "to host", "wait")}
    }
    return {**found, "evaluation": {kind: judged.get(kind, 0.0) for kind in ("to host", "wait")}}


def hold(names: list[str]) -> None:
    most = json.loads(FILE.read_text(encoding="utf-8"))
    for asked in ask(names):
        assert asked.fault == "", asked
        assert asked.unstable == {}, asked
        for phase, counts in budgets_of(asked).items():
            for kind, count in counts.items():
                where = f"{asked.strategy}, {kind} of a {phase}: {list(asked.lines.get(phase, {}))[:6]}"
                assert count <= most[asked.strategy][phase][kind], where


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_built_in_asks_for_no_more_than_it_did(part: int) -> None:
    hold(BUILT_IN[part::4])


def test_replay_and_distillation_wait_for_nothing() -> None:
    """What the budgets say of the methods that a GPU is most asked for."""
    most = json.loads(FILE.read_text(encoding="utf-8"))
    for name in ("er", "er-ace", "der++", "lwf", "wa", "icarl", "foster", "mvp", "l2p", "slda", "gdumb"):
        assert most[name]["step"]["wait"] == most[name]["step"]["to host"] == 0, name
        solves = name == "slda"  # a matrix is inverted before it predicts
        assert most[name]["evaluation"]["wait"] == solves, name


CULPRITS = {
    "mixes": (
        "self.net(batch.images) + torch.ones(self.setting.num_classes)",
        "tensor of the device and one of the host",
    ),
    "waits": ("self.net(batch.images) * float(batch.images.float().mean() > -1)", ""),
    "masks": ("self.net(batch.images[batch.labels >= 0])", ""),
    "unstable": ("self.net(batch.images) + torch.histc(batch.labels.float(), 4).sum() * 0", ""),
}


@pytest.mark.parametrize("name", CULPRITS)
def test_what_a_stranger_does_is_seen(name: str, tmp_path: Path) -> None:
    computed, fault = CULPRITS[name]
    (tmp_path / "culprit.py").write_text(
        "import torch\nfrom streamlab import Strategy\n\n\nclass Culprit(Strategy):\n"
        '    """Broken on purpose."""\n\n    def losses(self, batch):\n'
        f"        logits = {computed}\n"
        '        return {"task": self.cross_entropy(logits, batch.labels)}\n'
    )
    (asked,) = ask([str(tmp_path / "culprit.py")])
    assert fault in asked.fault
    assert bool(asked.fault) == bool(fault)
    waits = [line for line in asked.lines["step"] if line.startswith("wait")]
    assert bool(waits) == (name in ("waits", "masks"))
    assert all("culprit.py:9" in line for line in waits)
    assert list(asked.unstable) == (["histc"] if name == "unstable" else [])


@pytest.mark.slow
def test_what_a_plugin_prints_and_how_it_ends_is_told(tmp_path: Path) -> None:
    """It prints to where the answer once stood; and ends its process, which is no answer."""
    body = (
        "import os\nfrom streamlab import Strategy\n\n\nclass Loud(Strategy):\n"
        '    """Loud."""\n\n    def losses(self, batch):\n        print("[1, 2]")\n        LEAVE\n'
        '        return {"task": self.cross_entropy(self.net(batch.images), batch.labels)}\n'
    )
    (tmp_path / "loud.py").write_text(body.replace("LEAVE", ""))
    (asked,) = ask([str(tmp_path / "loud.py")])
    assert asked.fault == ""
    (tmp_path / "leaves.py").write_text(body.replace("LEAVE", "os._exit(3)"))
    with pytest.raises(StreamlabError, match="the pretended accelerator failed: it ended with 3"):
        ask([str(tmp_path / "leaves.py")])


if __name__ == "__main__":
    found = {asked.strategy: budgets_of(asked) for asked in ask(BUILT_IN)}
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
