"""A rise on top of a rise: while one is told, a further one is told too, against the days since the first.

Source: Page's CUSUM (1954) once more, on what remains after the level a change has led to. Deviations: the level is a
plain mean of the days since the rise was told, of the last fortnight or so once there are as many; capped and stopped
as in ``daily``; told once an alert. Without it an alert that stands hides the next rise.

Units: /min, SDs of a day's heart rates. Valid: for whom ``rise`` is; while an alert of it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.daily import CAP, HEARTS, HIGH, ROOM, SHIPPED, Said, hearts_together
from detectors.protocol import Bools, Doubles, Ints, State

NIGHTS: Final = 14
"""After so many days each enters the level with this share of one."""

AGAIN_DTYPE: Final = np.dtype(
    [
        ("level", "f4", (len(HEARTS),)),  # /min, of the days since the rise was told, asleep and at rest; 0: not known
        ("sum", "f4"),
        ("told", "u1"),  # 1: a further rise has been told
    ]
)


@dataclass(frozen=True, slots=True)
class Again:
    """What was said of R people's day."""

    worse: Bools  # (R,) a further rise is told
    level: Doubles  # (R, 2) /min, what the day was compared with; 0 where that is not known
    sum: Doubles  # (R,) after this day


def judge(part: State, hearts: Doubles, days: Ints, said: Said, limit: float | Doubles) -> Again:
    """Take a day each of R people, in place.

    ``part`` (R,) of AGAIN_DTYPE, ``hearts`` (R, 2) /min asleep and at rest by day, NaN where unknown, ``days`` (R,)
    judged days since the rise was told, this one left out, ``said`` of the day by ``daily``. A is what the heart rates
    are above their levels together, in spreads; T ← clip(T + min(A, 4) - 0.5, 0, limit + 2); told once, when T > limit
    and A is at least 1. A day that can't be judged changes nothing; T and the level are those of one alert and end with
    it.

    >>> part, on, off = np.zeros(1, AGAIN_DTYPE), np.array([True]), np.array([False])
    >>> def said(raised):
    ...     nothing, one, spread = np.zeros((1, 2)), np.ones(1), np.full((1, 2), 2.0)
    ...     return Said(one, one, on, raised, off, one, nothing, nothing, spread)
    >>> for place, rate in enumerate([70.0, 71.0, 70.0, 76.0, 79.0]):
    ...     again = judge(part, np.array([[rate, np.nan]]), np.array([place]), said(off if place else on), 4.5)
    ...     if again.worse[0]:
    ...         print(place, rate, round(float(again.level[0, 0]), 2))
    4 79.0 71.75
    """
    level = part["level"].astype(np.float64)
    known = np.isfinite(hearts) & (level > 0)
    judged = known.any(axis=1) & said.active & ~said.raised
    apart = np.where(known, hearts - level, np.nan)
    away = np.where(judged, hearts_together(apart / said.spread[:, : len(HEARTS)]), 0.0)
    moved = np.clip(part["sum"] + np.minimum(away, CAP) - SHIPPED.slack, 0, limit + ROOM)
    total = np.where(judged, moved, part["sum"])
    before = part["told"] == 1
    worse = judged & ~before & (total > limit) & (away >= HIGH)
    share = np.maximum(1 / (days + 1.0), 1 / NIGHTS)[:, None]
    followed = np.where(known, level + share * apart, np.where(level > 0, level, np.nan_to_num(hearts)))
    begun = np.where(said.raised[:, None], np.nan_to_num(hearts), followed)
    part["level"] = np.where(said.active[:, None], begun, 0)
    part["sum"] = np.where(said.active & ~said.raised, total, 0)
    part["told"] = (before | worse) & said.active & ~said.raised
    return Again(worse, level, total)
