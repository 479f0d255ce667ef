"""Readings as columns, and how they become the blocks of a frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        return Series(self.t_ms[low:high], self.value[low:high], self.quality[low:high])

    @classmethod
    def joined(cls, parts: list[Series]) -> Series:
        """Return the readings of all ``parts``, one after the other."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*parts, strict=True)
        return cls(*(np.concatenate(column) for column in columns))


Readings = dict[str, Series]


def series(
    t_ms: NDArray[np.int64], value: NDArray[np.float64], quality: NDArray[np.uint8] | None = None
) -> Series:
    """Return a series; ``quality`` None means all good."""
    return Series(
        t_ms, value.astype(np.float32), np.zeros(len(t_ms), np.uint8) if quality is None else quality
    )


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
    if len(t_ms) == 0:
        return []
    edges = np.flatnonzero(np.diff(t_ms) <= 0) + 1
    runs = []
    for start, stop in zip(np.r_[0, edges].tolist(), np.r_[edges, len(t_ms)].tolist(), strict=True):
        at = start
        while at < stop:
            end = at + int(np.searchsorted(t_ms[at:stop], t_ms[at] + MAX_SPAN_MS))
            end = min(end, at + MAX_READINGS)
            runs.append((at, end))
            at = end
    return runs


def _blocks_of(metric: str, unit: str, columns: Series) -> Iterator[Block]:
    for start, stop in cuts(columns.t_ms):
        t, value, quality = (column[start:stop] for column in columns)
        steps = np.diff(t)
        even = len(t) == 1 or bool((steps == steps[0]).all())
        packed = metric in PACKED and bool(np.isin(value, np.rint(value)).all())
        yield Block(
            metric=metric,
            unit=unit,
            t0_ms=int(t[0]),
            step_us=int(steps[0]) * 1000 if even and len(t) > 1 else 0,
            dtype="i2" if packed else "f4",
            values=value.astype("<i2" if packed else "<f4").tobytes(),
            offsets_ms=None if even else (t - t[0]).astype("<i4").tobytes(),
            quality=quality.tobytes() if quality.any() else None,
        )
