"""Small shifts that stay, to the side that no other rule watches: told and asked about before anything learns them.

Source: Page 1954 (CUSUM) against an exponentially weighted mean. Deviations: one-sided, each side the one that is left:
the heart rate's fall (``rise`` has its rise), the fall of oxygen saturation and the rise of breathing asleep that are
less than ``drift`` tells. A night counts as at most 2 spreads away, and 1 is taken off each night, so that nothing is
told in fewer than six nights: what is large or brief has rules of its own. The heart rate is held against the slow
mean of ``rise``, which goes on following; saturation and breathing against slow means of their own, which begin as the
median of the first fortnight and stand still, as does the fortnight's baseline, from half the limit on: no run is
learned away, and an alert ends by nights as before, by "new normal", or as a drift of the metric is told. While another
rule tells of the same nights, or a drift has counted most of its, nothing is raised. Limits were chosen by made-up
people.

Units: /min, %, the person's own spreads a night.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from detectors import drift
from detectors.baseline import DAYS, LEARNED, NIGHT_BREATH, NIGHT_HEART, NIGHT_SPO2, PAIR_CONTEXT, PAIRS, compared
from detectors.daily import hearts_together
from detectors.measured_by import numbers
from detectors.protocol import CONTEXTS, Bools, Bytes, Doubles, Evidence, Ints, Rows, State
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
UNKNOWN: Final = 0.25
"""Spreads that an unknown night takes off a sum that has told nothing: nights months apart are no run."""
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
    sum: Doubles  # after this night
    hearts: Doubles  # (R, 2) SDs of the heart rates asleep and at rest by day, as they were counted; NaN: not known
    yields: Bools  # cleared because a drift of the metric is told now


def judge(
    state: State, values: Doubles, spread: Doubles, heart: Rise, room: Room | None = None, told: Bools | None = None
) -> Shift:
    """Take the closing night of R patients into their rows of the pipeline, in place.

    ``values`` and ``spread`` (R, P) of the day by baseline, values NaN where unknown; ``heart`` what ``rise`` made of
    the day; ``room`` how far a change is expected: up to there a heart rate has not fallen, unless it is told already;
    ``told`` (R, W) of which another rule told before this night (``told_already``): as long as one does, and on the
    night it ends, a sum that has told nothing does not grow.
    s is how far a night lies from the slow mean to the side that is watched, in spreads (the heart rate's with the one
    at rest by day, where that is known): S ← clip(S + clip(s, ±2) - 1, 0, limit + 2); raised when S > limit and
    s ≥ 0.5, unless a drift counts most of its nights already, cleared when S < half the limit. Valid: 14 nights known.

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
    hearts = _hearts(heart, room, active[:, HEART])
    score = (values[:, _PAIR] - usual) / spreads * _SIDE
    score[:, HEART] = np.where(np.isfinite(hearts[:, NIGHT]), -hearts_together(hearts), np.nan)
    judged = np.isfinite(score)
    before = part["sum"] / _THOUSAND
    moved = np.clip(before + np.clip(np.nan_to_num(score), -MOST, MOST) - SLACK, 0, _LIMIT + ROOM)
    elsewhere = told_already(state) if told is None else told | told_already(state)
    moved = np.where(elsewhere & ~active, np.minimum(moved, before), moved)
    after = np.where(judged, moved, _less(before, active, 1))
    open_day = state["open_day"][:, None]
    since = np.where((before == 0) & (after > 0), open_day, part["since"]).astype(np.int32)
    counting = state["drift_nights"][:, : len(WATCHED)] >= drift.MOSTLY
    raised = judged & ~active & (after > _LIMIT) & (np.nan_to_num(score) >= HIGH) & ~elsewhere & ~counting
    cleared = judged & active & (after < CLEAR * _LIMIT)
    part["sum"] = np.rint(after * _THOUSAND)
    part["since"] = np.where(cleared, open_day + 1, since)  # the next run begins after this one's last night
    part["active"] = _packed((active | raised) & ~cleared)
    state["shift"] = part
    return Shift(raised, cleared, since, score, usual, spreads, part["sum"] / _THOUSAND, hearts, np.zeros_like(raised))


def give_way(state: State, said: Shift) -> Shift:
    """End what stands about R patients where a drift of the metric is told now, in place: nobody is asked twice.

    Call it once the drifts are judged. What the night raised by itself is then not said at all.
    """
    part, drifted = state["shift"].copy(), drift.told(state)[:, : len(WATCHED)]
    active = (part["active"][:, None] & _BIT) > 0
    yields = active & drifted & ~said.raised & np.isfinite(said.score)
    ended = yields | (said.raised & drifted)
    part["since"] = np.where(ended, state["open_day"][:, None] + 1, part["since"])
    part["active"] = _packed(active & ~ended)
    state["shift"] = part
    return replace(said, raised=said.raised & ~drifted, cleared=said.cleared | yields, yields=yields)


def pass_over(state: State, days: Ints) -> None:
    """Take off the sums of R patients, in place, what so many ``days`` (R,) without any data between two do."""
    part = state["shift"].copy()
    active = (part["active"][:, None] & _BIT) > 0
    part["sum"] = np.rint(_less(part["sum"] / _THOUSAND, active, np.maximum(days, 0)[:, None]) * _THOUSAND)
    state["shift"] = part


def _less(sums: Doubles, active: Bools, nights: int | Ints) -> Doubles:
    """Return the sums after so many unknown nights; nothing that is told ends without data."""
    return np.asarray(np.where(active, sums, np.maximum(sums - UNKNOWN * nights, 0)))


def _packed(which: Bools) -> Bytes:
    return np.asarray((which * _BIT).sum(1), np.uint8)


def _begins(state: State) -> Bools:
    """Return (R, O) whose slow mean begins: as the median, once a fortnight is known."""
    return np.asarray((state["shift"]["mean"] == 0) & (state["baselines"]["n"][:, OWN] >= DAYS))


def _hearts(heart: Rise, room: Room | None, active: Bools) -> Doubles:
    """Return (R, 2) the heart rates' z, asleep and at rest by day, 0 for a fall that is expected; NaN: not known."""
    places = [NIGHT, DAY]
    z = heart.said.z[:, places]
    if room is not None:
        expected = (z < 0) & (heart.hearts >= room.lowest) & ~active[:, None]
        z = np.where(expected, 0.0, z)
    return np.asarray(np.where(heart.n[:, places] >= [DAYS, LEARNED], z, np.nan))


def told_already(state: State) -> Bools:
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


def told_first(said: Shift, which: int, i: int) -> int:
    """Return the baseline that is told first: of the heart rates the one that lies further below its usual."""
    if which != HEART:
        return WATCHED[which].pair
    return HEART_PAIRS[int(np.nanargmin(said.hearts[i]))]


def evidence(said: Shift, heart: Rise, state: State, values: Doubles, which: int, i: int) -> Evidence:
    """Return what a finding about patient ``i`` and a watched value tells, all numbers of the night itself.

    The score of a saturation or a breath is what it lies from ``usual`` in spreads; that of the heart rates comes of
    ``z`` and ``other_z`` (``daily.hearts_together``), 0 where a fall was expected.
    """
    pair = told_first(said, which, i)
    value, usual, spread = values[i, pair], said.usual[i, which], said.spread[i, which]
    mask, further = int(state["day"]["devices"][i, pair]), Evidence()
    if which == HEART:
        first = HEART_PAIRS.index(pair)
        value, usual, spread = heart.hearts[i, first], heart.usual[i, first], heart.said.spread[i, first]
        further = _of_hearts(said, heart, first, i)
        if "other_z" in further:
            mask |= int(state["day"]["devices"][i, HEART_PAIRS[1 - first]])
    if said.yields[i, which]:
        further["drifted"] = True
    return {
        **compared(pair, int(state["open_day"][i]), float(value), float(usual)),
        "spread": round(float(spread), 4),
        "side": "higher" if WATCHED[which].side > 0 else "lower",
        "minutes": int(state["day"]["n"][i, pair]),
        "since_day": int(said.since[i, which]),
        "score": round(float(said.score[i, which]), 3),
        "sum": round(float(said.sum[i, which]), 3),
        "sum_limit": WATCHED[which].limit,
        **further,
        "devices": numbers(mask),
    }


def _of_hearts(said: Shift, heart: Rise, first: int, i: int) -> Evidence:
    """Return what the score of two heart rates is made of, the ``first`` of them being told first."""
    z, other = said.hearts[i], 1 - first
    told: Evidence = {"center": round(float(heart.said.center[i, first]), 4), "z": round(float(z[first]), 3)}
    if np.isfinite(z[other]):
        told |= {
            "other_context": CONTEXTS[PAIR_CONTEXT[HEART_PAIRS[other]]],
            "other_value": round(float(heart.hearts[i, other]), 4),
            "other_usual": round(float(heart.usual[i, other]), 4),
            "other_z": round(float(z[other]), 3),
        }
    return told
