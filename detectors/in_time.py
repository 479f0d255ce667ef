"""What holds for each row at each instant: the timelines of several rows as one sorted array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from detectors.protocol import Longs, Rows

_ROW_BITS: Final = 43  # an instant in ms fits below them until the year 2248


class InTime:
    """Marks from which on something holds for a row, until the row's next one.

    >>> marks = InTime([(0, 1_000), (0, 2_000), (3, 500)])
    >>> marks.at(np.array([0, 0, 0, 3, 4]), np.array([999, 1_000, 5_000, 500, 500])).tolist()
    [-1, 0, 1, 2, -1]
    """

    def __init__(self, marks: Iterable[tuple[int, int]]) -> None:
        """``marks``: (row, from which instant on, Unix ms), ordered by both."""
        self._place = np.array([row << _ROW_BITS | max(from_ms, 0) for row, from_ms in marks], np.int64)

    def at(self, rows: Rows, t_ms: Longs) -> Rows:
        """Return (N,) the number of the mark that holds for each row at its instant, -1 before a row's first one."""
        if not len(self._place):
            return np.full(len(rows), -1)
        last = np.searchsorted(self._place, rows.astype(np.int64) << _ROW_BITS | t_ms, side="right") - 1
        own = (last >= 0) & (self._place[last] >> _ROW_BITS == rows)
        return np.where(own, last, -1)
