"""What has drifted from the first fortnight: a slow decline is told, however slowly every other baseline followed it.

Source: the anchor kept beside an adapting baseline, of the literature on change that is slower than the adaptation
("boiling frog"). Deviations: the fortnight's median is compared with the anchor's by fixed bounds, which are
engineering choices; told once at a bound and once more at twice of it. "New normal" ends the alert; the anchor stays,
so that the same distance is not told again and twice the bound still is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from detectors.baseline import LEARNED, NIGHT_BREATH, NIGHT_HEART, NIGHT_HRV, NIGHT_SPO2, PAIR_CONTEXT, PAIRS
from detectors.protocol import CONTEXTS, Bools, Bytes, Change, Evidence, State


class Watched(NamedTuple):
    """A baseline that is held against its anchor; the bound in the metric's unit."""

    pair: int
    bound: float
    side: int  # 1: only a rise is told, -1: only a fall, 0: both


WATCHED: Final = (
    Watched(NIGHT_HEART, 8, 0),
    Watched(NIGHT_SPO2, 2, -1),
    Watched(NIGHT_BREATH, 3, 1),
    Watched(NIGHT_HRV, 15, -1),
)
LEVELS: Final = 2
BACK: Final = 0.5  # of the bound: nearer than this the drift is over
_PAIR: Final = np.array([one.pair for one in WATCHED])
_BOUND: Final = np.array([one.bound for one in WATCHED])
_SIDE: Final = np.array([one.side for one in WATCHED])
_SHIFT: Final = np.arange(len(WATCHED), dtype=np.uint8) * 2  # two bits a baseline


@dataclass(frozen=True, slots=True)
class Drift:
    """What changed today, (R, W) each, W baselines being watched."""

    level: Bytes  # 0: within the bound, 1 beyond it, 2 beyond twice of it
    changes: Mapping[Change, Bools]  # raised, worsened, cleared


def judge(state: State) -> Drift:
    """Hold the baselines of R patients against their anchors, in place (``drift``: two bits a baseline).

    A level is left downwards only where the baseline is nearer than half the bound: then the drift is over.

    >>> from detectors.pipeline import PIPELINE_DTYPE
    >>> state = np.zeros(1, PIPELINE_DTYPE)
    >>> baseline = state["baselines"][:, NIGHT_HEART]
    >>> baseline["n"], baseline["anchor"] = 14, 60
    >>> for median in (67, 69, 70, 77, 65, 63):
    ...     baseline["median"] = median
    ...     said = judge(state)
    ...     print(median, *(change for change, which in said.changes.items() if which[0, 0]))
    67
    69 raised
    70
    77 worsened
    65
    63 cleared
    """
    before = state["drift"][:, None] >> _SHIFT & 3
    baselines = state["baselines"][:, _PAIR]
    away = baselines["median"].astype(np.float64) - baselines["anchor"]
    far = np.where(_SIDE == 0, np.abs(away), away * _SIDE) / _BOUND
    known = (baselines["anchor"] > 0) & (baselines["n"] >= LEARNED)
    reached = np.clip(np.floor(far), 0, LEVELS).astype(np.uint8)
    after = np.where(far < BACK, 0, np.maximum(before, reached))
    after = np.where(known, after, before).astype(np.uint8)
    state["drift"] = (after << _SHIFT).sum(1, dtype=np.uint8)
    more = after > before
    changes: dict[Change, Bools] = {
        "raised": more & (before == 0),
        "worsened": more & (before > 0),
        "cleared": (after == 0) & (before > 0),
    }
    return Drift(after, changes)


def evidence(state: State, which: int, i: int) -> Evidence:
    """Return what a finding about patient ``i`` and a watched baseline tells."""
    pair = WATCHED[which].pair
    baseline = state[i]["baselines"][pair]
    median, anchor = (round(float(baseline[name]), 4) for name in ("median", "anchor"))
    return {
        "metric": PAIRS[pair].metric,
        "context": CONTEXTS[PAIR_CONTEXT[pair]],
        "day": int(state["open_day"][i]),
        "value": median,
        "usual": anchor,
        "difference": round(median - anchor, 4),
        "n_days": int(baseline["n"]),
        "bound": WATCHED[which].bound,
    }
