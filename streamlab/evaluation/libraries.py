"""One task matrix, reported as five libraries would: they share words, not definitions.

R: (T, T), R[i][j] = accuracy on task j after task i; what lies above the diagonal is not read.
Sources: the libraries' published code, as design notes of 2026 found it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .metrics import NotDefined, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


def _mammoth_forgetting(matrix: Matrix) -> float:
    """Mean over j < T-1 of (max over all i, the last included, - final): never negative."""
    return _mean([matrix[j:, j].max() - matrix[-1, j] for j in range(len(matrix) - 1)])


def _mammoth_transfer(matrix: Matrix) -> float:
    """Mean over j < T-1 of R[T-1][j] - R[j][j]."""
    return _mean([matrix[-1, j] - matrix[j, j] for j in range(len(matrix) - 1)])


def _avalanche_forgetting(matrix: Matrix) -> float:
    """Mean over j < T-1 of R[j][j] - final: may be negative."""
    return -_mammoth_transfer(matrix)


def _continuum_forgetting(matrix: Matrix) -> float:
    """Mean over j < T-1 of (max over j <= l <= T-2 of R[l][j] - final) (Chaudhry et al. 2018, eq. 3)."""
    return _mean([matrix[j:-1, j].max() - matrix[-1, j] for j in range(len(matrix) - 1)])


def _continuum_transfer(matrix: Matrix) -> float:
    """Mean over all pairs i > j of R[i][j] - R[j][j]."""
    size = len(matrix)
    return _mean([matrix[i, j] - matrix[j, j] for j in range(size) for i in range(j + 1, size)])


def _surveys_forgetting(matrix: Matrix) -> float:
    """Sum of max - final over all T tasks, divided by T."""
    return _mean([matrix[j:, j].max() - matrix[-1, j] for j in range(len(matrix))])


def _surveys_transfer(matrix: Matrix) -> float:
    """All pairs, clamped at 0."""
    return max(0.0, _continuum_transfer(matrix))


def _mean(terms: list[float]) -> float:
    return float(np.mean(terms))


Definition = Callable[["Matrix"], float]
LIBRARIES: dict[str, tuple[Definition, Definition | None]] = {
    "Mammoth": (_mammoth_forgetting, _mammoth_transfer),
    "PyCIL": (_mammoth_forgetting, None),
    "Avalanche": (_avalanche_forgetting, _mammoth_transfer),
    "Continuum": (_continuum_forgetting, _continuum_transfer),
    "online surveys": (_surveys_forgetting, _surveys_transfer),
}


def as_libraries(matrix: Matrix) -> dict[str, tuple[Value, Value]]:
    """(forgetting, backward transfer) by library, in the matrix's unit.

    NotDefined for all where there are fewer than two tasks or one has no test samples.
    """
    tested = len(matrix) > 1 and bool(np.isfinite(matrix[np.tril_indices(len(matrix))]).all())
    if not tested:
        missing = NotDefined("fewer than two tasks, or a task without test samples or not yet ended")
        return dict.fromkeys(LIBRARIES, (missing, missing))
    none = NotDefined("the library reports none")
    return {
        name: (forgetting(matrix), none if transfer is None else transfer(matrix))
        for name, (forgetting, transfer) in LIBRARIES.items()
    }
