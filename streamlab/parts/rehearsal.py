"""How many exemplars are replayed beside a batch: a fixed number, or their share of an experience's data."""

from __future__ import annotations

from collections.abc import Sized


class Rehearsal:
    """size: exemplars beside every batch; 0: as many as there would be had they been shuffled among the new.

    The latter leaves the imbalance between old and new classes that methods for sessions are made for.
    """

    def __init__(self, size: int) -> None:
        self.size, self.share, self.owed = size, 0.0, 0.0

    def begin(self, exemplars: Sized, samples: Sized) -> None:
        """An experience of so many samples begins."""
        self.share, self.owed = len(exemplars) / max(1, len(samples)), 0.0

    def beside(self, batch: Sized) -> int:
        """Exemplars to be drawn for this batch."""
        if self.size:
            return self.size
        self.owed += self.share * len(batch)
        count = int(self.owed)
        self.owed -= count
        return count
