"""What is done with GPUs that are not here: torch is made to say that there are two."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from making import simulate

from streamlab.data.source import Source
from streamlab.device import ONE_GPU, chosen_device, device_here, gpu_answers, gpus_of
from streamlab.errors import StreamlabError
from streamlab.randomness import global_randomness
from streamlab.simulator.execute import deterministic


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of those that were made the current one."""
    made: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    return made


def test_a_gpu_that_is_not_there_is_refused(two_gpus: list[int]) -> None:
    assert [chosen_device(name) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda",
        "cuda",
        "cuda:1",
        "cpu",
    ]
    with pytest.raises(
        StreamlabError, match="device cuda:7 is asked for, and torch sees 2 GPUs, from cuda:0 on"
    ):
        chosen_device("cuda:7")


def test_without_one_a_run_of_a_gpu_is_refused() -> None:
    assert not torch.cuda.is_available()
    with pytest.raises(StreamlabError, match="device cuda is asked for, and torch sees no GPU"):
        device_here("cuda:0")


def test_runs_are_spread_over_all_gpus_or_lie_on_the_named_one(
    two_gpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [gpus_of(name) for name in ("cpu", "cuda", "cuda:1")] == [[], [0, 1], [1]]
    assert device_here("cuda") == torch.device("cuda:0")  # a number always: tensors' devices have one
    assert device_here("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv(ONE_GPU, "1")
    assert device_here("cuda:1") == torch.device("cuda:0")
    assert two_gpus == [0, 1, 0]


def test_on_a_gpu_what_has_no_deterministic_kernel_raises(two_gpus: list[int]) -> None:
    filled = torch.utils.deterministic.fill_uninitialized_memory
    with deterministic("cuda"):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory == filled


def test_a_run_on_the_cpu_leaves_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*given: Any) -> Any:
        raise AssertionError("CUDA was touched")

    for name in ("init", "_lazy_init", "get_rng_state_all", "set_rng_state_all", "set_device", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, touched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with deterministic("cpu"), global_randomness(0, "run"):
        torch.rand(3)
    assert gpu_answers()


def test_a_gpu_that_fails_once_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert gpu_answers()

    def fails() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", fails)
    assert not gpu_answers()


def test_what_a_gpu_has_still_to_do_is_time_of_training(
    monkeypatch: pytest.MonkeyPatch, tiny: Source
) -> None:
    """What was asked of it before an evaluation is waited for, and counted there."""
    simulation = simulate(tiny, "finetune", scenario="class-incremental")
    waited: list[torch.device] = []

    def wait(device: torch.device) -> None:
        waited.append(device)
        time.sleep(0.05)

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    before = simulation.progress.train_seconds
    simulation.wait_for_device()
    assert not waited
    simulation.device = torch.device("cuda:0")
    simulation.wait_for_device()
    assert waited == [torch.device("cuda:0")]
    assert simulation.progress.train_seconds >= before + 0.05
