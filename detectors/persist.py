"""Something unusual twice in a row: the persistence of the adaptive rules on hours and nights.

Source: the k-in-a-row rule of Alavi 2022 (NightSignal) over a robust score. Deviation: hysteresis, an
episode ends only after as many calm hours or nights, and never without data.
"""

from __future__ import annotations

import numpy as np

from detectors.protocol import MINUTE_MS, Bools, Longs, State

TIMES = 2
"""How often in a row before something is raised, and before it is cleared."""

PERSIST_DTYPE = np.dtype([("count", "u1"), ("active", "u1"), ("start_min", "u4")])  # minutes since 1970


def count(state: State, unusual: Bools, calm: Bools, broken: Bools, begin_ms: Longs) -> tuple[Bools, Bools]:
    """Count one more hour or night for R patients, in place; return which were raised and which cleared.

    ``unusual`` and ``calm`` (R,) are its judgement, both false where it was neither; where it could not be
    judged the caller leaves the row out. ``broken`` (R,): too long after the one before to go on counting.
    ``begin_ms`` (R,) is its start, a whole minute. Units: Unix ms. Valid: in order.

    >>> state = np.zeros(1, PERSIST_DTYPE)
    >>> no, yes = np.zeros(1, bool), np.ones(1, bool)
    >>> [bool(count(state, yes, no, no, np.array([t]))[0][0]) for t in (60_000, 120_000, 180_000)]
    [False, True, False]
    >>> int(start_ms(state)[0])
    60000
    """
    active = state["active"] == 1
    going = np.where(active, calm, unusual)
    before = np.where(broken, 0, state["count"])
    after = np.where(going, before + 1, 0)
    begins = ~active & unusual & (before == 0)
    state["start_min"] = np.where(begins, begin_ms // MINUTE_MS, state["start_min"])
    raised = ~active & (after >= TIMES)
    cleared = active & (after >= TIMES)
    state["active"] = (active | raised) & ~cleared
    state["count"] = np.where(raised | cleared, 0, after)
    return raised, cleared


def start_ms(state: State) -> Longs:
    """Return (R,) when what is counted began, in Unix ms."""
    return np.asarray(state["start_min"].astype(np.int64) * MINUTE_MS)
