"""A resting heart rate that rises and stays risen: the night's rate and the day's steps, judged by ``detectors.daily``.

What it is compared with is not the fortnight's median of ``baseline`` but a slow mean of its own, which never stands
still: see there. Where a rise has lasted a fortnight somebody is asked whether it is a new normal; until they say so
the fortnight's baseline learns nothing, and the slow mean no more than its bounded steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors import again
from detectors.again import Again
from detectors.baseline import ACTIVE_HEART, LEARNED, NIGHT_HEART, PAIR_CONTEXT, PAIRS, REST_HEART
from detectors.daily import HIGH, SHIPPED, SUSPICIOUS_SHARE, Daily, Said
from detectors.protocol import CONTEXTS, Bools, Doubles, Evidence, Ints, State
from detectors.score import p_value
from detectors.windows import Room

DETECTOR: Final = Daily(SHIPPED)
STEPS: Final = DETECTOR.channels.index("log_steps")
LEAST_STEPS_MINUTES: Final = 600  # with steps reported: less does not tell how active a day was
ASK_NIGHTS: Final = 14  # judged ones, after the one it was raised by
LEAST_WORN_MINUTES: Final = 60  # with a heart rate by day: else the steps may be those of a device that nobody wore
ASKED: Final = 255  # in place of how many nights the rise has stood
FOLLOWS: Final = 0.5  # spreads, what a day takes off the sum: a level that is nearer adds nothing up


@dataclass(frozen=True, slots=True)
class Rise:
    """What was said of R people's night, and what it was compared with."""

    night: Doubles  # (R,) /min, NaN where there were too few minutes
    steps: Doubles  # (R,) of the day, NaN where unknown
    said: Said
    usual: Doubles  # (R, C) the slow mean before this day
    n: Ints  # (R, C) days behind it
    since: Ints  # (R,) local day of the run's first night
    asked: Bools  # (R,) a new normal? is asked now
    answered: Bools  # (R,) the question is over
    again: Again  # a further rise on top of one that is told


def judge(state: State, night: Doubles, limit: float, room: Room | None = None, doubt: Doubles | None = None) -> Rise:
    """Take the closing day of R patients into their rows of the pipeline, in place.

    ``night`` (R,) heart rate asleep, NaN where there were too few minutes; ``limit`` of the sum;
    ``room`` how far a change is expected; ``doubt`` (R,) variance of what another device makes of the night.
    """
    day = state["day"]
    worn = day["n"][:, [REST_HEART, ACTIVE_HEART]].sum(1) >= LEAST_WORN_MINUTES
    told = worn & (day["steps_minutes"] >= LEAST_STEPS_MINUTES)
    steps = np.where(told, day["steps"].astype(np.float64), np.nan)
    part = state["rise"].copy()
    before = part.copy()
    values = np.stack([night, np.log1p(steps)], axis=1)
    highest = None if room is None else room.highest[:, 0]
    said = DETECTOR.advance(part, np.arange(len(part)), state["open_day"], values, limit, highest, doubt)
    since = np.where(said.cleared, before["since"], part["since"])
    was_asked = state["standing"] == ASKED
    standing = state["standing"].astype(np.int32) + (np.isfinite(said.score) & said.active)
    high = np.nan_to_num(said.z[:, 0]) >= HIGH
    asked = high & said.active & ~was_asked & (standing > ASK_NIGHTS)
    answered = said.cleared & was_asked
    since_told = np.minimum(state["standing"].astype(np.int32), again.NIGHTS)  # once asked for, the nights are many
    further = state["again"].copy()
    risen = again.judge(further, night, since_told, said, limit)
    state["again"] = further
    state["rise"] = part
    state["standing"] = np.where(asked | was_asked, ASKED, np.minimum(standing, ASKED - 1)) * said.active
    return Rise(
        night, steps, said, before["mean"].astype(np.float64), before["n"].astype(np.int32), since, asked, answered,
        risen,
    )  # fmt: skip


def follow(state: State, rise: Rise, room: Room) -> None:
    """Let the slow mean of R patients follow the fortnight's median the way a change is expected, in place.

    A slow mean takes months for what a medicine does in days; till then a rise from the new level would pass for the
    old one. It follows where the median has moved by more than ``FOLLOWS`` spreads, and never beyond the ``room``.
    """
    slow, baseline = state["rise"].copy(), state["baselines"][:, NIGHT_HEART]
    mean, median, apart = slow["mean"][:, 0], baseline["median"], FOLLOWS * rise.said.spread[:, 0]
    closed = slow["active"] == 0  # an open alert ends by good nights, not because a rise is expected now
    known = (slow["n"][:, 0] >= LEARNED) & (baseline["n"] >= LEARNED) & closed
    fallen = (median < mean - apart) & (median >= room.lowest[:, 0])
    risen = (median > mean + apart) & (median <= room.highest[:, 0])
    slow["mean"][:, 0] = np.where(known & (fallen | risen), median, mean)
    state["rise"] = slow


def frozen(state: State, limit: float) -> Bools:
    """Return (R,) where nothing is learned by the fortnight's baselines: a rise is told, or halfway to it."""
    return np.asarray((state["rise"]["sum"] > SUSPICIOUS_SHARE * limit) | (state["rise"]["active"] == 1))


def evidence(rise: Rise, state: State, limit: float, i: int) -> Evidence:
    """Return what a finding about patient ``i`` tells, all numbers of the night itself."""
    said, value, usual = rise.said, float(rise.night[i]), float(rise.usual[i, 0])
    told: Evidence = {
        "metric": PAIRS[NIGHT_HEART].metric,
        "context": CONTEXTS[PAIR_CONTEXT[NIGHT_HEART]],
        "day": int(state["open_day"][i]),
        "value": round(value, 4),
        "usual": round(usual, 4),
        "difference": round(value - usual, 4),
        "center": round(float(said.center[i, 0]), 4),
        "spread": round(float(said.spread[i, 0]), 4),
        "z": round(float(said.z[i, 0]), 3),
        "p": float(p_value(said.z[i, 0], rise.n[i, 0])),
        "n_days": int(rise.n[i, 0]),
        "minutes": int(state["day"]["n"][i, NIGHT_HEART]),
        "since_day": int(rise.since[i]),
        "score": round(float(said.score[i]), 3),
        "cusum": round(float(said.sum[i]), 3),
        "cusum_limit": limit,
    }
    if rise.again.worse[i]:
        told |= {"level": round(float(rise.again.level[i]), 4), "again": round(float(rise.again.sum[i]), 3)}
    if np.isfinite(said.z[i, STEPS]):
        told |= {
            "steps": round(float(rise.steps[i])),
            "usual_steps": round(float(np.expm1(rise.usual[i, STEPS]))),
            "steps_z": round(float(said.z[i, STEPS]), 3),
        }
    return told
