"""What has drifted from the first fortnight: a slow decline is told, however slowly every other baseline followed it.

Source: the anchor kept beside an adapting baseline, of the literature on change that is slower than the adaptation
("boiling frog"). Deviations: the fortnight's median is compared with the anchor's by bounds, engineering choices that a
clinician may set otherwise (``choices``); told once at a bound and once more at twice of it; nights beyond the bound
count beside the median. "New normal" ends the alert; the anchor stays, so that the same distance is not told again and
twice the bound still is. Oxygen saturation and breathing are learned up to the bound and no further until somebody says
"new normal".
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
    asks: bool = False  # beyond the bound nothing is learned before somebody says "new normal"


WATCHED: Final = (
    Watched(NIGHT_HEART, 8, 0),
    Watched(NIGHT_SPO2, 2, -1, asks=True),
    Watched(NIGHT_BREATH, 3, 1, asks=True),
    Watched(NIGHT_HRV, 15, -1),
)
LEVELS: Final = 2
NIGHTS: Final = 7
BACK: Final = 0.5  # of the bound: nearer than this the drift is over
_PAIR: Final = np.array([one.pair for one in WATCHED])
BOUND: Final = np.array([float(one.bound) for one in WATCHED])
_SIDE: Final = np.array([one.side for one in WATCHED])
_ASKS: Final = np.array([one.asks for one in WATCHED])
_SHIFT: Final = np.arange(len(WATCHED), dtype=np.uint8) * 2  # two bits a baseline


@dataclass(frozen=True, slots=True)
class Drift:
    """What changed today, (R, W) each, W baselines being watched."""

    level: Bytes  # 0: within the bound, 1 beyond it, 2 beyond twice of it
    changes: Mapping[Change, Bools]  # raised, worsened, cleared


def judge(state: State, values: Doubles, room: Room | None = None, bound: Doubles = BOUND) -> Drift:
    """Hold the baselines of R patients, and their nights, against the anchors, in place.

    ``values`` (R, P) of the closing day, NaN where unknown. A level is reached by the fortnight's median, or by
    ``NIGHTS`` known nights in a row: what falls far at once is never clean, and no median would tell. It is over where
    the median is nearer than half the bound and as many nights in a row are. ``room``: how far a change is expected; up
    to there, counted from the level before, nothing is far; once the window is over it is. ``bound``: (W,), or (R, W).

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
    before, confirmed = _levels(state["drift"]), _levels(state["drift_confirmed"])
    past = np.maximum(before, confirmed)
    baselines = state["baselines"][:, _PAIR]
    learned = baselines["n"] >= LEARNED
    known = (baselines["anchor"] > 0) & (learned | _ASKS)  # nights that are held are told though none is learned
    median, night = (_far(one, baselines["anchor"], bound) for one in (baselines["median"], values[:, _PAIR]))
    median = np.where(learned, median, np.nan)
    by_median, by_night = median, night
    if room is not None:
        by_median = np.where(from_before(state["baselines"]["median"], room)[:, _PAIR], 0, median)
        by_night = np.where(from_before(values, room)[:, _PAIR], 0, night)
    counted = _count(state["drift_nights"], night, by_night, past)
    reached = np.clip(np.floor(np.nan_to_num(by_median, nan=0)), 0, LEVELS).astype(np.uint8)
    after = np.where(reached > past, reached, before)
    after = np.where(counted >= NIGHTS, np.maximum(after, np.minimum(past + 1, LEVELS)), after)
    over = (median < BACK) & (counted <= -NIGHTS)
    after = np.where(known, np.where(over, 0, after), before).astype(np.uint8)
    state["drift_nights"] = np.where(known & (after == before) & ~over, counted, 0)
    state["drift"] = _packed(after)
    state["drift_confirmed"] = _packed(np.where(known & over, 0, confirmed))
    more = after > before
    changes: dict[Change, Bools] = {
        "raised": more & (before == 0),
        "worsened": more & (before > 0),
        "cleared": (after == 0) & (before > 0),
    }
    return Drift(after, changes)


def told(state: State) -> Bools:
    """Return (R, W) which drifts stand."""
    return np.asarray(_levels(state["drift"]) > 0)


def held(state: State, values: Doubles, bound: Doubles = BOUND) -> Bools:
    """Return (R, P) where a night may not be learned: ``asks``, and further from the anchor than anybody confirmed.

    Beyond the last level nothing more is told, so nobody could say "new normal" to it again: once that level is
    confirmed, nothing is held.
    """
    anchor, confirmed = state["baselines"]["anchor"][:, _PAIR], _levels(state["drift_confirmed"])
    far = _far(values[:, _PAIR], anchor, bound)
    found = np.zeros(values.shape, bool)
    with np.errstate(invalid="ignore"):
        found[:, _PAIR] = _ASKS & (anchor > 0) & (confirmed < LEVELS) & (far >= confirmed + 1)
    return found


def returned(state: State, values: Doubles, bound: Doubles = BOUND) -> Bools:
    """Return (R, P) where a night is learned however far it lies from the last ones: the anchor is reached again.

    So it is after ``NIGHTS`` known nights in a row near the anchor, of what had drifted. Who recovers at once from what
    was called a new normal would else be held against it for ever.
    """
    far = _far(values[:, _PAIR], state["baselines"]["anchor"][:, _PAIR], bound)
    found = np.zeros(values.shape, bool)
    with np.errstate(invalid="ignore"):
        found[:, _PAIR] = (state["drift_nights"] <= -NIGHTS) & (far < BACK)
    return found


def confirm(state: State, pairs: Rows) -> None:
    """Take what ``pairs`` of R patients have drifted to as said to be the new normal, in place.

    That is the level that was told, or the next one where the last nights lay beyond it.
    """
    confirmed, which = _levels(state["drift_confirmed"]), np.isin(_PAIR, pairs)
    now = np.minimum(_levels(state["drift"]) + (state["drift_nights"] > 0), LEVELS)
    state["drift_confirmed"] = _packed(np.where(which, np.maximum(confirmed, now), confirmed))
    state["drift_nights"] = np.where(which, 0, state["drift_nights"])


def _levels(packed: Bytes) -> Bytes:
    """Return (R, W) of (R,), two bits a baseline."""
    return np.asarray(packed[:, None] >> _SHIFT & 3, np.uint8)


def _packed(levels: Bytes) -> Bytes:
    return np.asarray((levels.astype(np.uint8) << _SHIFT).sum(1, dtype=np.uint8))


def _far(value: Floats | Doubles, anchor: Floats, bound: Doubles) -> Doubles:
    """Return (R, W) how many bounds a value lies away on the side that is told; NaN stays NaN."""
    away = value.astype(np.float64) - anchor
    return np.asarray(np.where(_SIDE == 0, np.abs(away), away * _SIDE) / bound)


def _count(nights: NDArray[np.int8], far: Doubles, told_far: Doubles, level: NDArray[np.integer]) -> Shorts:
    """Return how many known nights in a row lay beyond the next level (positive), or were near again (negative).

    ``told_far`` is ``far`` (R, W) without what was expected.
    """
    with np.errstate(invalid="ignore"):
        beyond, near = told_far >= level + 1, (far < BACK) & (level > 0)
    count = nights.astype(np.int16)
    more = np.where(beyond, np.maximum(count, 0) + 1, np.where(near, np.minimum(count, 0) - 1, 0))
    return np.asarray(np.where(np.isfinite(far), np.clip(more, -NIGHTS, NIGHTS), count), np.int16)


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
