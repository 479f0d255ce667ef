"""How far the courses of two days lie apart, hour by hour, their level and scale taken off.

Source: the distance of two stretches in a matrix profile (Yeh et al. 2016). Deviations: median and mean absolute
deviation in place of mean and SD, and the mean absolute difference about the median one in place of the Euclidean: so
an hour of exercise decides little; hours that are not known on both days are left out; an hour earlier or later is the
same course, as summer time and a long evening are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from detectors.protocol import Bools, Doubles, Ints

HOURS: Final = 24
LEAST_HOURS: Final = 16  # known on both days
STEP, LEAST_SPREAD = 1 / 16, 1.0  # of a day's spread, as an hour is kept; /min, no spread counts as less
UNKNOWN: Final = -128
SAME: Final = range(-1, 2)  # hours by which the same course may lie later
TURNS: Final = tuple(turn for turn in range(-11, 13) if turn not in SAME)


def coded(rate: Doubles) -> Ints:
    """Return (R, 24) rates in sixteenths of the day's mean deviation from its median, UNKNOWN where they are NaN.

    >>> coded(np.array([[60, 62, 62, 66, np.nan]])).tolist(), coded(np.array([[90, 94, 94, 102, np.nan]])).tolist()
    ([[-21, 0, 0, 43, -128]], [[-21, 0, 0, 43, -128]])
    """
    known = np.isfinite(rate)
    n = np.maximum(known.sum(1), 1)
    ordered = np.sort(np.where(known, rate, np.inf), axis=1)
    every = np.arange(len(rate))
    middle = (ordered[every, (n - 1) // 2] + ordered[every, n // 2]) / 2
    away = np.where(known, rate - np.where(known.any(1), middle, 0)[:, None], 0)
    spread = np.maximum(np.abs(away).sum(1) / n, LEAST_SPREAD)
    steps = np.clip(np.rint(away / spread[:, None] / STEP), -127, 127)
    return np.where(known, steps, UNKNOWN).astype(np.int32)


def apart(hours: Ints, past: Ints, which: Bools, turns: Iterable[int] = SAME) -> tuple[Doubles, Ints]:
    """Return (R, D) how far days (R, 24) lie from each of the past (R, D, 24), and the turn at which they do least.

    Units: spreads of a day, hours later. Infinite where not ``which`` (R, D), or fewer than 16 hours are known on both.
    """
    usable = which & (((past != UNKNOWN) & (hours != UNKNOWN)[:, None]).sum(2) >= LEAST_HOURS)
    row, place = np.nonzero(usable)
    mine, theirs = hours[row], past[row, place].astype(np.int32)
    best, later = np.full(len(row), np.inf), np.zeros(len(row), np.int32)
    for turn in turns:
        found = _mean_apart(np.roll(mine, -turn, axis=1), theirs)
        later, best = np.where(found < best, turn, later), np.minimum(found, best)
    far, turned = np.full(which.shape, np.inf), np.zeros(which.shape, np.int32)
    far[row, place], turned[row, place] = best * STEP, later
    return far, turned


def _mean_apart(one: Ints, other: Ints) -> Doubles:
    """Return (N,) the mean absolute difference of (N, 24) about its median, in steps; too few hours: infinite."""
    both = (one != UNKNOWN) & (other != UNKNOWN)
    n = both.sum(1)
    ordered, at = np.sort(np.where(both, one - other, 1_000), axis=1), np.arange(HOURS)
    lower, upper = at < (n // 2)[:, None], (at >= (n - n // 2)[:, None]) & (at < n[:, None])
    total = np.where(upper, ordered, 0).sum(1) - np.where(lower, ordered, 0).sum(1)
    return np.where(n >= LEAST_HOURS, total / np.maximum(n, 1), np.inf)


def most(one: Doubles, other: Doubles) -> tuple[int, float]:
    """Return the hour in which a day's rates (24,) differ most from another's, levels taken off, and by how many /min.

    >>> most(np.where(np.arange(24) == 5, 80.0, 60.0), np.full(24, 70.0))
    (5, 20.0)
    """
    away = one - other
    away = away - np.nanmedian(away)
    hour = int(np.nanargmax(np.abs(away)))
    return hour, float(away[hour])
