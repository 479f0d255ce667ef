"""A flat table of readings: one numpy array a column, a row a reading."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Table:
    """N readings of many patients; all columns have shape (N,)."""

    slot: NDArray[np.intp]  # the patient's place in the state arrays
    device: NDArray[np.int32]
    metric: NDArray[np.int16]  # catalogue number
    t_ms: NDArray[np.int64]
    value: NDArray[np.float32]
    quality: NDArray[np.uint8]
    frame: NDArray[np.int32]  # index into the batch's frames; -1 for readings of earlier batches

    @classmethod
    def empty(cls) -> Self:
        """Return a table without rows."""
        return cls(
            np.empty(0, np.intp), np.empty(0, np.int32), np.empty(0, np.int16), np.empty(0, np.int64),
            np.empty(0, np.float32), np.empty(0, np.uint8), np.empty(0, np.int32),
        )  # fmt: skip

    @classmethod
    def concatenate(cls, tables: list[Self]) -> Self:
        """Return the rows of all ``tables``, in order."""
        if not tables:
            return cls.empty()
        return cls(*(np.concatenate([getattr(table, f.name) for table in tables]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.t_ms)

    def __getitem__(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Table:
        return Table(*(getattr(self, f.name)[rows] for f in fields(self)))

    def sorted(self, *keys: NDArray[np.generic]) -> Table:
        """Return the rows ordered by ``keys``, the first the most significant; equal keys keep their order."""
        return self[np.lexsort(keys[::-1])]


def group_starts(*keys: NDArray[np.generic]) -> NDArray[np.intp]:
    """Return where each run of equal keys begins, for columns already sorted by them."""
    if len(keys[0]) == 0:
        return np.empty(0, np.intp)
    change = np.zeros(len(keys[0]), bool)
    change[0] = True
    for key in keys:
        change[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(change)


def group_bounds(*keys: NDArray[np.generic]) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of equal keys, for columns already sorted by them."""
    starts = group_starts(*keys)
    if not len(starts):
        return []
    stops = np.append(starts[1:], len(keys[0]))
    return list(zip(starts.tolist(), stops.tolist(), strict=True))
