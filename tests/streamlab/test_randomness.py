"""Randomness has names: a draw depends on its path alone."""

from __future__ import annotations

import random

import numpy as np
import torch

from streamlab.randomness import Draws, generator, global_randomness


def test_a_path_names_a_draw_whoever_drew_before() -> None:
    first = generator(3, "buffer", "draw").random(4)
    generator(3, "augment").random(100)
    np.testing.assert_array_equal(generator(3, "buffer", "draw").random(4), first)
    assert not np.array_equal(generator(3, "buffer", "write").random(4), first)
    assert not np.array_equal(generator(4, "buffer", "draw").random(4), first)


def test_plan_draws_are_pinned() -> None:
    """No numpy release may change a plan: these came from the first version of this library."""
    draws = Draws(0, "plan", "test")
    assert draws.permutation(8).tolist() == PINNED_PERMUTATION
    assert draws.integers(100, 5).tolist() == PINNED_INTEGERS


def test_global_generators_are_given_back() -> None:
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    with global_randomness(7, "inside"):
        inside = torch.rand(3)
    with global_randomness(7, "inside"):
        assert torch.equal(torch.rand(3), inside)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])
    assert random.random() == expected[2]


PINNED_PERMUTATION = [7, 6, 3, 5, 4, 0, 1, 2]
PINNED_INTEGERS = [95, 48, 65, 10, 24]
