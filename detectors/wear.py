"""Whether somebody is drifting out of the programme: on how many days their device was worn, and if that falls.

Source: ours; a day with enough data as in Troiano et al. 2008. Deviation: wear is the hours in which anything was
measured, not the minutes without movement. Counts, not estimates: ``unknown`` where the days do not suffice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np

from detectors.protocol import Bools, Doubles, Longs
from detectors.trends import SPAN, Daily

WearState = Literal["falling", "not_falling", "unknown"]

ENOUGH_HOURS: Final = 10
"""Hours of a day in which something was measured that make a day with enough data (Troiano et al. 2008)."""

HALF: Final = SPAN // 2
HALF_LEAST: Final = 7
"""Of each fortnight, as many days must be expected before wear is said to fall."""

FEWER_DAYS, SHARE_LOST = 4, 0.25
"""Wear falls when a fortnight has so many fewer days with enough data than the one before, or so much shorter days."""


@dataclass(frozen=True, slots=True)
class Wear:
    """On how many of the days that were asked for there is enough data."""

    state: WearState
    enough: int
    expected: int  # of the last 28
    longest_gap: int  # expected days in a row without enough
    gap_since: int | None
    hours: float | None  # median of the expected days of the last fortnight
    hours_before: float | None  # of the fortnight before
    enough_lately: int  # of the expected days of the last fortnight
    expected_lately: int

    @property
    def stopped(self) -> bool:
        """Whether no day of the last fortnight had enough, half of them nothing, and enough of them were asked for."""
        return self.expected_lately >= HALF_LEAST and not self.enough_lately and not self.hours


def wear(hours: Daily, expected: Longs, last: int) -> Wear:
    """Return how many of the ``expected`` local days (E,) of the 28 to ``last`` have enough data, and if that falls.

    A day of ``expected`` that ``hours`` lacks counts as none: that nothing came is what is counted here.

    >>> said = wear(Daily.of(range(28), [15] * 14 + [15, 0] * 7), np.arange(28), last=27)
    >>> said.state, said.enough, said.expected, said.longest_gap, said.enough_lately, said.stopped
    ('falling', 21, 28, 1, 7, False)
    """
    first = last - SPAN + 1
    known, found, asked = hours.within(first, last), np.zeros((1, SPAN)), np.zeros((1, SPAN), bool)
    found[0, known.day - first] = known.value
    asked[0, expected[(expected >= first) & (expected <= last)] - first] = True
    return wears(found, asked, last)[0]


def wears(hours: Doubles, asked: Bools, last: int) -> list[Wear]:
    """Return of each of N people what `wear` says of one.

    ``hours`` (N, 28) of each local day to ``last`` in which something was measured, 0 where nothing came; ``asked``
    (N, 28) the days on which data were expected.

    >>> wears(np.full((2, 28), 15.0), np.ones((2, 28), bool), last=27)[1].state
    'not_falling'
    """
    late = np.arange(SPAN) >= HALF
    enough = asked & (hours >= ENOUGH_HOURS)
    expected, lately = asked.sum(axis=1), asked[:, late].sum(axis=1)
    days, days_lately = enough.sum(axis=1), enough[:, late].sum(axis=1)
    now, before = _medians(hours[:, late], asked[:, late]), _medians(hours[:, ~late], asked[:, ~late])
    earlier = expected - lately
    lost = (days - days_lately) / np.maximum(earlier, 1) - days_lately / np.maximum(lately, 1)
    fewer, less = lost >= FEWER_DAYS / HALF, (now <= (1 - SHARE_LOST) * before) & (before > 0)
    known = np.minimum(lately, earlier) >= HALF_LEAST
    states = np.where(known, np.where(fewer | less, "falling", "not_falling"), "unknown")
    gap, begun = _gaps(asked, enough)
    since = [last - SPAN + 1 + at if days else None for days, at in zip(gap.tolist(), begun.tolist(), strict=True)]
    columns = (
        days.tolist(), expected.tolist(), gap.tolist(), since, _or_none(now), _or_none(before),
        days_lately.tolist(), lately.tolist(),
    )  # fmt: skip
    return [Wear(cast(WearState, state), *row) for state, *row in zip(states.tolist(), *columns, strict=True)]


def _medians(hours: Doubles, asked: Bools) -> Doubles:
    """Return of each row the median of the days that were asked for, not a number without any."""
    ascending, n = np.sort(np.where(asked, hours, np.inf), axis=1), asked.sum(axis=1)
    row = np.arange(len(hours))
    middle = (ascending[row, np.maximum(n - 1, 0) // 2] + ascending[row, np.minimum(n // 2, HALF - 1)]) / 2
    return np.where(n > 0, middle, np.nan)


def _gaps(asked: Bools, enough: Bools) -> tuple[Longs, Longs]:
    """Return of each row the most days in a row that lacked enough, of several the last, and the place of the first.

    A day that was not asked for neither lengthens a gap nor ends it.
    """
    longest, begun, run, start = np.zeros((4, len(asked)), np.int64)
    for day in range(asked.shape[1]):
        lacking = asked[:, day] & ~enough[:, day]
        start = np.where(lacking & (run == 0), day, start)
        run = np.where(enough[:, day], 0, run + lacking)
        best = lacking & (run >= longest)
        longest, begun = np.where(best, run, longest), np.where(best, start, begun)
    return longest, begun


def _or_none(values: Doubles) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
