"""A rise on top of a rise: while one is told, a further one is told too, against the days since the first.

Source: Page's CUSUM (1954) once more, on what remains after the level a change has led to. Deviations: the level is a
plain mean of the days since the rise was told, of the last fortnight or so once there are as many; capped and stopped
as in ``daily``; told once an alert. Without it an alert that stands hides the next rise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.daily import CAP, HIGH, ROOM, SHIPPED, Said
from detectors.protocol import Bools, Doubles, Ints, State

NIGHTS: Final = 14
"""After so many days each enters the level with this share of one."""

AGAIN_DTYPE: Final = np.dtype(
    [
        ("level", "f4"),  # SDs above the usual, of the heart rates of the days since the rise was told
        ("sum", "f4"),
        ("told", "u1"),  # 1: a further rise has been told
    ]
)


@dataclass(frozen=True, slots=True)
class Again:
    """What was said of R people's day."""

    worse: Bools  # (R,) a further rise is told
    level: Doubles  # (R,) SDs above the usual, what the day was compared with
    sum: Doubles  # (R,) after this day


def judge(part: State, nights: Ints, said: Said, limit: float) -> Again:
    """Take a day each of R people, in place.

    ``part`` (R,) of AGAIN_DTYPE, ``nights`` (R,) judged days since the rise was told, this one left out, ``said`` of
    the day by ``daily``. T ← clip(T + min(heart - level, 4) - 0.5, 0, limit + 2), in SDs above the usual; told once,
    when T > limit and the day itself lies 1 SD above the level. A day that can't be judged changes nothing; T and the
    level are those of one alert and end with it.

    >>> part, on, off = np.zeros(1, AGAIN_DTYPE), np.array([True]), np.array([False])
    >>> def said(heart, raised):
    ...     nothing = np.zeros((1, 1))
    ...     return Said(np.ones(1), np.ones(1), on, raised, off, np.array([heart]), nothing, nothing, nothing)
    >>> for place, heart in enumerate([2.0, 2.5, 2.0, 5.0, 6.5]):
    ...     again = judge(part, np.array([place]), said(heart, off if place else on), 4.5)
    ...     if again.worse[0]:
    ...         print(place, heart, round(float(again.level[0]), 2))
    4 6.5 2.88
    """
    level = part["level"].astype(np.float64)
    judged = np.isfinite(said.heart) & said.active & ~said.raised
    away = np.where(judged, said.heart - level, 0.0)
    moved = np.clip(part["sum"] + np.minimum(away, CAP) - SHIPPED.slack, 0, limit + ROOM)
    total = np.where(judged, moved, part["sum"])
    before = part["told"] == 1
    worse = judged & ~before & (total > limit) & (away >= HIGH)
    share = np.maximum(1 / (nights + 1.0), 1 / NIGHTS)
    followed = np.where(judged, level + share * away, level)
    begun = np.where(said.raised, said.heart, followed)
    part["level"] = np.where(said.active, begun, 0)
    part["sum"] = np.where(said.active & ~said.raised, total, 0)
    part["told"] = (before | worse) & said.active & ~said.raised
    return Again(worse, level, total)
