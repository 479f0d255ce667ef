"""Something unusual twice in a row: the persistence of the adaptive rules on hours and nights.

Source: the k-in-a-row rule of Alavi 2022 (NightSignal) over a robust score. Deviation: hysteresis, an
episode ends only after as many calm hours or nights, and never without data.
"""

from __future__ import annotations

import numpy as np

from detectors.protocol import Bools, Longs, State

TIMES = 2
"""How often in a row before something is raised, and before it is cleared."""

PERSIST_DTYPE = np.dtype([("count", "u1"), ("active", "u1"), ("start_ms", "i8")])


def count(state: State, unusual: Bools, calm: Bools, broken: Bools, begin_ms: Longs) -> tuple[Bools, Bools]:
    """Count one more hour or night for R patients, in place; return which were raised and which cleared.

    ``unusual`` and ``calm`` (R,) are its judgement, both false where it was neither; where it could not be
    judged the caller leaves the row out. ``broken`` (R,): too long after the one before to go on counting.
    ``begin_ms`` (R,) is its start. Valid: in order.

    >>> state = np.zeros(1, PERSIST_DTYPE)
    >>> no, yes = np.zeros(1, bool), np.ones(1, bool)
    >>> [bool(count(state, yes, no, no, np.array([t]))[0][0]) for t in (10, 20, 30)]
    [False, True, False]
    >>> int(state["start_ms"][0])
    10
    """
    active = state["active"] == 1
    going = np.where(active, calm, unusual)
    before = np.where(broken, 0, state["count"])
    after = np.where(going, before + 1, 0)
    begins = ~active & unusual & (before == 0)
    state["start_ms"] = np.where(begins, begin_ms, state["start_ms"])
    raised = ~active & (after >= TIMES)
    cleared = active & (after >= TIMES)
    state["active"] = (active | raised) & ~cleared
    state["count"] = np.where(raised | cleared, 0, after)
    return raised, cleared
