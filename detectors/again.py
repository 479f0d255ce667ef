"""A rise on top of a rise: while one is told, a further one is told too, against the nights since the first.

Source: Page's CUSUM (1954) once more, on what remains after the level a change has led to. Deviations: the level is a
plain mean of the nights since the rise was told, of the last fortnight or so once there are as many; capped and stopped
as in ``daily``; told once an alert. Without it an alert that stands hides the next rise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.daily import CAP, HIGH, ROOM, SHIPPED, Said
from detectors.protocol import Bools, Doubles, Ints, State

NIGHTS: Final = 14
"""After so many nights each enters the level with this share of one."""

AGAIN_DTYPE: Final = np.dtype(
    [
        ("level", "f4"),  # /min, of the nights since the rise was told
        ("sum", "f4"),
        ("told", "u1"),  # 1: a further rise has been told
    ]
)


@dataclass(frozen=True, slots=True)
class Again:
    """What was said of R people's night."""

    worse: Bools  # (R,) a further rise is told
    level: Doubles  # (R,) /min, what the night was compared with
    sum: Doubles  # (R,) after this night


def judge(part: State, night: Doubles, nights: Ints, said: Said, limit: float) -> Again:
    """Take a night each of R people, in place.

    ``part`` (R,) of AGAIN_DTYPE, ``night`` (R,) /min, ``nights`` (R,) judged nights since the rise was told, this one
    left out, ``said`` of the night by ``daily``. T ← clip(T + min((night - level) / spread, 4) - 0.5, 0, limit + 2);
    told once, when T > limit and the night itself lies 1 SD above the level. A night that can't be judged changes
    nothing; T and the level are those of one alert and end with it.

    >>> part, on, off = np.zeros(1, AGAIN_DTYPE), np.array([True]), np.array([False])
    >>> def said(raised):
    ...     nothing, spread = np.zeros((1, 1)), np.full((1, 1), 2.0)
    ...     return Said(np.ones(1), np.ones(1), on, raised, off, nothing, nothing, spread)
    >>> for place, rate in enumerate([70.0, 71.0, 70.0, 76.0, 79.0]):
    ...     again = judge(part, np.array([rate]), np.array([place]), said(off if place else on), 4.5)
    ...     if again.worse[0]:
    ...         print(place, rate, round(float(again.level[0]), 2))
    4 79.0 71.75
    """
    level = part["level"].astype(np.float64)
    judged = np.isfinite(said.score) & said.active & ~said.raised
    away = np.where(judged, (night - level) / said.spread[:, 0], 0.0)
    moved = np.clip(part["sum"] + np.minimum(away, CAP) - SHIPPED.slack, 0, limit + ROOM)
    total = np.where(judged, moved, part["sum"])
    before = part["told"] == 1
    worse = judged & ~before & (total > limit) & (away >= HIGH)
    share = np.maximum(1 / (nights + 1.0), 1 / NIGHTS)
    followed = np.where(judged, level + share * (np.nan_to_num(night) - level), level)
    begun = np.where(said.raised, night, followed)
    part["level"] = np.where(said.active, begun, 0)
    part["sum"] = np.where(said.active & ~said.raised, total, 0)
    part["told"] = (before | worse) & said.active & ~said.raised
    return Again(worse, level, total)
