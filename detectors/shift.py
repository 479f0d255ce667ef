"""Small shifts that stay, to the side that no other rule watches: told and asked about before anything learns them.

Source: Page 1954 (CUSUM) against an exponentially weighted mean. Deviations: one-sided, each side the one that is left:
the heart rate's fall (``rise`` has its rise), the fall of oxygen saturation and the rise of breathing asleep that are
less than ``drift`` tells. A night counts as at most 2 spreads away, and 1 is taken off each night, so that nothing is
told in fewer than six nights: what is large or brief has rules of its own. The heart rate is held against the slow
mean of ``rise``, which goes on following; saturation and breathing against slow means of their own, which begin as the
median of the first fortnight and stand still, as does the fortnight's baseline, from half the limit on: no run is
learned away, and an alert ends by nights as before or by "new normal". Limits were chosen by made-up people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from detectors import drift
from detectors.baseline import DAYS, LEARNED, NIGHT_BREATH, NIGHT_HEART, NIGHT_SPO2, PAIR_CONTEXT, PAIRS, compared
from detectors.daily import hearts_together
from detectors.measured_by import numbers
from detectors.protocol import CONTEXTS, Bools, Doubles, Evidence, Ints, Rows, State
from detectors.rise import DAY, HEART_PAIRS, NIGHT, Rise
from detectors.windows import Room


class Watched(NamedTuple):
    """A night's value, the side to which it is watched, and the limit of its sum in spreads."""

    pair: int
    side: int  # 1: a rise, -1: a fall
    limit: float


WATCHED: Final = (Watched(NIGHT_HEART, -1, 5.5), Watched(NIGHT_SPO2, -1, 6.0), Watched(NIGHT_BREATH, 1, 6.0))
"""In the order of ``drift.WATCHED``."""
HEART, BREATH = 0, 2  # their places; the heart rate has no slow mean here
OWN: Final = tuple(one.pair for one in WATCHED[1:])
RATE: Final = 1 / 28  # of a clean night in the slow mean
MOST, SLACK, ROOM, HIGH, CLEAR, SUSPICIOUS = 2.0, 1.0, 2.0, 0.5, 0.5, 0.5
"""Spreads counted at the most, taken off a night, how far beyond its limit a sum goes, what a night must itself reach
to tell, and the shares of the limit below which it is over and above which nothing is learned."""

SHIFT_DTYPE: Final = np.dtype(
    [
        ("mean", "f4", (len(OWN),)),  # of OWN; 0: not known
        ("sum", "u2", (len(WATCHED),)),  # thousandths of a spread
        ("since", "u2", (len(WATCHED),)),  # local day on which the sum left zero
        ("active", "u1"),  # a bit each
    ]
)
_THOUSAND: Final = 1000
_PAIR: Final = np.array([one.pair for one in WATCHED])
_SIDE: Final = np.array([one.side for one in WATCHED])
_LIMIT: Final = np.array([one.limit for one in WATCHED])
_BIT: Final = 1 << np.arange(len(WATCHED))


@dataclass(frozen=True, slots=True)
class Shift:
    """What was said of R people's night, (R, W) each, W values being watched."""

    raised: Bools
    cleared: Bools
    since: Ints  # local day on which the sum left zero
    score: Doubles  # spreads to the side that is watched, NaN where it was not judged
    usual: Doubles  # the slow mean before this night
    spread: Doubles  # one SD of a night about it


def judge(state: State, values: Doubles, spread: Doubles, heart: Rise, room: Room | None = None) -> Shift:
    """Take the closing night of R patients into their rows of the pipeline, in place.

    ``values`` and ``spread`` (R, P) of the day by baseline, values NaN where unknown; ``heart`` what ``rise`` made of
    the day; ``room`` how far a change is expected: up to there a heart rate has not fallen, unless it is told already.
    s is how far a night lies from the slow mean to the side that is watched, in spreads (the heart rate's with the one
    at rest by day, where that is known): S ← clip(S + clip(s, ±2) - 1, 0, limit + 2); raised when S > limit and
    s ≥ 0.5, unless another rule of the metric tells already, cleared when S < half the limit. Valid: 14 nights known.

    >>> from detectors import rise
    >>> from detectors.pipeline import PIPELINE_DTYPE
    >>> state, values = np.zeros(1, PIPELINE_DTYPE), np.full((1, len(PAIRS)), np.nan)
    >>> baseline = state["baselines"][:, NIGHT_SPO2]
    >>> baseline["n"], baseline["median"] = 14, 96
    >>> for night in range(1, 22):
    ...     values[0, NIGHT_SPO2], state["open_day"] = (94.6 if night < 12 else 96), night
    ...     heart = rise.judge(state, values, 4.5)
    ...     said = judge(state, values, np.full(values.shape, 0.7), heart)
    ...     if said.raised[0, 1] or said.cleared[0, 1]:
    ...         print(night, "raised" if said.raised[0, 1] else "cleared")
    7 raised
    17 cleared
    """
    part = state["shift"].copy()
    part["mean"] = np.where(_begins(state), state["baselines"]["median"][:, OWN], part["mean"])
    active = (part["active"][:, None] & _BIT) > 0
    usual = np.concatenate([heart.usual[:, [NIGHT]], np.where(part["mean"] > 0, part["mean"], np.nan)], axis=1)
    spreads = np.concatenate([heart.said.spread[:, [NIGHT]], spread[:, OWN]], axis=1)
    score = (values[:, _PAIR] - usual) / spreads * _SIDE
    score[:, HEART] = _fallen(heart, room, active[:, HEART])
    judged = np.isfinite(score)
    before = part["sum"] / _THOUSAND
    moved = np.clip(before + np.clip(np.nan_to_num(score), -MOST, MOST) - SLACK, 0, _LIMIT + ROOM)
    after = np.where(judged, moved, before)
    open_day = state["open_day"][:, None]
    since = np.where((before == 0) & (after > 0), open_day, part["since"]).astype(np.int32)
    raised = judged & ~active & (after > _LIMIT) & (np.nan_to_num(score) >= HIGH) & ~_told_already(state)
    cleared = judged & active & (after < CLEAR * _LIMIT)
    part["sum"] = np.rint(after * _THOUSAND)
    part["since"] = np.where(cleared, open_day + 1, since)  # the next run begins after this one's last night
    part["active"] = (((active | raised) & ~cleared) * _BIT).sum(1)
    state["shift"] = part
    return Shift(raised, cleared, since, score, usual, spreads)


def _begins(state: State) -> Bools:
    """Return (R, O) whose slow mean begins: as the median, once a fortnight is known."""
    return np.asarray((state["shift"]["mean"] == 0) & (state["baselines"]["n"][:, OWN] >= DAYS))


def _fallen(heart: Rise, room: Room | None, active: Bools) -> Doubles:
    """Return (R,) by how many spreads the heart rates have fallen together; NaN where the night's is not known."""
    places = [NIGHT, DAY]
    n, z = heart.n[:, places], heart.said.z[:, places]
    if room is not None:
        expected = (z < 0) & (heart.hearts >= room.lowest) & ~active[:, None]
        z = np.where(expected, 0.0, z)
    fallen = -hearts_together(np.where(n >= LEARNED, z, np.nan))
    return np.where(np.isfinite(z[:, 0]) & (n[:, 0] >= DAYS), fallen, np.nan)


def _told_already(state: State) -> Bools:
    """Return (R, W) where another rule about the same nights stands: nobody is asked twice."""
    told = drift.told(state)[:, : len(WATCHED)]
    told[:, BREATH] |= state["breath"]["active"] == 1
    return told


def held(state: State) -> Bools:
    """Return (R, P) where a night may not be learned: a shift of what is never learned unasked is told, or halfway."""
    part = state["shift"]
    suspicious = (part["sum"] > SUSPICIOUS * _LIMIT * _THOUSAND) | ((part["active"][:, None] & _BIT) > 0)
    found = np.zeros((len(state), len(PAIRS)), bool)
    found[:, OWN] = suspicious[:, HEART + 1 :]
    return found


def learn(state: State, values: Doubles, clean: Bools) -> None:
    """Let the slow means of R patients follow the nights that the fortnight's baselines learn, in place."""
    part, taught = state["shift"].copy(), clean[:, OWN] & (state["shift"]["mean"] > 0)
    away = np.where(taught, values[:, OWN] - part["mean"], 0.0)
    part["mean"] = part["mean"] + RATE * away
    state["shift"] = part


def forget(state: State, pairs: Rows) -> None:
    """Forget what was watched of ``pairs``, whose baselines start afresh, in place."""
    part, mine = state["shift"].copy(), np.isin(_PAIR, pairs)
    part["mean"] = np.where(mine[HEART + 1 :], 0, part["mean"])
    part["sum"], part["since"] = np.where(mine, 0, part["sum"]), np.where(mine, 0, part["since"])
    part["active"] = part["active"] & ~np.uint8(_BIT[mine].sum())
    state["shift"] = part


def evidence(said: Shift, heart: Rise, state: State, values: Doubles, which: int, i: int) -> Evidence:
    """Return what a finding about patient ``i`` and a watched value tells, all numbers of the night itself."""
    pair, side, limit = WATCHED[which]
    value, usual = float(values[i, pair]), float(said.usual[i, which])
    by = state["day"]["devices"][i]
    mask = int(by[pair])
    told = compared(pair, int(state["open_day"][i]), value, usual) | {
        "spread": round(float(said.spread[i, which]), 4),
        "side": "higher" if side > 0 else "lower",
        "minutes": int(state["day"]["n"][i, pair]),
        "since_day": int(said.since[i, which]),
        "score": round(float(said.score[i, which]), 3),
        "sum": round(float(state["shift"]["sum"][i, which]) / _THOUSAND, 3),
        "sum_limit": limit,
    }
    if which == HEART and np.isfinite(heart.said.z[i, DAY]) and heart.n[i, DAY] >= LEARNED:
        told |= {
            "other_context": CONTEXTS[PAIR_CONTEXT[HEART_PAIRS[DAY]]],
            "other_value": round(float(heart.hearts[i, DAY]), 4),
            "other_usual": round(float(heart.usual[i, DAY]), 4),
        }
        mask |= int(by[HEART_PAIRS[DAY]])
    return told | {"devices": numbers(mask)}
