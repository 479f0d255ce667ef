"""Several vitals asleep that each differ a little, the way an illness moves them: together they say more than alone.

Source: Mahalanobis 1936 and Hotelling 1947 for several measurements judged at once by their covariance; Ledoit and Wolf
2004 for a covariance shrunk towards a target; Page 1954 for small deviations that add up; Natarajan et al. 2020 for how
an illness moves them (faster breath and heart, less variability). Deviations: one-sided, as no distance is: the
projection on the way an illness moves all of them equally, in spreads, which is the most powerful test against just
that; the correlations are shrunk all the way to ``CORRELATION``, since a fortnight of nights leaves an error of 0.27 on
each, and the spreads are the person's own.

Units: the person's own spreads. Valid: adults who sleep at night, the heart rate and two other vitals known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.baseline import NIGHT_BREATH, NIGHT_HEART, NIGHT_HRV, NIGHT_SKIN, NIGHT_SPO2, PAIR_CONTEXT, PAIRS, Usual
from detectors.measured_by import numbers
from detectors.protocol import CONTEXTS, Bools, Doubles, Evidence, Ints, State

ASLEEP: Final = (NIGHT_HEART, NIGHT_HRV, NIGHT_BREATH, NIGHT_SKIN, NIGHT_SPO2)
ILL: Final = np.array([1, -1, 1, 1, -1])
"""The side to which an illness moves each of ``ASLEEP``."""

CORRELATION: Final = np.array(
    [
        [1.0, -0.4, 0.3, 0.2, 0.0],
        [-0.4, 1.0, -0.2, 0.0, 0.0],
        [0.3, -0.2, 1.0, 0.0, 0.0],
        [0.2, 0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ]
)
"""Of one person's nights, in the order of ``ASLEEP``. Heart rate and the logarithm of its variability within a person:
-0.35 (quartiles -0.62 to -0.28) in the 26 people of 2,117 resting sessions of Welltory's public data; the others are
rounded assumptions, for which no figure within people was found."""

LEAST: Final = 3  # vitals known tonight, the heart rate among them
MOST, SLACK, LIMIT, ROOM, HIGH, CLEAR = 4.0, 1.25, 5.5, 2.0, 1.0, 0.5
"""As of ``daily``: spreads counted at the most, taken off a night, the sum's limit and how far beyond it goes, what
the night itself must reach, and the share of the limit below which it is over."""
TELLING: Final = 0.1  # of the night's projection: a vital with less of it is not named

TOGETHER_DTYPE: Final = np.dtype([("sum", "f4"), ("since", "u2"), ("active", "u1")])
_BITS: Final = 1 << np.arange(len(ASLEEP))


def _weights() -> Doubles:
    """Return (32, V) the weights of the projection, for each choice of vitals that are known; 0 for too few."""
    weights = np.zeros((1 << len(ASLEEP), len(ASLEEP)))
    for choice, row in enumerate(weights):
        known = (choice & _BITS) > 0
        if known[0] and known.sum() >= LEAST:
            towards = np.linalg.solve(CORRELATION[np.ix_(known, known)], ILL[known])
            row[known] = towards / np.sqrt(towards @ ILL[known])
    return weights


_WEIGHTS: Final = _weights()


@dataclass(frozen=True, slots=True)
class Together:
    """What was said of R people's night."""

    raised: Bools  # (R,)
    cleared: Bools  # (R,)
    since: Ints  # (R,) local day on which the sum left zero
    parts: Doubles  # (R, V) what each vital adds to the night's projection
    z: Doubles  # (R, V)


def judge(state: State, z: Doubles, known: Bools) -> Together:
    """Take the closing night of R patients into their rows of the pipeline, in place.

    ``z`` (R, P) spreads by which the day's values lie away from what is usual, ``known`` (R, P) where a value can be
    judged. T = d'R⁻¹z / √(d'R⁻¹d) over the vitals known tonight, each at most 4 spreads away, d the side to which an
    illness moves each: SD 1 in a person's ordinary nights. S ← clip(S + min(T, 4) - 1.25, 0, 7.5); raised when
    S > 5.5 and T ≥ 1, of which two vitals have a tenth each; cleared when S < 2.75. A night without heart rate or with
    fewer than three vitals changes nothing.

    >>> from detectors.pipeline import PIPELINE_DTYPE
    >>> state, z = np.zeros(1, PIPELINE_DTYPE), np.full((1, len(PAIRS)), np.nan)
    >>> for night in range(1, 12):
    ...     z[0, NIGHT_HEART] = z[0, NIGHT_BREATH] = z[0, NIGHT_SKIN] = 1.8 if night < 6 else 0
    ...     state["open_day"] = night
    ...     said = judge(state, z, np.isfinite(z))
    ...     if said.raised[0] or said.cleared[0]:
    ...         print(night, "raised" if said.raised[0] else "cleared")
    4 raised
    9 cleared
    """
    tonight, part = known[:, ASLEEP], state["together"].copy()
    away = np.where(tonight, np.clip(z[:, ASLEEP], -MOST, MOST), 0.0)
    weights = _WEIGHTS[tonight @ _BITS]
    parts = weights * away
    score, judged = parts.sum(1), weights.any(1)
    before = part["sum"].astype(np.float64)
    after = np.where(judged, np.clip(before + np.minimum(score, MOST) - SLACK, 0, LIMIT + ROOM), before)
    active = part["active"] == 1
    telling = ((parts >= TELLING * score[:, None]) & (parts > 0)).sum(1)
    raised = judged & ~active & (after > LIMIT) & (score >= HIGH) & (telling >= 2)
    cleared = judged & active & (after < CLEAR * LIMIT)
    since = np.where((before == 0) & (after > 0), state["open_day"], part["since"]).astype(np.int32)
    part["sum"], part["active"] = after, (active | raised) & ~cleared
    part["since"] = np.where(cleared, state["open_day"] + 1, since)  # the next run begins after this one's last night
    state["together"] = part
    return Together(raised, cleared, since, parts, away)


def evidence(said: Together, state: State, values: Doubles, expected: Usual, i: int) -> Evidence:
    """Return what a finding about patient ``i`` tells: each vital that has its part in it; once it is over, each."""
    parts, total = said.parts[i], float(said.parts[i].sum())
    which = (parts >= TELLING * total) & (parts > 0) if state["together"]["active"][i] else parts != 0
    vitals = vitals_told(state, values, expected, which, i)
    for one, place in zip(vitals, np.flatnonzero(which).tolist(), strict=True):
        one |= {"z": round(float(said.z[i, place]), 3), "part": round(float(parts[place]), 3)}
    return about(state, i) | {
        "since_day": int(said.since[i]),
        "score": round(total, 3),
        "sum": round(float(state["together"]["sum"][i]), 3),
        "sum_limit": LIMIT,
        "vitals": vitals,
    }


def about(state: State, i: int) -> Evidence:
    """Return what a finding on several vitals asleep is filed under."""
    metric, context = PAIRS[NIGHT_HEART].metric, CONTEXTS[PAIR_CONTEXT[NIGHT_HEART]]
    return {"metric": metric, "context": context, "day": int(state["open_day"][i])}


def vitals_told(state: State, values: Doubles, expected: Usual, which: Bools, i: int) -> list[dict[str, Any]]:
    """Return the night's value, the usual one and the devices of each vital ``which`` (V,) of ``ASLEEP``."""
    return [
        {
            "metric": PAIRS[pair].metric,
            "value": round(float(values[i, pair]), 4),
            "usual": round(float(expected.median[i, pair]), 4),
            "n_days": int(expected.n[i, pair]),
            "devices": numbers(int(state["day"]["devices"][i, pair])),
        }
        for pair in np.array(ASLEEP)[which].tolist()
    ]


def forget(state: State, pairs: Any) -> None:
    """Forget the sum where the heart rate's baseline, under which it is filed, is among those that start afresh."""
    if NIGHT_HEART in pairs:
        state["together"] = np.zeros((), TOGETHER_DTYPE)
