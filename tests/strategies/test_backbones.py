"""Strategies under other backbones than their own: what is frozen stays so, and convolutions serve all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from making import make_source, simulate

from streamlab.data.source import Source
from streamlab.errors import StreamlabError
from streamlab.simulator.stream_simulation import StreamSimulation

CONVNET = {"name": "convnet", "blocks": 2, "width": 8}
FROZEN = {"name": "vit", "patch_size": 4, "width": 16, "depth": 1, "heads": 2}
OTHERS = ["agem", "ewc:samples=20", "foster:compression_epochs=1", "gdumb:passes=1", "gem", "mas:samples=20"]


@pytest.fixture(scope="module")
def few() -> Source:
    return make_source(classes=4, train=8, test=4)


def run(source: Source, strategy: str, backbone: dict[str, Any], **sections: Any) -> StreamSimulation:
    scenario = {"tasks": 2, "kind": "sessions"}
    settings = {"scenario": scenario, "stream": {"batch_size": 8}, "backbone": backbone, **sections}
    return simulate(source, strategy, scenario="class-incremental", budget="16ex", settings=settings)


@pytest.mark.parametrize("name", [*(name for name in OTHERS if "foster" not in name), "mir", "si"])
def test_a_frozen_backbone_stays_as_it_was(few: Source, name: str) -> None:
    strategy = run(few, name, FROZEN).strategy
    before = run(few, "finetune", FROZEN).strategy.net.backbone.state_dict()
    for key, tensor in strategy.net.backbone.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    held = strategy.account.ledger().bytes_by_kind
    assert held["frozen backbone"] == sum(tensor.nbytes for tensor in before.values())


@pytest.mark.parametrize("name", [name for name in OTHERS if "gdumb" not in name])  # it has rates of its own
def test_a_network_of_convolutions_learns_with_them_too(few: Source, name: str) -> None:
    begun = run(few, name, CONVNET, optimizer={"lr": 1e-30}).strategy.net.state_dict()
    learned = run(few, name, CONVNET).strategy.net.state_dict()
    assert any(not torch.equal(learned[key], begun[key]) for key in learned if "head" not in key)


def test_foster_refuses_a_backbone_that_cannot_be_boosted(few: Source) -> None:
    with pytest.raises(StreamlabError, match="learns a whole network, and the backbone vit is frozen"):
        run(few, "foster", FROZEN)


@pytest.mark.parametrize("name", ["finetune", "gem", "agem", "expandable-der", "si"])
def test_the_learning_rate_halves_whoever_steps(few: Source, name: str) -> None:
    """4 batches a task of 16 samples, and an optimizer made anew in the second for one that expands."""
    optimizer = {"lr": 0.08, "schedule": "step", "unit": "step", "every": 3, "gamma": 0.5, "over": "stream"}
    settings = {"optimizer": optimizer, "stream": {"batch_size": 4}}
    made = run(few, name, {"name": "mlp", "widths": "8"}, **settings).strategy.optimizer
    assert made is not None
    rates = [group["lr"] for group in made.param_groups]
    assert rates == [0.08 / 4]  # the eighth step's
