"""A resting heart rate that rises and stays risen: asleep, at rest by day, and the day's steps, by ``detectors.daily``.

Both heart rates, because either is a noisy measure of the same person, and because many take the device off at night:
who has only one of them is judged by that one.

What it is compared with is not the fortnight's median of ``baseline`` but a slow mean of its own, which never stands
still: see there. Where a rise has lasted a fortnight somebody is asked whether it is a new normal; until they say so
the fortnight's baseline learns nothing, and the slow mean no more than its bounded steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors import again, travel
from detectors.again import Again
from detectors.baseline import ACTIVE_HEART, LEARNED, NIGHT_HEART, PAIR_CONTEXT, REST_HEART, compared
from detectors.coverage import covered
from detectors.daily import HIGH, SHIPPED, SUSPICIOUS_SHARE, Daily, Said
from detectors.measured_by import numbers
from detectors.protocol import CONTEXTS, Bools, Doubles, Evidence, Ints, State
from detectors.score import p_value
from detectors.windows import Room

DETECTOR: Final = Daily(SHIPPED)
NIGHT, DAY, STEPS = (DETECTOR.channels.index(name) for name in ("basal", "rest", "log_steps"))
HEART_PAIRS: Final = (NIGHT_HEART, REST_HEART)  # the baselines of the first two
LEAST_STEPS_MINUTES: Final = 600  # with steps reported: less does not tell how active a day was
ASK_NIGHTS: Final = 14  # judged ones, after the one it was raised by
LEAST_WORN_MINUTES: Final = 60  # with a heart rate by day: else the steps may be those of a device that nobody wore
ASKED: Final = 255  # in place of how many nights the rise has stood
FOLLOWS: Final = 0.5  # spreads, what a day takes off the sum: a level that is nearer adds nothing up


@dataclass(frozen=True, slots=True)
class Rise:
    """What was said of R people's day, and what it was compared with."""

    hearts: Doubles  # (R, 2) /min asleep and at rest by day, NaN where there were too few minutes
    steps: Doubles  # (R,) of the day, NaN where unknown
    said: Said
    usual: Doubles  # (R, C) the slow mean before this day
    n: Ints  # (R, C) days behind it
    since: Ints  # (R,) local day on which the run began
    asked: Bools  # (R,) a new normal? is asked now
    answered: Bools  # (R,) the question is over
    again: Again  # a further rise on top of one that is told


def judge(
    state: State, values: Doubles, limit: Doubles, room: Room | None = None, doubt: Doubles | None = None
) -> Rise:
    """Take the closing day of R patients into their rows of the pipeline, in place.

    ``values`` (R, P) of the day by baseline, NaN where there were too few minutes; ``limit`` (R,) of the
    sum; ``room`` how far a change is expected; ``doubt`` (R, P) variance of what another device makes of the values.
    The rate at rest by day counts only where steps tell that it was rest.
    """
    day = state["day"]
    worn = covered(day)[:, [REST_HEART, ACTIVE_HEART]].sum(1) >= LEAST_WORN_MINUTES
    told = worn & (day["steps_minutes"] >= LEAST_STEPS_MINUTES)
    steps = np.where(told, day["steps"].astype(np.float64), np.nan)
    part = state["rise"].copy()
    before = part.copy()
    hearts = np.stack([values[:, NIGHT_HEART], np.where(told, values[:, REST_HEART], np.nan)], axis=1)
    channels = np.concatenate([hearts, np.log1p(steps)[:, None]], axis=1)
    said = DETECTOR.advance(
        part, np.arange(len(part)), state["open_day"], channels, limit, None if room is None else room.highest,
        ~travel.abroad(state), None if doubt is None else doubt[:, HEART_PAIRS],
    )  # fmt: skip
    since = np.where(said.cleared, before["since"], part["since"])
    was_asked = state["standing"] == ASKED
    standing = state["standing"].astype(np.int32) + (np.isfinite(said.score) & said.active)
    high = np.nan_to_num(said.heart) >= HIGH
    asked = high & said.active & ~was_asked & (standing > ASK_NIGHTS)
    answered = said.cleared & was_asked
    since_told = np.minimum(state["standing"].astype(np.int32), again.NIGHTS)  # once asked for, the nights are many
    further = state["again"].copy()
    risen = again.judge(further, hearts, since_told, said, limit)
    state["again"] = further
    state["rise"] = part
    state["standing"] = np.where(asked | was_asked, ASKED, np.minimum(standing, ASKED - 1)) * said.active
    return Rise(
        hearts, steps, said, before["mean"].astype(np.float64), before["n"].astype(np.int32), since, asked, answered,
        risen,
    )  # fmt: skip


def follow(state: State, rise: Rise, room: Room) -> None:
    """Let the slow means of R patients' heart rates follow the fortnight's medians as a change is expected, in place.

    A slow mean takes months for what a medicine does in days; till then a rise from the new level would pass for the
    old one. It follows where the median has moved by more than ``FOLLOWS`` spreads, and never beyond the ``room``.
    """
    slow, baselines = state["rise"].copy(), state["baselines"][:, HEART_PAIRS]
    mean, median = slow["mean"][:, [NIGHT, DAY]], baselines["median"]
    apart = FOLLOWS * rise.said.spread[:, [NIGHT, DAY]]
    closed = slow["active"] == 0  # an open alert ends by good days, not because a rise is expected now
    known = (slow["n"][:, [NIGHT, DAY]] >= LEARNED) & (baselines["n"] >= LEARNED) & closed[:, None]
    fallen = (median < mean - apart) & (median >= room.lowest)
    risen = (median > mean + apart) & (median <= room.highest)
    slow["mean"][:, [NIGHT, DAY]] = np.where(known & (fallen | risen), median, mean)
    state["rise"] = slow


def frozen(state: State, limit: Doubles) -> Bools:
    """Return (R,) where nothing is learned by the fortnight's baselines: a rise is told, or halfway to it."""
    return np.asarray((state["rise"]["sum"] > SUSPICIOUS_SHARE * limit) | (state["rise"]["active"] == 1))


def _known_z(rise: Rise, i: int) -> Doubles:
    known = np.isfinite(rise.hearts[i]) & (rise.n[i, : DAY + 1] >= LEARNED)
    return np.where(known, rise.said.z[i, : DAY + 1], -np.inf)


def told_first(rise: Rise, i: int) -> int:
    """Return the place of the heart rate that is further above its usual, of those of patient ``i`` that are known."""
    return int(np.argmax(_known_z(rise, i)))


def evidence(rise: Rise, state: State, limit: Doubles, i: int) -> Evidence:
    """Return what a finding about patient ``i`` tells, all numbers of the day itself.

    Told first is the heart rate that is further above its usual, of those that are known.
    """
    said, first = rise.said, told_first(rise, i)
    pair, value, usual = HEART_PAIRS[first], float(rise.hearts[i, first]), float(rise.usual[i, first])
    told = compared(pair, int(state["open_day"][i]), value, usual) | {
        "center": round(float(said.center[i, first]), 4),
        "spread": round(float(said.spread[i, first]), 4),
        "z": round(float(said.z[i, first]), 3),
        "p": float(p_value(said.z[i, first], rise.n[i, first], state["rise_tails"][i, first])),
        "n_days": int(rise.n[i, first]),
        "minutes": int(state["day"]["n"][i, pair]),
        "since_day": int(rise.since[i]),
        "score": round(float(said.score[i]), 3),
        "heart_z": round(float(said.heart[i]), 3),
        "cusum": round(float(said.sum[i]), 3),
        "cusum_limit": float(limit[i]),
    }
    other = 1 - first
    by = state["day"]["devices"][i]
    mask = int(by[pair])
    if np.isfinite(_known_z(rise, i)[other]):
        told |= {
            "other_context": CONTEXTS[PAIR_CONTEXT[HEART_PAIRS[other]]],
            "other_value": round(float(rise.hearts[i, other]), 4),
            "other_usual": round(float(rise.usual[i, other]), 4),
            "other_z": round(float(said.z[i, other]), 3),
            "other_n_days": int(rise.n[i, other]),
        }
        mask |= int(by[HEART_PAIRS[other]])
    told["devices"] = numbers(mask)
    if rise.again.worse[i]:
        told |= {"level": round(float(rise.again.level[i, first]), 4), "again": round(float(rise.again.sum[i]), 3)}
    if np.isfinite(said.z[i, STEPS]):
        told |= {
            "steps": round(float(rise.steps[i])),
            "usual_steps": round(float(np.expm1(rise.usual[i, STEPS]))),
            "steps_z": round(float(said.z[i, STEPS]), 3),
        }
    return told
