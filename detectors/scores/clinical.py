"""What all clinical scores share: a boundary table as data, points looked up in it, and what may be said of their sum.

Points are never negative, so the sum of those known is a lower bound of the whole: a partial score is "at least" so
much. A band may be said of it only where that bound has left the lowest one, for there nothing is known to be well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.protocol import Bools, Doubles, Longs, Shorts
from detectors.scores.observations import PARAMETERS, Observations

UNSCORED: Final = -1  # points of a parameter that is not known, or that the score gives none for; no band; on, not off

KNOWN, MISSING, TOO_OLD, NEEDS_OXYGEN, APART = range(5)
STATES: Final[tuple[str, ...]] = ("known", "missing", "too_old", "needs_oxygen", "apart")
"""Names of the codes that say what is known of a parameter."""

FINE: Final = 10_000  # values are float32: beyond four decimals is noise


@dataclass(frozen=True, slots=True)
class Table:
    """A published table of one parameter: up to and including each ``top`` so many points, beyond the last ``above``.

    A value is first rounded half up to ``step``, to which the chart is printed, as somebody writes it down: 20.5
    breaths a minute are 21. Worked out in whole numbers, so that a boundary is hit exactly.

    >>> pulse = Table("heart_rate", ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2)), above=3)
    >>> pulse.points(np.array([40, 40.5, 90.4, 131, np.nan])).tolist()
    [3, 1, 0, 3, -1]
    """

    parameter: str
    steps: tuple[tuple[float, int], ...]  # (top, points), lowest first
    above: int
    step: float = 1

    def points(self, value: Doubles) -> Shorts:
        """Return the points of values of any shape, UNSCORED where there is none."""
        known = np.isfinite(value)
        tops = np.array([round(top / self.step) for top, _ in self.steps])
        of_step = np.array([points for _, points in self.steps] + [self.above], np.int16)
        found = of_step[np.searchsorted(tops, rounded(np.where(known, value, 0), self.step))]
        return np.where(known, found, np.int16(UNSCORED))


def rounded(value: Doubles, step: float | Doubles) -> Longs:
    """Return values as whole numbers of steps, halves up.

    >>> rounded(np.array([38.05, 38.04]), 0.1).tolist()
    [381, 380]
    """
    fine = np.rint(np.asarray(value) * FINE).astype(np.int64)
    of_step = np.rint(np.asarray(step) * FINE).astype(np.int64)
    return np.asarray((2 * fine + of_step) // (2 * of_step))


@dataclass(frozen=True, slots=True)
class Band:
    """What a published table calls totals from ``least`` on, or of any total with a red parameter."""

    key: str
    title: str
    least: float = 0
    by_red: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """A score of P people. ``K`` are the score's own parameters."""

    total: Doubles  # (P,) the sum of the known points, NaN where none is known or the score is off
    points: Shorts  # (P, K) UNSCORED where not known
    states: Shorts  # (P, K) indexes STATES
    red: Bools  # (P, K) as many points as make a single parameter red
    band: Shorts  # (P,) place in the score's bands; UNSCORED where none may be said
    off: Shorts  # (P,) place in WHO of what switches it off; UNSCORED where it is on

    @property
    def known(self) -> Bools:
        """(P, K) whether a parameter counts."""
        return np.asarray(self.states == KNOWN)

    @property
    def complete(self) -> Bools:
        """(P,) whether everything is known, of those for whom the score is on."""
        return np.asarray(self.known.all(axis=1) & (self.off == UNSCORED))


@dataclass(frozen=True, slots=True)
class ClinicalScore:
    """A published score as data, with the function that works it out. None of them holds for WHO."""

    key: str
    version: int
    title: str
    source: str
    validity: str
    parameters: tuple[str, ...]
    bands: tuple[Band, ...]  # the mildest first
    work_out: Callable[[Observations], Scored]
    decimals: int = 0  # of the total


def columns(seen: Observations, parameters: Sequence[str]) -> tuple[Doubles, Shorts]:
    """Return (P, K) the values of some parameters, NaN where not usable, and what is known of each."""
    places = [PARAMETERS.index(parameter) for parameter in parameters]
    fresh, present = seen.fresh[:, places], seen.present[:, places]
    states = np.select([fresh, present], [np.int16(KNOWN), np.int16(TOO_OLD)], np.int16(MISSING))
    return np.where(fresh, seen.value[:, places], np.nan), states


def by_tables(seen: Observations, tables: Sequence[Table]) -> tuple[Shorts, Shorts]:
    """Return (P, K) the points of each table's parameter, and what is known of it."""
    value, states = columns(seen, [table.parameter for table in tables])
    points = np.stack([table.points(value[:, place]) for place, table in enumerate(tables)], axis=1)
    return points, states


def summed(
    seen: Observations, points: Shorts, states: Shorts, bands: Sequence[Band], red_points: int | None = None
) -> Scored:
    """Return the score of these (P, K) points; ``red_points`` of one parameter make it red."""
    total = np.where(states == KNOWN, points, 0).sum(axis=1).astype(np.float64)
    red = np.zeros(points.shape, bool) if red_points is None else points == red_points
    return judged(seen, total, points, states, red, bands)


def judged(
    seen: Observations, total: Doubles, points: Shorts, states: Shorts, red: Bools, bands: Sequence[Band]
) -> Scored:
    """Return what may be said of a total: nothing where it is off or nothing is known, no lowest band where partial."""
    known = states == KNOWN
    off = np.where(seen.who.any(axis=1), seen.who.argmax(axis=1), UNSCORED).astype(np.int16)
    on = off == UNSCORED
    said = known.any(axis=1) & on
    band = np.zeros(len(total), np.int16)
    for place, one in enumerate(bands):
        band[red.any(axis=1) if one.by_red else total >= one.least] = place
    band[~said | ((band == 0) & ~known.all(axis=1))] = UNSCORED
    points = np.where(on[:, None], points, np.int16(UNSCORED))
    return Scored(np.where(said, total, np.nan), points, states, red & on[:, None], band, off)
