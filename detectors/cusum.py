"""A guarded one-sided CUSUM on a nightly score: small rises that stay add up.

Source: Page 1954; Mishra 2020 uses a CUSUM on resting heart rate online. Deviations: the score is capped so
that one wild night can't raise an alert alone; the sum is capped, and falls faster while raised, so that an
episode can end; what is left of it when an episode ends is dropped, so that the next has a beginning of its own; the
baseline is frozen while the sum is above half its limit, so that a rise is not learned.
"""

from __future__ import annotations

import numpy as np

from detectors.protocol import Bools, Doubles, Longs, State

SLACK, LIMIT, SCORE_CAP, SUM_CAP, CLEAR = 0.5, 4.0, 4.0, 6.0, 1.0
FREEZE = LIMIT / 2
OPEN_SLACK = 1.5
"""The slack while an episode is open: the baseline is frozen then, and if it happens to lie a little low, an
ordinary night scores 0.5 and the sum would wander about for ever."""

CUSUM_DTYPE = np.dtype([("sum", "f4"), ("active", "u1"), ("start_ms", "i8")])


def add_night(state: State, z: Doubles, known: Bools, night_ms: Longs) -> tuple[Bools, Bools]:
    """Add one night each to R sums, in place; return which were raised and which cleared, (R,) each.

    ``z`` (R,) scores in SDs, ``known`` (R,) where the night may be judged (enough minutes, baseline
    learned): a night that may not leaves everything as it is. ``night_ms`` (R,) where the night began: the
    run begins with the first night since the sum was zero. S ← min(6, max(0, S + clip(z, ±4) - slack)),
    slack 0.5, or 1.5 while raised; raised when S > 4, cleared when S < 1, which makes it 0. Valid: one call a night.

    >>> state = np.zeros(1, CUSUM_DTYPE)
    >>> nights = [0.2, 1.5, 2.5, 3.0, 2.0, 0.5, 0.5, 0, 0, 0]
    >>> known = np.ones(1, bool)
    >>> for i, z in enumerate(nights):
    ...     raised, cleared = add_night(state, np.array([z]), known, np.array([i]))
    ...     if raised[0] or cleared[0]:
    ...         print(i, "raised" if raised[0] else "cleared", int(state["start_ms"][0]))
    3 raised 1
    9 cleared 1
    """
    before, active = state["sum"], state["active"] == 1
    slack = np.where(active, OPEN_SLACK, SLACK)
    after = np.clip(before + np.clip(np.nan_to_num(z), -SCORE_CAP, SCORE_CAP) - slack, 0, SUM_CAP)
    begins = known & (before == 0) & (after > 0) & ~active
    state["start_ms"] = np.where(begins, night_ms, state["start_ms"])
    raised = known & ~active & (after > LIMIT)
    cleared = known & active & (after < CLEAR)
    state["sum"] = np.where(known, np.where(cleared, 0, after), before)
    state["active"] = (active | raised) & ~cleared
    return raised, cleared
