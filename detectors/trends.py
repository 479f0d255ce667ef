"""What weeks of a person's days come to, against their own first weeks, the weeks before, or their own weekdays.

Every function is pure and looks at daily values alone. Where they do not suffice the state is ``unknown``, with how
many days there were and how many are needed; so it is where as many as are needed leave the interval open,
because they resemble their neighbours. ``no_clear_change`` says that the interval holds 0, never that nothing moved.
Sources and deviations: see ``detectors.robust``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors import robust
from detectors.baseline import DAYS
from detectors.protocol import Bools, Doubles, Longs
from detectors.robust import Estimate

Kind = Literal["first_weeks", "four_weeks_before", "eight_weeks", "same_weekdays"]
ChangeState = Literal["higher", "lower", "no_clear_change", "unknown"]

SPAN: Final = 28
"""Days that are looked at together: whole weeks, so that each weekday counts the same."""

LEAST_DAYS: Final = 14
"""Of ``SPAN``, as many must be known."""

WEEK_LEAST: Final = 3
"""Of seven days, as many must be known for their median to say where the level stood."""

HABIT_WEEKS, HABIT_LEAST_DAYS, HABIT_LEAST_LAST = 8, 28, 5
"""Weeks that make a habit of weekdays, and how many of their days and of the last seven must be known."""


@dataclass(frozen=True, slots=True)
class Daily:
    """N known daily values of one person, one a local day, ascending."""

    day: Longs  # (N,) local days since 1970
    value: Doubles  # (N,) in the quantity's unit
    clean: Bools  # (N,) the baseline learned from it

    @classmethod
    def of(cls, day: ArrayLike, value: ArrayLike, clean: ArrayLike | None = None) -> Self:
        """Return days in any order, those without a finite value left out; without ``clean`` every day is.

        Raises:
            ValueError: a day has two values.
        """
        days, values = np.asarray(day, np.int64), np.asarray(value, np.float64)
        used = np.ones(len(days), bool) if clean is None else np.asarray(clean, bool)
        order = np.argsort(days, kind="stable")
        order = order[np.isfinite(values[order])]
        days = days[order]
        if len(twice := days[1:][np.diff(days) == 0]):
            msg = f"day {twice[0]} has two values; allowed is one a local day: merge them first"
            raise ValueError(msg)
        return cls(days, values[order], used[order])

    def __len__(self) -> int:
        return len(self.day)

    def take(self, which: Any) -> Self:
        """Return the days ``which``, an index, mask or slice."""
        return type(self)(self.day[which], self.value[which], self.clean[which])

    def within(self, first: int, last: int) -> Self:
        """Return the days from ``first`` to ``last``, both included."""
        return self.take((self.day >= first) & (self.day <= last))

    def median(self) -> float | None:
        """Return the middle value, None without any."""
        return float(np.median(self.value)) if len(self) else None


@dataclass(frozen=True, slots=True)
class Change:
    """One comparison: how far from whose normal, since when, over how many days, how sure."""

    kind: Kind
    state: ChangeState
    value: float | None  # level of the days judged, their median (``same_weekdays``: mean)
    reference: float | None  # level of what they are compared with
    change: Estimate | None  # their difference; for ``eight_weeks`` per week; None where unknown, else bounded
    since: int | None  # local day on which it began: of the span, or where the level left the anchor
    days: int
    days_needed: int
    compared_days: int
    compared_needed: int

    @property
    def enough(self) -> bool:
        """Whether there are as many days as are needed; the state may be unknown all the same."""
        return self.days >= self.days_needed and self.compared_days >= self.compared_needed


def against_first_weeks(daily: Daily, last: int) -> Change:
    """Compare the four weeks to ``last`` with the first 14 clean days, whose median is the anchor and never moves.

    Unknown until those are over before the four weeks begin, so that no day is on both sides.

    >>> nights = Daily.of(np.arange(100), np.where(np.arange(100) < 50, 60, 63) + np.arange(100) % 3)
    >>> said = against_first_weeks(nights, last=99)
    >>> said.state, said.reference, said.change.value, said.since
    ('higher', 61.0, 3.0, 52)
    """
    earlier = daily.take(daily.clean & (daily.day <= last - SPAN)).take(slice(DAYS))
    lately = daily.within(last - SPAN + 1, last)
    said = _compared("first_weeks", earlier, DAYS, lately, LEAST_DAYS)
    if said.change is None or said.reference is None or not said.change.sure:
        return said
    later = daily.within(int(earlier.day[-1]) + 1, last)
    return replace(said, since=_left(later, said.reference, said.change.value > 0, last))


def against_four_weeks_before(daily: Daily, last: int) -> Change:
    """Compare the four weeks to ``last`` with the four before them."""
    before, lately = daily.within(last - 2 * SPAN + 1, last - SPAN), daily.within(last - SPAN + 1, last)
    return _compared("four_weeks_before", before, LEAST_DAYS, lately, LEAST_DAYS, since=last - SPAN + 1)


def over_eight_weeks(daily: Daily, last: int) -> Change:
    """Return the slope a week over the eight weeks to ``last``: what creeps is seen here before it is in levels."""
    before, lately = daily.within(last - 2 * SPAN + 1, last - SPAN), daily.within(last - SPAN + 1, last)
    since = last - 2 * SPAN + 1
    return _compared("eight_weeks", before, LEAST_DAYS, lately, LEAST_DAYS, since=since, by=_slope_a_week)


def against_weekdays(daily: Daily, last: int) -> Change:
    """Compare the week to ``last`` with the person's habit: the medians of the same weekdays of eight weeks before."""
    before, week = daily.within(last - 7 * HABIT_WEEKS - 6, last - 7), daily.within(last - 6, last)
    weekdays = [before.value[before.day % 7 == weekday] for weekday in range(7)]
    habit = np.array([np.median(found) if len(found) >= WEEK_LEAST else np.nan for found in weekdays])
    apart = [Daily.of(part.day, part.value - habit[part.day % 7]) for part in (before, week)]
    said = _compared("same_weekdays", apart[0], HABIT_LEAST_DAYS, apart[1], HABIT_LEAST_LAST, since=last - 6)
    if said.change is None:
        return replace(said, value=None, reference=None)
    usual = habit[apart[1].day % 7]
    return replace(said, value=float((usual + apart[1].value).mean()), reference=float(usual.mean()))


def _shift(before: Daily, after: Daily) -> Estimate:
    return robust.shift(before.day.astype(np.float64), before.value, after.day.astype(np.float64), after.value)


def _slope_a_week(before: Daily, after: Daily) -> Estimate:
    day = np.concatenate([before.day, after.day]).astype(np.float64)
    a_day = robust.slope(day, np.concatenate([before.value, after.value]))
    return Estimate(7 * a_day.value, 7 * a_day.low, 7 * a_day.high, a_day.p)


def _compared(
    kind: Kind, before: Daily, before_needed: int, after: Daily, needed: int, *, since: int | None = None,
    by: Callable[[Daily, Daily], Estimate] = _shift,
) -> Change:  # fmt: skip
    """Compare two stretches; unknown where either has too few days, or both leave the interval open."""
    counts = len(after), needed, len(before), before_needed
    nothing = Change(kind, "unknown", after.median(), before.median(), None, None, *counts)
    found = by(before, after) if nothing.enough else None
    if found is None or not found.bounded:
        return nothing
    return replace(nothing, state=_state(found), change=found, since=since)


def _state(change: Estimate) -> ChangeState:
    return "no_clear_change" if not change.sure else "higher" if change.value > 0 else "lower"


def _left(daily: Daily, level: float, above: bool, last: int) -> int | None:
    """Return the first day of the last run in which the median of seven days lay on one side of a level.

    A week with too few days ends it: what was then nobody knows.
    """
    began = None
    for day in range(last, int(daily.day[0]) - 1, -1):
        week = daily.within(day - 6, day)
        middle = week.median() if len(week) >= WEEK_LEAST else None
        if middle is None and began is None:
            continue  # of the very last days nothing is known
        if middle is None or not (middle > level if above else middle < level):
            break
        began = day
    return began
