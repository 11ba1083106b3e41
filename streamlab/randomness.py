"""Randomness by name: a draw depends on the seed and on its path, never on who drew before.

Source: ours, after JAX's split keys; the hash is SHA-256, the generator Philox.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .device import gpu_in_use

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MASK_32 = (1 << 32) - 1
_MASK_64 = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, odd
_BLOCK = 4096


def key(seed: int, *path: str | int) -> int:
    """A 128-bit integer that names the place `path` in the run with this seed."""
    text = "/".join([str(seed), *(str(part) for part in path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """A numpy generator of its own for the place `path`."""
    return np.random.Generator(np.random.Philox(key=key(seed, *path)))


class Draws:
    """Plan-grade draws: raw 64-bit Philox output only, so no numpy release changes a plan."""

    def __init__(self, seed: int, *path: str | int) -> None:
        self._bits = np.random.Philox(key=key(seed, *path))

    def permutation(self, count: int) -> NDArray[np.int64]:
        """A random order of 0..count-1."""
        return np.argsort(self._bits.random_raw(count), kind="stable").astype(np.int64)

    def integers(self, below: int, count: int) -> NDArray[np.int64]:
        """`count` integers in 0..below-1 (bias under below / 2**64)."""
        return (self._bits.random_raw(count) % np.uint64(below)).astype(np.int64)

    def cuts(self, count: int, pieces: int) -> NDArray[np.int64]:
        """Edges 0 = e_0 <= ... <= e_pieces = count that cut `count` things at random."""
        inner = np.sort(self.integers(count + 1, pieces - 1))
        return np.concatenate([[0], inner, [count]]).astype(np.int64)


class Uniforms:
    """An endless row of numbers in [0, 1), the n-th depending on the path and n alone.

    Drawn a block at a time; what a checkpoint holds is the path and the position.
    """

    transient: ClassVar[frozenset[str]] = frozenset({"_block", "_block_number"})
    _block: list[float]
    _block_number = -1

    def __init__(self, seed: int, *path: str | int) -> None:
        self.seed, self.path, self.position = seed, path, 0

    def take(self, count: int) -> list[float]:
        """The next `count` numbers."""
        taken: list[float] = []
        while len(taken) < count:
            number, offset = divmod(self.position, _BLOCK)
            if number != self._block_number:
                self._block = generator(self.seed, *self.path, number).random(_BLOCK).tolist()
                self._block_number = number
            piece = self._block[offset : offset + count - len(taken)]
            taken += piece
            self.position += len(piece)
        return taken

    def choose(self, count: int, among: int) -> list[int]:
        """`count` different integers in 0..among-1, in O(count) (a sparse Fisher-Yates shuffle)."""
        moved: dict[int, int] = {}
        chosen = []
        for first, uniform in enumerate(self.take(count)):
            other = first + int(uniform * (among - first))
            chosen.append(moved.get(other, other))
            moved[other] = moved.get(first, first)
        return chosen


def hashed(name: int, counters: Any) -> Any:
    """Integers in [0, 2^63), each depending on `name` and its counter alone, the same on every device.

    name: a key; counters: an int64 tensor or array of any shape, which is the result's. SplitMix64's
    output function (Steele et al. 2014) in wrapping 64-bit arithmetic.
    """
    state = counters * _signed(_GAMMA) + _signed(name & _MASK_64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ _shifted(state, shift)) * _signed(factor)
    return (state ^ _shifted(state, 31)) & ((1 << 63) - 1)


def _shifted(values: Any, count: int) -> Any:
    """A right shift that fills with zeros."""
    return (values >> count) & ((1 << (64 - count)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def seed_torch(value: int) -> None:
    """Seed torch's global generators from one integer (about 1 µs)."""
    import torch

    torch.default_generator.manual_seed(value & ((1 << 63) - 1))
    # There are none before CUDA is used. torch.cuda.manual_seed_all would keep each seeding in a list until
    # then: one a step, for ever on a CPU.
    for generator in torch.cuda.default_generators:
        generator.manual_seed(value & ((1 << 63) - 1))


def seed_global_generators(value: int) -> None:
    """Seed torch's, numpy's and Python's global generators from one integer."""
    seed_torch(value)
    np.random.seed(value & _MASK_32)
    random.seed(value)


def take_host_state() -> Any:
    """The state of numpy's and Python's global generators as JSON values."""
    name, words, *rest = np.random.get_state(legacy=True)
    version, state, gauss = random.getstate()
    return [[name, np.asarray(words).tolist(), *rest], [version, list(state), gauss]]


def put_host_state(plain: Any) -> None:
    """Give numpy's and Python's global generators a state that was taken."""
    (name, words, *rest), (version, state, gauss) = plain
    np.random.set_state((name, np.array(words, np.uint32), *rest))
    random.setstate((version, tuple(state), gauss))


@contextmanager
def global_randomness(seed: int, *path: str | int) -> Iterator[None]:
    """Seed the global generators from a named place; give the caller's state back after."""
    import torch

    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if gpu_in_use() else None
    seed_global_generators(key(seed, *path))
    try:
        yield
    finally:
        torch.set_rng_state(state[0])
        np.random.set_state(state[1])
        random.setstate(state[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
