"""A strategy that misbehaves is reported by name, and its neighbours finish."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from making import carry_on, resolved

import streamlab
from streamlab.batch import Batch
from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.runs.folder import RunFolder
from streamlab.strategy import Strategy

HEAD = """\
'''A strategy that is broken on purpose.'''
import os
import torch
import torch.nn.functional as F
from streamlab import Batch, Strategy

class Broken(Strategy):
    def losses(self, batch):
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}

"""

FAULTS = {
    "returns a tensor": (
        "    def losses(self, batch):\n        return self.net(batch.images).sum()\n",
        r"^broken: losses returned Tensor, and must return named scalars: \{'task': loss\}",
    ),
    "raises": (
        "    def remember(self, batch):\n        if self.exposed.sum() > 3: raise ValueError('no more')\n",
        r"^broken: raised ValueError: no more \(broken.py, line 12\); experience \d, step \d+$",
    ),
    "nan": (
        "    def losses(self, batch):\n        return {'task': self.net(batch.images).sum() * float('nan')}\n",
        r"^broken: task is nan at step 1; the run has diverged; it is tuned by optimizer\.lr; experience \d, step \d+$",
    ),
    "shape": (
        "    def predict(self, images):\n        return torch.zeros(len(images), 2)\n",
        r"^broken: predict returned \(500, 2\), and must return scores of shape \(500, 6\); experience",
    ),
    "nan scores": (
        "    def predict(self, images):\n        return torch.full((len(images), 6), float('nan'))\n",
        r"^broken: predict returned scores that are not numbers \(NaN\); experience",
    ),
    "overrun": (
        "    def setup(self):\n        self.kept = []\n"
        "    def remember(self, batch):\n        self.kept.append(torch.zeros(10000))\n",
        r"^broken: \d+(\.\d)? [KM]iB held, budget 500 KiB: other \d+(\.\d)? [KM]iB, model 65.0 KiB, head 6.0 KiB; experience",
    ),
    "dies": (
        "    def remember(self, batch):\n        os._exit(3)\n",
        r"^broken: its worker died \(exit status 3\); the run can be resumed$",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_strategy_is_named_and_its_neighbour_finishes(
    tmp_path: Path, tiny: Source, fault: str
) -> None:
    body, sentence = FAULTS[fault]
    (tmp_path / "broken.py").write_text(HEAD + body)
    experiment = streamlab.run(
        source=tiny,
        strategies=[str(tmp_path / "broken.py"), "er"],
        seeds=1,
        budget="500KiB",
        workers=1 if fault == "dies" else 0,
        out=tmp_path / "out",
        show=False,
    )
    broken, neighbour = experiment.runs
    assert not broken.complete
    assert neighbour.complete
    assert re.search(sentence, str(broken.failure)), broken.failure


class Mended(Strategy):
    broken = True

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        if self.broken and self.exposed.all():
            raise RuntimeError("not yet")
        return {"task": torch.nn.functional.cross_entropy(self.net(batch.images), batch.labels)}


def test_a_failed_run_resumes_once_its_strategy_is_mended(tmp_path: Path, tiny: Source) -> None:
    grid = resolved(tiny, Mended)
    assert not carry_on(grid, tmp_path)
    Mended.broken = False
    assert carry_on(grid, tmp_path)
    run = streamlab.load_run(tmp_path / grid.cells[0].folder)
    assert run.complete
    assert run.failure is None


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"strategies": ["mpv"]}, "unknown strategy 'mpv'"),
        (
            {"strategies": ["re"]},
            r"unknown strategy 're'; did you mean 'er'\? \(streamlab list strategies\)",
        ),
        (
            {"strategies": ["der"]},
            r"strategy 'der' may mean 'der\+\+' \(Dark Experience Replay.*\) or 'expandable-der' \(DER, .*\); name one",
        ),
        ({"strategies": []}, "no strategy is named"),
        ({"strategies": ["er", "er"]}, "strategy 'er' is named twice; give one of them an option"),
        ({"strategies": ["er:replay_size"]}, "write NAME:OPTION=VALUE"),
        (
            {"strategies": ["er:replaysize=3"]},
            "unknown option of er 'replaysize'; did you mean 'replay_size'",
        ),
        ({"strategies": ["./none.py"]}, "strategy file none.py does not exist"),
        ({"strategies": ["lwf"]}, "lwf needs task boundaries, and si-blurry hides them"),
        ({"scenario": "siblurry"}, "unknown scenario 'siblurry'; did you mean 'si-blurry'"),
        ({"source": "fashion-mnst"}, "unknown source 'fashion-mnst'; did you mean 'fashion-mnist'"),
        ({"budget": "much"}, "budget 'much' is not understood"),
        ({"seeds": 0}, "--seeds is 0, and must be at least 1"),
        ({"eval_every": 0}, "--eval-every is 0, and must be at least 1"),
        ({"settings": ["streem.batch_size=3"]}, "unknown section 'streem'; did you mean 'stream'"),
        ({"settings": ["optimizer.lr=-1"]}, "optimizer: lr is -1.0, and must be above 0"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        (
            {"settings": ["stream.epochs=5"]},
            "stream: epochs is 5, and si-blurry is an online stream, which serves each sample once",
        ),
        ({"settings": ["ewc.strength=3"]}, "ewc has options set, and is no strategy of this run"),
        ({"source": "mine.npz"}, "unknown source 'mine.npz'; did you mean 'npz:mine.npz'"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_written(
    tmp_path: Path, request_: dict[str, object], sentence: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(StreamlabError, match=sentence) as error:
        streamlab.run(**{"strategies": ["er"], "out": out, **request_})
    assert "\n" not in str(error.value)
    assert not out.exists()


def test_a_strategy_that_does_not_fit_its_budget_says_what_it_needs(tmp_path: Path, tiny: Source) -> None:
    with pytest.raises(StreamlabError) as refused:
        resolved(tiny, "er", budget="10KiB")
    assert str(refused.value) == (
        "er: it needs 71.0 KiB for its own state, which the budget of 10.0 KiB does not hold; "
        "--smaller names smaller networks"
    )


def test_a_budget_in_bytes_becomes_exemplars(tmp_path: Path, tiny: Source) -> None:
    experiment = streamlab.run(
        source=tiny,
        strategies=["er"],
        seeds=1,
        budget="80000",
        workers=0,
        out=tmp_path / "o",
        show=False,
    )
    resources = experiment.runs[0].result["resources"]
    assert resources["exemplars"] == (80000 - 72728) // (64 + 8)
    assert resources["held_bytes"] <= 80000


OUTER = """\
import itertools, random
from collections import deque
SEEN, WEIGHTS, DRAWS = {}, torch.zeros(3), random.Random(0)
QUEUE, NUMBERS, TEACHER = deque(), itertools.count(), torch.nn.Linear(2, 2)

class Helper:
    uses = 0
    seen = 0

HELPER = Helper()

def helped(held=[]):
    held.append(1)

helped.calls = 0

def counting():
    count = 0
    def counted():
        nonlocal count
        count += 1
    return counted

counted = counting()

def hooked():
    made = torch.nn.Linear(2, 2)
    made.register_forward_pre_hook(lambda *held: None)
    return made

"""
OUTSIDE = {
    "type(self).count = getattr(type(self), 'count', 0) + 1": "Broken.count",
    "type(self).table.append(1)": "Broken.table",
    "SEEN.update(a=len(SEEN), **{str(len(SEEN)): 1})": "SEEN of its module",
    "WEIGHTS.add_(1)": "WEIGHTS of its module",
    "globals().update(NUMBER=globals().get('NUMBER', 0) + 1)": "NUMBER of its module",
    "DRAWS.random()": "DRAWS of its module",
    "QUEUE.append(len(QUEUE))": "QUEUE of its module",
    "next(NUMBERS)": "NUMBERS of its module",
    "Helper.uses += 1": "Helper.uses",
    "HELPER.seen += 1": "HELPER of its module",
    "TEACHER.weight.data.add_(1)": "TEACHER of its module",
    "helped.calls += 1": "what helped holds",
    "helped()": "what helped holds",
    "counted()": "what counted holds",
    "self.defaulted()": "what Broken.defaulted holds",
    "self.net.register_forward_hook(lambda *held: None)": "what is hooked to net",
    "self.frozen = torch.nn.Sequential(hooked())": "what is hooked to frozen.0",
}


@pytest.mark.parametrize("line", OUTSIDE)
def test_what_changes_outside_the_instance_is_refused_at_the_first_checkpoint(
    line: str, tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_CHECKPOINT_SECONDS", "0")
    head = HEAD.replace(
        "class Broken(Strategy):",
        OUTER + "class Broken(Strategy):\n    table = []\n\n"
        "    def defaulted(self, held={}):\n        held[len(held)] = 1\n",
    )
    (tmp_path / "broken.py").write_text(head + f"    def remember(self, batch):\n        {line}\n")
    grid = resolved(tiny, str(tmp_path / "broken.py"))
    carry_on(grid, tmp_path / "out")
    failure = RunFolder(tmp_path / "out" / grid.cells[0].folder).failure or ""
    assert f": {OUTSIDE[line]} has changed since the run began, and no checkpoint keeps it" in failure


def test_one_sample_alone_is_told_of_before_the_run_where_nothing_joins_it(
    tmp_path: Path, tiny: Source
) -> None:
    """Each session is 80 samples: the second batch of 79 is one, of which batch normalisation has no variance."""

    def failure(strategy: str, norm: str) -> str:
        (run,) = streamlab.run(
            scenario="class-incremental",
            source=tiny,
            strategies=[strategy],
            settings=[
                "scenario.kind=sessions",
                "stream.batch_size=79",
                "backbone.name=mlp",
                f"backbone.norm={norm}",
            ],
            seeds=1,
            workers=0,
            out=tmp_path / f"{strategy}-{norm}",
            show=False,
        ).runs
        return str(run.failure)

    assert failure("finetune", "none") == "None"
    assert "the last batch of experience 1 is one sample" in failure("finetune", "batch")
    assert "a batch is one sample" in failure("icarl", "batch")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["backbone.name=timm:resnet18", "backbone.weights=none.safetensors"], "there is no weights file"),
        (["backbone.name=convnet", "backbone.blocks=5"], "er: backbone convnet: 5 blocks halve"),
        (["backbone.widths=64,1000000000000000000"], "er: backbone mlp cannot be made: Storage size"),
    ],
)
def test_a_network_that_cannot_be_built_is_told_of_once_before_any_run(
    tmp_path: Path, tiny: Source, settings: list[str], sentence: str
) -> None:
    with pytest.raises(StreamlabError, match=sentence):
        streamlab.run(source=tiny, strategies=["er"], settings=settings, out=tmp_path / "out", show=False)
    assert not (tmp_path / "out").exists()


def test_regular_evaluations_are_of_streams(tmp_path: Path, tiny: Source) -> None:
    with pytest.raises(
        StreamlabError, match="--eval-every is of streams; class-incremental is evaluated when"
    ):
        resolved(
            tiny,
            "lwf",
            scenario="class-incremental",
            settings={"scenario": {"kind": "sessions"}},
            eval_every=10,
        )
