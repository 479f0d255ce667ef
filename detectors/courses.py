"""What became of an episode, and whether somebody is drifting out of the programme: counts of days, not estimates.

Source: ours; a day with enough data as in Troiano et al. 2008. Deviation: wear is the hours in which anything was
measured, not the minutes without movement. Everything is pure, and ``unknown`` where the days do not suffice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from detectors.baseline import DAYS, LEARNED
from detectors.protocol import Bools, Doubles, Longs
from detectors.trends import SPAN, Daily

RecoveryState = Literal["back", "not_back", "unknown"]
WearState = Literal["falling", "not_falling", "unknown"]

RECENT, RECENT_WITHIN = 3, 7
"""So many known days, within so many, say how somebody is now; as many in a row make "back to usual"."""

ORDINARY_SPREADS: Final = 2
"""A day is ordinary within so many spreads of what was usual before the episode."""

ENOUGH_HOURS: Final = 10
"""Hours of a day in which something was measured that make a day with enough data (Troiano et al. 2008)."""

HALF_LEAST: Final = 7
"""Of each fortnight, as many days must be expected before wear is said to fall."""

FEWER_DAYS, SHARE_LOST = 4, 0.25
"""Wear falls when a fortnight has so many fewer days with enough data than the one before, or so much shorter days."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How far somebody has come back from an episode to what was usual before it."""

    state: RecoveryState
    usual: float | None  # median of the last clean days before, at most 14
    worst: float | None
    now: float | None  # median of the last three known days
    share: float | None  # of the way back from the worst, 0 to 1
    since: int | None  # local day from which every known day was ordinary
    days: int  # how many those are


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
        """Whether hardly anything came of the last fortnight, of whose days enough were asked for."""
        return self.expected_lately >= HALF_LEAST and not self.enough_lately and not self.hours


def recovery(daily: Daily, start: int, end: int | None, last: int, floor: float) -> Recovery:
    """Return what became of an episode from local day ``start`` to ``end`` (None: still open), as of ``last``.

    ``floor`` is the least spread that is believed, in the unit. Ordinary is a day on the good side of
    usual ± 2 · max(1.4826 · MAD, floor); coming back means days, however many are missing between them.

    >>> nights = Daily.of(range(40), [60.0] * 20 + [66, 70, 68] + [64, 62] + [61.0] * 15, [True] * 20 + [False] * 20)
    >>> said = recovery(nights, start=20, end=23, last=39, floor=1.2)
    >>> said.state, said.usual, said.worst, said.now, said.share, said.since
    ('back', 60.0, 70.0, 61.0, 0.9, 24)
    """
    before = daily.take(daily.clean & (daily.day < start)).take(slice(-DAYS, None))
    during = daily.within(start, last if end is None else min(end, last))
    recent = daily.within(max(start, last - RECENT_WITHIN + 1), last).take(slice(-RECENT, None))
    usual, now = before.median(), recent.median()
    if len(before) < LEARNED or usual is None or not len(during):
        return Recovery("unknown", usual, None, now, None, None, 0)
    side = 1 if np.median(during.value) >= usual else -1
    worst = float(side * (side * during.value).max())
    if len(recent) < RECENT or now is None or worst == usual:
        return Recovery("unknown", usual, worst, now, None, None, 0)
    spread = max(1.4826 * float(np.median(np.abs(before.value - usual))), floor)
    after = daily.within(start, last)
    run = _last_run(side * (after.value - usual) <= ORDINARY_SPREADS * spread)
    share = float(np.clip((worst - now) / (worst - usual), 0, 1))
    since = int(after.day[-run]) if run else None
    return Recovery("back" if run >= RECENT else "not_back", usual, worst, now, share, since, run)


def wear(hours: Daily, expected: Longs, last: int) -> Wear:
    """Return how many of the ``expected`` local days (E,) of the 28 to ``last`` have enough data, and if that falls.

    A day of ``expected`` that ``hours`` lacks counts as none: that nothing came is what is counted here.

    >>> said = wear(Daily.of(range(28), [15] * 14 + [15, 0] * 7), np.arange(28), last=27)
    >>> said.state, said.enough, said.expected, said.longest_gap, said.enough_lately, said.stopped
    ('falling', 21, 28, 1, 7, False)
    """
    asked = np.unique(expected[(expected > last - SPAN) & (expected <= last)])
    found = np.zeros(len(asked))
    _, mine, theirs = np.intersect1d(asked, hours.day, return_indices=True)
    found[mine] = hours.value[theirs]
    enough = found >= ENOUGH_HOURS
    gap, end = longest_run(~enough)
    late = asked > last - SPAN // 2
    now, before = (float(np.median(found[half])) if half.any() else None for half in (late, ~late))
    since = int(asked[end - gap]) if gap else None
    lately, state = int(enough[late].sum()), _falling(found, enough, late)
    return Wear(state, int(enough.sum()), len(asked), gap, since, now, before, lately, int(late.sum()))


def _falling(found: Doubles, enough: Bools, late: Bools) -> WearState:
    if min(late.sum(), (~late).sum()) < HALF_LEAST:
        return "unknown"
    now, before = found[late], found[~late]
    fewer = enough[~late].mean() - enough[late].mean() >= FEWER_DAYS / (SPAN // 2)
    less = np.median(now) <= (1 - SHARE_LOST) * np.median(before) and np.median(before) > 0
    return "falling" if fewer or less else "not_falling"


def _last_run(good: Bools) -> int:
    """Return how many true values there are at the end."""
    return int(np.argmin(good[::-1])) if not good.all() else len(good)


def longest_run(flags: Bools) -> tuple[int, int]:
    """Return the length of the longest run of true values, the last of several, and the index after it."""
    best, end, length = 0, 0, 0
    for i, flag in enumerate(flags.tolist()):
        length = length + 1 if flag else 0
        if length >= best and length:
            best, end = length, i + 1
    return best, end
