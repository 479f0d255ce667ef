"""Fewer points for a chart, with every extreme and every gap that can be seen kept.

Pure: arrays in, arrays out. A point is a reading, or a bucket with its lowest, highest and mean value. Every
point that is kept is one that was read: nothing is averaged or moved.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from tsdownsample import MinMaxDownsampler

SHORTEST_GAP_MS: Final = 300_000  # silence below five minutes is never drawn as a gap between readings
STEPS_TO_GAP: Final = 5  # between readings: so many usual steps
SILENCES_TO_GAP: Final = 3  # between buckets: so many usual silences
GAP_SHARE: Final = 8  # at most one point in eight is spent on gaps


@dataclass(frozen=True, slots=True)
class Points:
    """N points in order of time; all columns have shape (N,)."""

    t_ms: NDArray[np.int64]  # start, Unix ms
    width_ms: NDArray[np.int64]  # 0 for a reading
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    n: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Self:
        """Return no points."""
        nothing, none = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(nothing, nothing, none, none, none, nothing)

    @classmethod
    def readings(cls, t_ms: NDArray[np.int64], value: NDArray[np.float64]) -> Self:
        """Return readings as points."""
        zero = np.zeros(len(t_ms), np.int64)
        return cls(t_ms, zero, value, value, value, zero + 1)

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Return the points of all parts, which follow each other in time."""
        if not parts:
            return cls.empty()
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.t_ms)

    def __getitem__(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> Points:
        return Points(*(getattr(self, f.name)[which] for f in fields(self)))

    @property
    def middle_ms(self) -> NDArray[np.int64]:
        """(N,) where a point is drawn."""
        return self.t_ms + self.width_ms // 2


def longest_silence(points: Points) -> NDArray[np.int64]:
    """Return (N,) how long a silence beside each point may last, ms, before it counts as a gap.

    That depends on the metric's own cadence: minutes for a heart rate, days for a weight.
    """
    silence = points.t_ms[1:] - points.t_ms[:-1] - points.width_ms[:-1]
    limit = np.zeros(len(points), np.int64)
    for width in np.unique(points.width_ms):
        same = points.width_ms == width
        inside = silence[same[:-1] & same[1:]]
        usual = int(np.median(inside)) if len(inside) else 0
        limit[same] = max(width // 2, SILENCES_TO_GAP * usual) if width else max(SHORTEST_GAP_MS, STEPS_TO_GAP * usual)
    return limit


def gap_after(points: Points) -> NDArray[np.bool_]:
    """Return (N,) whether so long a silence follows a point that no line may be drawn across it."""
    gap = np.zeros(len(points), bool)
    if len(points) > 1:
        limit = longest_silence(points)
        silence = points.t_ms[1:] - points.t_ms[:-1] - points.width_ms[:-1]
        gap[:-1] = silence > np.maximum(limit[:-1], limit[1:])
    return gap


def reduce(points: Points, target: int) -> tuple[Points, NDArray[np.bool_]]:
    """Return at most ``target`` points, counting one for each gap, and (M,) whether a gap follows each.

    Per stretch of time the lowest low and the highest high are kept. Where points must go, a gap shorter than
    a point's share of the span is not drawn; of the others the longest are.
    """
    gap = gap_after(points)
    if len(points) + int(gap.sum()) <= target:
        return points, gap
    drawn = _widest(points, gap, target)
    before = np.flatnonzero(drawn)
    edges = np.unique(np.concatenate([before, before + 1, [0, len(points) - 1]]))
    room = max(2, (target - len(before) - len(edges)) // 2 * 2)
    kept = np.union1d(edges, _extremes(points, room))
    # A gap lies between two kept points: its edges are kept, so it follows exactly one of them.
    return points[kept], drawn[kept]


def _widest(points: Points, gap: NDArray[np.bool_], target: int) -> NDArray[np.bool_]:
    """Return which gaps are worth drawing."""
    where = np.flatnonzero(gap)
    silence = points.t_ms[where + 1] - points.t_ms[where] - points.width_ms[where]
    span = int(points.t_ms[-1] + points.width_ms[-1] - points.t_ms[0])
    seen = silence >= span / target
    where, silence = where[seen], silence[seen]
    most = max(1, target // GAP_SHARE)
    if len(where) > most:
        where = where[np.argsort(-silence, kind="stable")[:most]]
    drawn = np.zeros(len(points), bool)
    drawn[where] = True
    return drawn


def _extremes(points: Points, room: int) -> NDArray[np.intp]:
    """Return the indices of the lowest low and the highest high of each of ``room / 2`` equal stretches."""
    if len(points) <= room:
        return np.arange(len(points))
    # Lows and highs interleaved, so that one pass finds both: index // 2 is the point.
    both = np.column_stack([points.low, points.high]).reshape(-1)
    when = np.repeat(points.middle_ms, 2)
    picked = MinMaxDownsampler().downsample(  # type: ignore[no-untyped-call]
        when, both, n_out=room
    )
    return np.unique(np.asarray(picked, np.intp) // 2)
