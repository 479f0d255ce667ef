"""What weeks of a person's days come to, against their own first weeks, the weeks before, or their own weekdays.

Every function is pure and looks at daily values alone. Where they do not suffice the state is ``unknown``, with how
many days there were and how many are needed. ``no_clear_change`` says that the interval holds 0, never that nothing
moved.
Sources and deviations: see ``detectors.robust``.
"""

from __future__ import annotations

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
    change: Estimate | None  # their difference; for ``eight_weeks`` per week
    since: int | None  # local day on which it began: of the span, or where the level left the anchor
    days: int
    days_needed: int
    compared_days: int
    compared_needed: int


def against_first_weeks(daily: Daily, last: int) -> Change:
    """Compare the four weeks to ``last`` with the first 14 clean days, whose median is the anchor and never moves.

    Unknown until those are over before the four weeks begin, so that no day is on both sides.

    >>> nights = Daily.of(np.arange(100), np.where(np.arange(100) < 50, 60, 63) + np.arange(100) % 3)
    >>> said = against_first_weeks(nights, last=99)
    >>> said.state, said.reference, said.change.value, said.since
    ('higher', 61.0, 3.0, 52)
    """
    earlier = daily.take(daily.clean & (daily.day <= last - SPAN)).take(slice(DAYS))
    said = _compared("first_weeks", earlier, DAYS, daily.within(last - SPAN + 1, last), LEAST_DAYS)
    if said.state not in ("higher", "lower") or said.reference is None:
        return said
    return _with_since(said, _left(daily.within(int(earlier.day[-1]) + 1, last), said.reference, said.state, last))


def against_four_weeks_before(daily: Daily, last: int) -> Change:
    """Compare the four weeks to ``last`` with the four before them."""
    before = daily.within(last - 2 * SPAN + 1, last - SPAN)
    after = daily.within(last - SPAN + 1, last)
    return _with_since(_compared("four_weeks_before", before, LEAST_DAYS, after, LEAST_DAYS), last - SPAN + 1)


def over_eight_weeks(daily: Daily, last: int) -> Change:
    """Return the slope a week over the eight weeks to ``last``: what creeps is seen here before it is in levels."""
    before, after = daily.within(last - 2 * SPAN + 1, last - SPAN), daily.within(last - SPAN + 1, last)
    said = _compared("eight_weeks", before, LEAST_DAYS, after, LEAST_DAYS)
    if said.change is None:
        return said
    both = daily.within(last - 2 * SPAN + 1, last)
    slope = robust.slope(both.day.astype(np.float64), both.value)
    weekly = Estimate(7 * slope.value, 7 * slope.low, 7 * slope.high, slope.p)
    return _of("eight_weeks", weekly, before, LEAST_DAYS, after, LEAST_DAYS, since=last - 2 * SPAN + 1)


def against_weekdays(daily: Daily, last: int) -> Change:
    """Compare the week to ``last`` with the person's habit: the medians of the same weekdays of eight weeks before."""
    before, week = daily.within(last - 7 * HABIT_WEEKS - 6, last - 7), daily.within(last - 6, last)
    habit = np.array([np.median(found) if len(found) >= WEEK_LEAST else np.nan for found in _by_weekday(before)])
    before, week = (part.take(np.isfinite(habit[part.day % 7])) for part in (before, week))
    needed = HABIT_LEAST_DAYS, HABIT_LEAST_LAST
    if len(before) < needed[0] or len(week) < needed[1]:
        return Change("same_weekdays", "unknown", None, None, None, None, len(week), needed[1], len(before), needed[0])
    usual = habit[week.day % 7]
    change = robust.shift(
        before.day.astype(np.float64), before.value - habit[before.day % 7], week.day.astype(np.float64),
        week.value - usual,
    )  # fmt: skip
    return Change(
        "same_weekdays", _state(change), float(week.value.mean()), float(usual.mean()), change, last - 6, len(week),
        needed[1], len(before), needed[0],
    )  # fmt: skip


def _compared(kind: Kind, before: Daily, before_needed: int, after: Daily, needed: int) -> Change:
    """Compare two stretches; unknown where either has too few days."""
    if len(before) < before_needed or len(after) < needed:
        return Change(
            kind, "unknown", after.median(), before.median(), None, None, len(after), needed, len(before), before_needed
        )
    change = robust.shift(before.day.astype(np.float64), before.value, after.day.astype(np.float64), after.value)
    return _of(kind, change, before, before_needed, after, needed, since=None)


def _of(
    kind: Kind, change: Estimate, before: Daily, before_needed: int, after: Daily, needed: int, since: int | None
) -> Change:
    return Change(
        kind, _state(change), after.median(), before.median(), change, since, len(after), needed, len(before),
        before_needed,
    )  # fmt: skip


def _with_since(said: Change, since: int | None) -> Change:
    return said if said.change is None else replace(said, since=since)


def _state(change: Estimate) -> ChangeState:
    return "no_clear_change" if not change.sure else "higher" if change.value > 0 else "lower"


def _left(daily: Daily, level: float, side: ChangeState, last: int) -> int | None:
    """Return the first day of the last run in which the median of seven days lay on one side of a level."""
    began = None
    for day in range(last, int(daily.day[0]) - 1, -1):
        week = daily.within(day - 6, day)
        if len(week) < WEEK_LEAST:
            continue
        middle = float(np.median(week.value))
        if middle == level or (middle > level) != (side == "higher"):
            break
        began = day
    return began


def _by_weekday(daily: Daily) -> list[Doubles]:
    return [daily.value[daily.day % 7 == weekday] for weekday in range(7)]
