"""A stream's clock: what it grants with each sample, and how late labels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Clock:
    """What a stream grants to every strategy alike, and when labels come; without one, it waits.

    operations: that it grants a sample (0: as many as a strategy takes), matrix products and convolutions
    counted. beyond: what becomes of a strategy that takes more: the stream goes on while it computes, and
    samples pass `unseen` (real-time evaluation: Ghunaim et al., CVPR 2023), or it takes `fewer-updates`
    of what it sees (budgeted: Prabhu et al., CVPR 2023). delay: batches by which labels come after their
    images (Csaba et al., NeurIPS 2024).
    """

    operations: float = 0.0
    beyond: Literal["unseen", "fewer-updates"] = "unseen"
    delay: int = 0

    def granted(self, before: float, spent: float, samples: int) -> float:
        """Operations granted in all once these samples have come; what was not spent by then is lost."""
        return min(before, spent) + self.operations * samples

    def affords(self, granted: float, spent: float) -> bool:
        """Whether a strategy may begin an update: it has finished what it had begun."""
        return not self.operations or granted > spent


def batch_ends(lengths: Sequence[int], size: int) -> list[int]:
    """Samples of a stream by the end of each of its batches, none of which spans two experiences."""
    sizes = (min(size, length - begin) for length in lengths for begin in range(0, length, size))
    return list(accumulate(sizes))


def decorrelated_shift(labels: NDArray[np.int64], classes: int) -> int | None:
    """The least shift at which repeating a label from so many samples ago is no better than chance.

    labels: (n,) of a stream, in order. Of all pairs of samples so far apart, the share that agree is compared
    with the share that would agree if both were drawn from the stream: sum over classes of p(c)².
    Hammoud et al., ICCV 2023, choose S by a blind classifier; that it repeats one label is ours.
    None: there is no such shift in the first half of the stream.
    """
    count = len(labels)
    length = 1 << (2 * count - 1).bit_length()
    agreeing = np.zeros(count)
    for label in range(classes):
        shown = np.fft.rfft(labels == label, length)
        agreeing += np.fft.irfft(shown * shown.conj(), length)[:count]
    shares = np.round(agreeing) / np.arange(count, 0, -1)
    chance = np.square(np.bincount(labels, minlength=classes) / count).sum()
    found = np.flatnonzero(shares[1 : count // 2 + 1] <= chance)
    return int(found[0]) + 1 if len(found) else None
