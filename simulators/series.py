"""Readings as columns, and how they become the blocks of a frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.catalogue import catalogue
from ingest.frame import MAX_READINGS, MAX_SPAN_MS, Block

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

# Whole numbers that these devices send as ``i2``; the other metrics go as ``f4``.
PACKED: Final = frozenset({"heart_rate", "steps", "spo2", "hrv_rmssd"})


class Series(NamedTuple):
    """N readings of one metric, ascending in time; all columns have shape (N,)."""

    t_ms: NDArray[np.int64]  # Unix ms UTC
    value: NDArray[np.float32]  # in the catalogue's unit
    quality: NDArray[np.uint8]

    def between(self, from_ms: int, to_ms: int) -> Series:
        """Return the readings with ``from_ms`` <= t < ``to_ms``."""
        low, high = np.searchsorted(self.t_ms, [from_ms, to_ms])
        return self.part(slice(low, high))

    def part(self, rows: slice | NDArray[np.intp]) -> Series:
        """Return the readings of these rows."""
        return Series(self.t_ms[rows], self.value[rows], self.quality[rows])

    @classmethod
    def joined(cls, parts: list[Series]) -> Series:
        """Return the readings of all ``parts``, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.t_ms for part in parts]),
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.quality for part in parts]),
        )


Readings = dict[str, Series]


def series(t_ms: NDArray[np.int64], value: NDArray[np.float64], quality: NDArray[np.uint8] | None = None) -> Series:
    """Return a series; ``quality`` None means all good."""
    return Series(t_ms, value.astype(np.float32), np.zeros(len(t_ms), np.uint8) if quality is None else quality)


def blocks(readings: Readings, units: Mapping[str, str] | None = None) -> list[Block]:
    """Return the blocks of a frame that holds ``readings``; empty series make none.

    ``units`` names the unit a device says its values are in, where that isn't the catalogue's.
    """
    units = units or {}
    return [
        block
        for metric, columns in readings.items()
        for block in _blocks_of(metric, units.get(metric, catalogue()[metric].unit), columns)
    ]


def cuts(t_ms: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return (start, stop) of the runs a block can hold: strictly ascending, an hour, 3,600 readings."""
    n = len(t_ms)
    steps = t_ms[1:] - t_ms[:-1]
    ascending = not n or n == 1 or int(steps.min()) > 0
    if ascending and n <= MAX_READINGS and (n == 0 or int(t_ms[-1] - t_ms[0]) < MAX_SPAN_MS):
        return [(0, n)] if n else []
    edges = [0, *(np.flatnonzero(steps <= 0) + 1).tolist(), n]
    runs = []
    for start, stop in pairwise(edges):
        at = start
        while at < stop:
            end = at + int(np.searchsorted(t_ms[at:stop], t_ms[at] + MAX_SPAN_MS))
            end = min(end, at + MAX_READINGS)
            runs.append((at, end))
            at = end
    return runs


def _blocks_of(metric: str, unit: str, columns: Series) -> Iterator[Block]:
    for start, stop in cuts(columns.t_ms):
        t, value, quality = columns.t_ms[start:stop], columns.value[start:stop], columns.quality[start:stop]
        offsets = (t - t[0]).astype("<i4")
        step_ms = int(offsets[1]) if len(t) > 1 else 0
        even = (
            len(t) == 1
            or int(offsets[-1]) == step_ms * (len(t) - 1)
            and bool((offsets[1:] - offsets[:-1] == step_ms).all())
        )
        whole = value.astype("<i2") if metric in PACKED else None
        packed = whole is not None and bool((whole == value).all())
        yield Block(
            metric=metric,
            unit=unit,
            t0_ms=int(t[0]),
            step_us=step_ms * 1000 if even else 0,
            dtype="i2" if whole is not None and packed else "f4",
            values=(whole if whole is not None and packed else value.astype("<f4")).tobytes(),
            offsets_ms=None if even else offsets.tobytes(),
            quality=quality.tobytes() if quality.any() else None,
        )
