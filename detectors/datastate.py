"""What is known of each metric in an hour: learning, normal, unusual, or unknown and why.

Source: none; this is the promise that silence never reads as "all well". Thresholds are engineering choices.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.baseline import LEARNED, PAIR_METRIC
from detectors.protocol import (
    HEART_RATE,
    LEARNING,
    NO_CAUSE,
    NO_DATA,
    NORMAL,
    NOT_WORN,
    POOR_SIGNAL,
    STEPS,
    UNKNOWN,
    UNUSUAL,
    VITALS,
    Bools,
    Bytes,
    Doubles,
    Ints,
    Rows,
    State,
)

UNUSUAL_Z = 3.5
"""An hour this many SDs from the person's own usual is shown as unusual (shown, not alerted)."""

OFF_MINUTES = 10
"""So many minutes not worn explain an hour without data."""

LEAST: Final = np.array([5, 1, 1, 1, 1, 1, 1], np.uint8)
"""Usable minutes, by metric, without which an hour is unknown; of a heart rate, as many as its readings stand for."""

_PAIRS_OF = [np.flatnonzero(metric == PAIR_METRIC) for metric in range(len(VITALS))]


def judge(hours: State, z: Doubles, learned: Bools, steps: Bytes) -> tuple[Bytes, Bytes, Rows]:
    """Return (state, cause, baseline), each (R, M), of closing hours.

    ``z`` and ``learned`` are (R, P). Enough usable minutes: judged against the baseline with most of them;
    ``learning`` while that is young, or when there is none for what the person was doing; what steps are, an hour does
    not tell: where they are reported they are what their last whole day was, ``steps`` (R,) of ``of_steps``. Too few:
    ``unknown``, by ``poor_signal`` if there were unusable minutes, by ``not_worn`` if 10 minutes were, else by
    ``no_data``. ``baseline`` is an index into PAIRS, -1 where none applies. Units: SDs, minutes. Valid: closing
    hours.

    >>> from detectors.baseline import PAIRS
    >>> from detectors.sums import HOUR_DTYPE
    >>> from detectors.protocol import CAUSES, DATA_STATES
    >>> hours = np.zeros(1, HOUR_DTYPE)
    >>> hours["off"] = 60
    >>> state, cause, _ = judge(hours, np.zeros((1, len(PAIRS))), np.ones((1, len(PAIRS)), bool), np.zeros(1, np.uint8))
    >>> DATA_STATES[state[0, 0]], CAUSES[cause[0, 0]]
    ('unknown', 'not_worn')
    """
    state = np.full((len(hours), len(VITALS)), LEARNING, np.uint8)
    baseline = np.full(state.shape, -1, np.intp)
    row = np.arange(len(hours))
    for metric, pairs in enumerate(_PAIRS_OF):
        if not len(pairs):
            continue
        best = pairs[hours["n"][:, pairs].argmax(1)]
        has = hours["n"][row, best] > 0
        judged = has & learned[row, best]
        far = np.abs(z[row, best]) > UNUSUAL_Z
        state[judged, metric] = np.where(far, UNUSUAL, NORMAL)[judged]
        baseline[has, metric] = best[has]
    state[:, STEPS] = steps
    usable = hours["usable"].copy()
    usable[:, HEART_RATE] += hours["more"].sum(1, dtype=np.uint8)
    unknown = usable < LEAST
    state[unknown] = UNKNOWN
    off = np.broadcast_to((hours["off"] >= OFF_MINUTES)[:, None], state.shape)
    cause = np.where(hours["poor"] > 0, POOR_SIGNAL, np.where(off, NOT_WORN, NO_DATA))
    return state, np.where(unknown, cause, NO_CAUSE).astype(np.uint8), np.where(unknown, -1, baseline)


def of_steps(z: Doubles, n: Ints) -> Bytes:
    """Return (R,) what the steps of a day that is over are: ``z`` (R,) against the habit of ``n`` (R,) days.

    ``learning`` while the habit is young, and where too little was reported to tell how active the day was (NaN).

    >>> of_steps(np.array([0.5, -9.0, np.nan, 0.5]), np.array([14, 14, 14, 2])).tolist()
    [1, 2, 0, 0]
    """
    judged = np.isfinite(z) & (n >= LEARNED)
    return np.where(judged, np.where(np.abs(z) > UNUSUAL_Z, UNUSUAL, NORMAL), LEARNING).astype(np.uint8)
