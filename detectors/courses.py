"""What became of an episode: counts of days, not estimates; pure, and ``unknown`` where the days do not suffice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from detectors.baseline import DAYS, LEARNED
from detectors.protocol import Bools
from detectors.trends import Daily

RecoveryState = Literal["back", "not_back", "unknown"]

RECENT, RECENT_WITHIN = 3, 7
"""So many known days, within so many, say how somebody is now; as many in a row make "back to usual"."""

ORDINARY_SPREADS: Final = 2
"""A day is ordinary within so many spreads of what was usual before the episode."""


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


def _last_run(good: Bools) -> int:
    """Return how many true values there are at the end."""
    return int(np.argmin(good[::-1])) if not good.all() else len(good)
