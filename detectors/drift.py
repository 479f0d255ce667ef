"""What has drifted from the first fortnight: a slow decline is told, however slowly every other baseline followed it.

Source: the anchor kept beside an adapting baseline, of the literature on change that is slower than the adaptation
("boiling frog"). Deviations: the fortnight's median is compared with the anchor's by bounds, engineering choices that a
clinician may set otherwise (``choices``); told once at a bound and once more at twice of it; nights beyond the bound
count beside the median. "New normal" ends the alert; the anchor stays, and so does the distance from it that was told:
it is not told again, and one bound further is, by whatever bound holds then. Oxygen saturation and breathing are
learned up to the bound, beyond that distance, and no further until somebody says "new normal".

Units: the metric's (/min, %, ms). Valid: adults who sleep at night, once the first fortnight is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.baseline import LEARNED, NIGHT_BREATH, NIGHT_HEART, NIGHT_HRV, NIGHT_SPO2, PAIR_CONTEXT, PAIRS
from detectors.measured_by import numbers
from detectors.protocol import CONTEXTS, Bools, Bytes, Change, Doubles, Evidence, Floats, Rows, Shorts, State
from detectors.windows import Room, from_before


class Watched(NamedTuple):
    """A baseline that is held against its anchor; everybody's bound in the metric's unit."""

    pair: int
    bound: float
    side: int  # 1: only a rise is told, -1: only a fall, 0: both
    parts: int  # of the unit, in which a distance is kept: 255 of them are more than two of anybody's widest bounds
    asks: bool = False  # beyond the bound nothing is learned before somebody says "new normal"


WATCHED: Final = (
    Watched(NIGHT_HEART, 8, 0, 8),
    Watched(NIGHT_SPO2, 2, -1, 25, asks=True),
    Watched(NIGHT_BREATH, 3, 1, 20, asks=True),
    Watched(NIGHT_HRV, 15, -1, 4),
)
LEVELS: Final = 2
NIGHTS: Final = 7
MOSTLY: Final = 4  # of them, in a row: "new normal" is about these nights too
BACK: Final = 0.5  # of the bound: nearer than this the drift is over
_PAIR: Final = np.array([one.pair for one in WATCHED])
BOUND: Final = np.array([float(one.bound) for one in WATCHED])
_SIDE: Final = np.array([one.side for one in WATCHED])
_PARTS: Final = np.array([one.parts for one in WATCHED])
_FURTHEST: Final = 255 / _PARTS  # beyond it nothing is told any more
_ASKS: Final = np.array([one.asks for one in WATCHED])
_SHIFT: Final = np.arange(len(WATCHED), dtype=np.uint8) * 2  # two bits a baseline


@dataclass(frozen=True, slots=True)
class Drift:
    """What changed today, (R, W) each, W baselines being watched."""

    level: Bytes  # 0: nothing is told, 1 beyond the bound, 2 beyond twice of it or beyond what was confirmed
    changes: Mapping[Change, Bools]  # raised, worsened, cleared


def judge(state: State, values: Doubles, room: Room | None = None, bound: Doubles = BOUND) -> Drift:
    """Hold the baselines of R patients, and their nights, against the anchors, in place.

    ``values`` (R, P) of the closing day, NaN where unknown. It is told a ``bound``, (W,) or (R, W), beyond the distance
    that was told or confirmed before, by the fortnight's median, or by ``NIGHTS`` known nights in a row: what falls far
    at once is never clean, and no median would tell. At the last level the distance goes on following unsaid. It is
    over where the median is nearer than half the bound and as many nights in a row are. ``room``: how far a change is
    expected; up to there, counted from the level before, nothing is far; once the window is over it is.

    >>> from detectors.pipeline import PIPELINE_DTYPE
    >>> state, values = np.zeros(1, PIPELINE_DTYPE), np.full((1, len(PAIRS)), np.nan)
    >>> baseline = state["baselines"][:, NIGHT_SPO2]
    >>> baseline["n"], baseline["anchor"], baseline["median"] = 14, 96, 96
    >>> for night, value in enumerate([91] * 15 + [96] * 8):
    ...     values[0, NIGHT_SPO2] = value
    ...     said = judge(state, values)
    ...     for change, which in said.changes.items():
    ...         if which.any():
    ...             print(night, value, change)
    6 91 raised
    13 91 worsened
    21 96 cleared
    """
    level, reached = _levels(state["drift"]), _reached(state)
    baselines = state["baselines"][:, _PAIR]
    learned = baselines["n"] >= LEARNED
    known = (baselines["anchor"] > 0) & (learned | _ASKS)  # nights that are held are told though none is learned
    median, night = (_away(one, baselines["anchor"]) for one in (baselines["median"], values[:, _PAIR]))
    median = np.where(learned, median, np.nan)
    by_median, by_night = median, night
    if room is not None:
        by_median = np.where(from_before(state["baselines"]["median"], room)[:, _PAIR], 0, median)
        by_night = np.where(from_before(values, room)[:, _PAIR], 0, night)
    near = (night < BACK * bound) & (reached > 0)
    counted = _count(state["drift_nights"], np.isfinite(night), by_night >= _next(reached, bound), near)
    over = known & (median < BACK * bound) & (counted <= -NIGHTS)
    further = np.where(by_median >= _next(reached, bound), (by_median - reached) // bound, 0)
    steps = np.where(known & ~over, np.maximum(np.minimum(further, LEVELS), counted >= NIGHTS), 0)
    more = (steps > 0) & (level < LEVELS)
    beyond_confirmed = more & (level == 0) & (reached > 0)
    after = np.where(over, 0, np.minimum(level + steps + beyond_confirmed, LEVELS)).astype(np.uint8)
    state["drift_nights"] = np.where(known & (steps == 0) & ~over, counted, 0)
    state["drift"] = _packed(after)
    state["drift_reached"] = _kept(np.where(over, 0, reached + steps * bound))
    changes: dict[Change, Bools] = {
        "raised": more & (reached == 0),
        "worsened": more & (reached > 0),
        "cleared": over & (level > 0),  # what somebody called the new normal has ended by that
    }
    return Drift(after, changes)


def told(state: State) -> Bools:
    """Return (R, W) which drifts stand, and nobody has called them the new normal."""
    return np.asarray(_levels(state["drift"]) > 0)


def held(state: State, values: Doubles, bound: Doubles = BOUND) -> Bools:
    """Return (R, P) where a night may not be learned: ``asks``, and a bound beyond the distance anybody confirmed.

    While a drift stands what it was told at is not confirmed: then from the bound on, or from where it was told if that
    is nearer. Beyond the furthest distance that is kept nothing more is told, so nothing is held there either.
    """
    anchor, reached = state["baselines"]["anchor"][:, _PAIR], _reached(state)
    least = np.where(told(state), np.minimum(reached, bound), _next(reached, bound))
    found = np.zeros(values.shape, bool)
    with np.errstate(invalid="ignore"):
        found[:, _PAIR] = _ASKS & (anchor > 0) & (_away(values[:, _PAIR], anchor) >= least)
    return found


def returned(state: State, values: Doubles, bound: Doubles = BOUND) -> Bools:
    """Return (R, P) where a night is learned however far it lies from the last ones: the anchor is reached again.

    So it is after ``NIGHTS`` known nights in a row near the anchor, of what had drifted. Who recovers at once from what
    was called a new normal would else be held against it for ever.
    """
    away = _away(values[:, _PAIR], state["baselines"]["anchor"][:, _PAIR])
    found = np.zeros(values.shape, bool)
    with np.errstate(invalid="ignore"):
        found[:, _PAIR] = (state["drift_nights"] <= -NIGHTS) & (away < BACK * bound)
    return found


def confirm(state: State, pairs: Rows, bound: Doubles = BOUND) -> None:
    """Take what ``pairs`` of R patients have drifted to as said to be the new normal, in place.

    That is the distance that was told, and a ``bound`` more where most of the nights that would tell it lay beyond
    that: who answers something smaller has not said anything about what nobody told.
    """
    which = np.isin(_PAIR, pairs)
    more = which & (state["drift_nights"] >= MOSTLY)
    state["drift_reached"] = _kept(_reached(state) + np.where(more, bound, 0))
    state["drift"] = _packed(np.where(which, 0, _levels(state["drift"])))
    state["drift_nights"] = np.where(which, 0, state["drift_nights"])


def _reached(state: State) -> Doubles:
    """Return (R, W) the distance from the anchor that was told, or called the new normal; 0: none."""
    return np.asarray(state["drift_reached"] / _PARTS)


def _kept(reached: Doubles) -> Bytes:
    """Return distances as they are kept; what no whole part holds is left to be told again, not confirmed."""
    return np.asarray(np.minimum(np.floor(reached * _PARTS + 1e-6), 255), np.uint8)


def _next(reached: Doubles, bound: Doubles) -> Doubles:
    """Return (R, W) from which distance on a drift is told (again)."""
    return np.asarray(np.where(reached < _FURTHEST, reached + bound, np.inf))


def _levels(packed: Bytes) -> Bytes:
    """Return (R, W) of (R,), two bits a baseline."""
    return np.asarray(packed[:, None] >> _SHIFT & 3, np.uint8)


def _packed(levels: Bytes) -> Bytes:
    return np.asarray((levels.astype(np.uint8) << _SHIFT).sum(1, dtype=np.uint8))


def _away(value: Floats | Doubles, anchor: Floats) -> Doubles:
    """Return (R, W) how far a value lies away on the side that is told, in its unit; NaN stays NaN."""
    away = value.astype(np.float64) - anchor
    return np.asarray(np.where(_SIDE == 0, np.abs(away), away * _SIDE))


def _count(nights: NDArray[np.int8], known: Bools, beyond: Bools, near: Bools) -> Shorts:
    """Return how many known nights in a row lay ``beyond`` what is told next (positive), or were ``near`` again."""
    count = nights.astype(np.int16)
    more = np.where(beyond, np.maximum(count, 0) + 1, np.where(near, np.minimum(count, 0) - 1, 0))
    return np.asarray(np.where(known, np.clip(more, -NIGHTS, NIGHTS), count), np.int16)


def evidence(state: State, values: Doubles, which: int, bound: Doubles, i: int) -> Evidence:
    """Return what a finding about patient ``i`` and a watched baseline tells: of the night, where it is known.

    ``bound`` (R, W) as the day was judged.
    """
    pair = WATCHED[which].pair
    baseline = state[i]["baselines"][pair]
    median, anchor = (round(float(baseline[name]), 4) for name in ("median", "anchor"))
    night = float(values[i, pair])
    told = median if np.isnan(night) else round(night, 4)
    return {
        "metric": PAIRS[pair].metric,
        "context": CONTEXTS[PAIR_CONTEXT[pair]],
        "day": int(state["open_day"][i]),
        "value": told,
        "usual": anchor,
        "difference": round(told - anchor, 4),
        "median": median if baseline["n"] else None,
        "n_days": int(baseline["n"]),
        "bound": float(bound[i, which]),
        "devices": numbers(int(state["day"]["devices"][i, pair])),
    }
