"""How many minutes a reading stands for: a device that measures every 10 minutes knows a night too.

Source: none; vendors' exports hold a heart rate every 1, 5, 6 or 10 minutes, and their own resting heart rates come of
those. Engineering choices: see ``STANDS`` and ``APART``. A mean, its noise and what a finding tells are of the minutes
that hold a reading; only whether there are enough of them goes by the minutes they stand for.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.baseline import LEAST_MINUTES, MINUTE_SD, PAIR_METRIC, PAIRS
from detectors.context import SLEEP_FROM, SLEEP_TO
from detectors.gate import DOUBTED, USABLE
from detectors.minutes import Minutes
from detectors.protocol import HEART_RATE, STEPS, VITALS, Bools, Bytes, Counts, Doubles, Ints, Longs, State

STANDS: Final = 10
"""A reading stands for the minutes since the one before it, so many at the most."""

APART: Final = 15
"""So many minutes apart they are neighbours still; after a longer break a reading stands for its own minute alone."""

COVERED: Final = slice(HEART_RATE, STEPS + 1)
"""The two metrics whose minutes are counted so: the others' days need too few readings for it to matter."""

HEART_PAIRS: Final = np.flatnonzero(PAIR_METRIC == HEART_RATE)  # asleep, at rest, active
_MOST_NOISE: Final = MINUTE_SD[HEART_PAIRS] ** 2 / LEAST_MINUTES[HEART_PAIRS]


def more_minutes(last: Ints, minutes: Minutes, code: Bytes) -> Bytes:
    """Return (R, W, 2) how many minutes more than its own each minute's readings of COVERED stand for.

    ``last`` (R, 2) minutes since 1970 of their last readings before these minutes, 0: none, ``code`` (R, W, M) the
    gate's. Device worn and not in doubt, else 0; a device that measures each minute has none. Any cut of the minutes
    gives the same.

    >>> from detectors.minutes import live_minutes
    >>> from detectors.protocol import blank_hour
    >>> hour = blank_hour(rows=[0], hour_ms=[0], utc_offset_min=[0])
    >>> code = np.full((1, 60, 7), DOUBTED, np.uint8)
    >>> code[0, [0, 1, 7, 20, 40], HEART_RATE] = USABLE  # 1, 6, 13 and 20 minutes apart
    >>> more = more_minutes(np.zeros((1, 2), np.int32), live_minutes(hour), code)
    >>> more[0, [0, 1, 7, 20, 40], 0].tolist()
    [0, 0, 5, 9, 0]
    """
    of = code[:, :, COVERED]
    measured = (of == USABLE) | (of > DOUBTED)
    before = np.empty(measured.shape, np.int32)
    before[:, :1] = last[:, None]
    seen = np.where(measured[:, :-1], minutes.minute[:, :-1, None], 0)
    before[:, 1:] = np.maximum(np.maximum.accumulate(seen, axis=1), last[:, None])
    apart = minutes.minute[:, :, None] - before
    seldom = measured & (apart > 1)
    if not seldom.any():
        return np.zeros(measured.shape, np.uint8)
    seldom &= (apart <= APART) & (before > 0)
    return np.where(seldom, np.minimum(apart, STANDS) - 1, 0).astype(np.uint8)


def nights(minute: Longs, metric: str) -> dict[int, int]:
    """Return for each night the minutes that a metric's readings asleep stand for, at the most: unknown steps are none.

    ``minute`` (N,) local minutes since 1970 with a usable reading, ascending; a night is named by the day it ends on.

    >>> nights(np.arange(20_000 * 1440 - 60, 20_000 * 1440 + 60, 10), "heart_rate")
    {20000: 111}
    """
    asleep = (minute % 1440 >= SLEEP_FROM) | (minute % 1440 < SLEEP_TO)
    apart = np.diff(minute, prepend=-APART - 1)
    stands = np.where(apart <= APART, np.minimum(apart, STANDS), 1) if metric in VITALS[COVERED] else 1
    night, which = np.unique((minute[asleep] + 1440 - SLEEP_FROM) // 1440, return_inverse=True)
    total = np.bincount(which, np.broadcast_to(stands, minute.shape)[asleep], len(night))
    return dict(zip(night.tolist(), total.astype(int).tolist(), strict=True))


def covered(sums: State) -> Counts:
    """Return (R, P) how many minutes the usable readings of an hour or a day stand for."""
    minutes = sums["n"].astype(np.uint16)
    minutes[:, HEART_PAIRS] += sums["more"]
    return minutes


def enough(days: State) -> Bools:
    """Return (R, P) which values of days have the minutes that make one."""
    return np.asarray(covered(days) >= LEAST_MINUTES)


def noise(days: State) -> Doubles:
    """Return (R, P) by how much the variance of a day's value is larger, for its readings are few.

    Of the minutes' noise what is more than that of the fewest minutes a day needs when each is measured, 0 from there.
    """
    found = np.zeros((len(days), len(PAIRS)))
    few = MINUTE_SD[HEART_PAIRS] ** 2 / np.maximum(days["n"][:, HEART_PAIRS], 1)
    found[:, HEART_PAIRS] = np.maximum(few - _MOST_NOISE, 0)
    return found
