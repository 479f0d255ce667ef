"""How unlike the course of a person's day is to every one of their own last four weeks: the discord score of a day.

Source: the distance to the nearest neighbour as what is novel (matrix profile, Yeh et al. 2016), among the past alone
(DAMP, Lu et al. 2022). Deviations: a stretch is a day of 24 hours of the local clock, not any window; how far two days
lie apart, see ``apart``, and how often ordinary days do, ``novelty``; a day that was unlike is nobody's neighbour for a
fortnight, so that what lasts is told as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.apart import HOURS, LEAST_HOURS, TURNS, UNKNOWN, apart, coded
from detectors.novelty import DAYS, far_code, p_value
from detectors.protocol import Bools, Doubles, Ints, Rows, State

LEAST_DAYS: Final = 7  # to compare with
LEAST_READINGS: Final = 4  # of an hour, for its mean to be known
UNLIKE: Final = 0.02  # p-value at and below which a day is called unlike
USUAL: Final = 0.3  # above it a course that is turned is as usual: less would explain fast nights away
APART_DAYS, SUSPECTED_DAYS = 14, 3
"""Days after one that was unlike: for which it is nobody's neighbour; that don't say how far ordinary days lie."""

SHAPE_DTYPE: Final = np.dtype(
    [
        ("hours", "i1", (DAYS, HOURS)),  # see ``apart.coded``
        ("day", "u2", (DAYS,)),  # local day of each; 0: none
        ("far", "u1", (DAYS,)),  # how far it lay, see ``novelty.far_code``; 0: not counted
        ("unlike", "u1", (DAYS,)),
        ("since", "u2"),  # local day from which every one that was judged was unlike; 0: the last was not
    ]
)


@dataclass(frozen=True, slots=True)
class Course:
    """What was said of R people's day; NaN, 0 and False where it is not known."""

    distance: Doubles  # (R,) in the days' own mean deviations, to the nearest of the days it is compared with
    p: Doubles  # (R,) how often an ordinary day of this person lies so far; above 0.5 all are alike
    unlike: Bools  # (R,)
    nearest: Ints  # (R,) the local day that is the most alike
    turned: Ints  # (R,) of what is unlike: hours by which it is the usual course, but later; 0: by none
    hours: Ints  # (R,) known hours of the day
    days: Ints  # (R,) days it could be compared with


class Shape:
    """The course of a day's heart rate, against those of the last four weeks.

    A day with fewer than 16 known hours, or with fewer than 7 days to compare with, is unknown. Units: /min. Valid:
    whose heart sets its own rate; each person's days in order, gaps allowed. State: 786 bytes a person.

    >>> detector, at = Shape(), np.arange(24)  # hours from 10:00 on
    >>> state = detector.new_state(1)
    >>> for day in range(100, 130):
    ...     to_bed = 13 if day < 129 else 6
    ...     rate = np.where((at >= to_bed) & (at < to_bed + 8), 55, 70) + np.random.default_rng(day).normal(0, 3, 24)
    ...     said = detector.advance(state, np.array([0]), np.array([day], "i4"), rate[None])
    ...     if day in (106, 107, 129):
    ...         print(day, float(said.distance[0].round(1)), float(said.p[0].round(3)), int(said.turned[0]))
    106 nan nan 0
    107 0.5 0.5 0
    129 1.3 0.0 -7
    """

    dtype = SHAPE_DTYPE

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        return np.zeros(n, self.dtype)

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        state[rows] = np.zeros((), self.dtype)

    def advance(self, state: State, rows: Rows, day: Ints, rate: Doubles) -> Course:
        """Take one day each of R people, in place.

        ``rows`` (R,) unique, ``day`` (R,) local days since 1970, ``rate`` (R, 24) the mean heart rate of each hour of
        the local clock, from whichever on, NaN where it is unknown.
        """
        part, every = state[rows], np.arange(len(rows))
        hours = coded(rate)
        age = day[:, None] - part["day"].astype(np.int32)
        there = (part["day"] > 0) & (age > 0) & (age <= DAYS)
        unlike = there & (part["unlike"] == 1)
        near = there & ~(unlike & (age <= APART_DAYS))
        far, _ = apart(hours, part["hours"], near)
        days, nearest = np.isfinite(far).sum(1, dtype=np.int32), np.argmin(far, axis=1)
        judged = days >= LEAST_DAYS
        distance = np.where(judged, far[every, nearest], np.nan)
        own, code = np.where(there, part["far"], 0), far_code(distance, days)
        p = np.where(judged, p_value(code, own), np.nan)
        said = judged & (np.nan_to_num(p, nan=1.0) <= UNLIKE)
        turned = np.zeros(len(rows), np.int32)
        for i in np.flatnonzero(said).tolist():
            turned[i] = _turned(hours[i : i + 1], part[i : i + 1], near[i : i + 1], own[i : i + 1])
        alike = np.where(judged, part["day"][every, nearest], 0).astype(np.int32)
        since = np.where(said, np.where(part["since"] > 0, part["since"], day), 0)
        part["since"] = np.where(judged, since, part["since"])
        counted = judged & ~(unlike & (age <= SUSPECTED_DAYS)).any(1)
        known = _keep(part, day, hours, np.where(counted, code, 0), said)
        state[rows] = part
        return Course(distance, p, said, alike, turned, known, days)


def _keep(part: State, day: Ints, hours: Ints, far: Doubles, unlike: Bools) -> Ints:
    """Remember R people's day in the place of that of four weeks ago, in place; return (R,) its known hours.

    A day with too few is none: it could be compared with nothing.
    """
    known = (hours != UNKNOWN).sum(1, dtype=np.int32)
    every, slot, kept = np.arange(len(part)), day % DAYS, known >= LEAST_HOURS
    part["hours"][every, slot] = np.where(kept[:, None], hours, UNKNOWN)
    part["day"][every, slot] = np.where(kept, day, 0)
    part["far"][every, slot] = far
    part["unlike"][every, slot] = unlike
    return np.asarray(known)


def _turned(hours: Ints, part: State, near: Bools, own: Ints) -> int:
    """Return by how many hours later one person's day is as usual, 0: by none."""
    far, turn = apart(hours, part["hours"], near, TURNS)
    days = np.isfinite(far).sum(1, dtype=np.int32)
    nearest = int(np.argmin(far[0]))
    usual = p_value(far_code(far[:, nearest], days), own)[0] > USUAL
    return int(turn[0, nearest]) if usual else 0
